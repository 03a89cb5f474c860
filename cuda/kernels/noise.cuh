// SPDX-License-Identifier: Apache-2.0
// Noise of consecutive words in consecutive elements: a run. A whole tensor is one run, whatever its
// dimensions, unless it is a shard or has a batch of keys, whose rows are runs. Blocks share a run.
#pragma once

#include "../device/fast_noise.cuh"
#include "generic_rows.cuh"

namespace torch_gumbel::cuda {

/// float64 as pack.cuh has the others; only noise is written in it by a kernel of its own.
struct Float64 {
  using Storage = double;
  static constexpr DType kType = DType::kFloat64;
  static constexpr int kWidth = 2;

  static __device__ __forceinline__ double narrow(double x) { return x; }
  static __device__ __forceinline__ Bits128 pack(const double* x) {
    Bits128 bits;
    for (int i = 0; i < 2; ++i) {
      const auto word = math::bit_cast<uint64_t>(x[i]);
      bits.word[2 * i] = static_cast<uint32_t>(word);
      bits.word[2 * i + 1] = static_cast<uint32_t>(word >> 32);
    }
    return bits;
  }
};

/// What the noise of an output is computed in.
template <typename Output>
using NoiseType = std::conditional_t<Output::kType == DType::kFloat64, double, float>;

/// A run in groups: what a thread processes at a time, whole blocks of four words and, if
/// `aligned`, whole vectors. The first group begins `before` elements ahead of the run.
template <typename Output>
struct NoiseRun {
  using Storage = typename Output::Storage;
  static constexpr int kWidth = Output::kWidth;
  static constexpr int kGroup = kWidth < 4 ? 4 : kWidth;

  Storage* output;
  uint64_t word;
  int64_t length;
  int before;
  bool aligned;

  __device__ __forceinline__ NoiseRun(const KernelParams& a, const Row& row)
      : output(static_cast<Storage*>(a.output) + row[Operand::kOutput]),
        word(static_cast<uint64_t>(row[Operand::kWord])),
        length(a.rows.classes) {
    const uint64_t element = reinterpret_cast<uintptr_t>(output) / sizeof(Storage);
    aligned = (element - word) % (kWidth < 4 ? kWidth : 4) == 0;
    before = static_cast<int>(aligned && kGroup > 4 ? element % kGroup : word % 4);
  }

  __device__ __forceinline__ int64_t groups() const {
    return (before + length + kGroup - 1) / kGroup;
  }

  /// The values of a group that belong to the run.
  __device__ __forceinline__ void store(int64_t first, const NoiseType<Output> (&x)[kGroup]) const {
    if (aligned && first >= 0 && first + kGroup <= length) {
      unrolled<kGroup / kWidth>([&](auto i) {
        store_128<i.value * 16>(output + first, Output::pack(x + i.value * kWidth));
      });
    } else {
#pragma unroll
      for (int i = 0; i < kGroup; ++i)
        if (first + i >= 0 && first + i < length) output[first + i] = Output::narrow(x[i]);
    }
  }
};

/// Noise of the four positions of block `index` of a key.
template <typename T, typename Key>
__device__ __forceinline__ void noise_of_block(const Key& key, uint64_t index, T* noise) {
  const uint64_t counter = key.offset() + index;
  const math::Block words = key.words(math::counter_block(counter));
  bool extend = false;
  for (uint32_t word : words.word) extend |= needs_extension<T>(word);
  math::Block extensions = {};
  if (extend) extensions = key.words(math::counter_block(counter, math::Plane::kExtension));
  for (int i = 0; i < 4; ++i) noise_of(words.word[i], extensions.word[i], noise[i]);
}

template <typename Output, bool kDeviceKey>
__global__ void __launch_bounds__(kThreads) noise_run_kernel(const __grid_constant__ Problem p) {
  using Run = NoiseRun<Output>;
  const int64_t index = blockIdx.x / static_cast<unsigned>(p.blocks_per_row);
  const Row row = row_of(p.a.rows, index);
  const Run run(p.a, row);
  const RowKey<kDeviceKey> key(p, row);
  const int64_t begin = (blockIdx.x - index * p.blocks_per_row) * p.vectors_per_block;
  const int64_t past = begin + p.vectors_per_block, groups = run.groups();
  const int64_t end = past < groups ? past : groups;
#pragma unroll 1
  for (int64_t group = begin + threadIdx.x; group < end; group += kThreads) {
    const int64_t first = group * Run::kGroup - run.before;
    NoiseType<Output> noise[Run::kGroup];
#pragma unroll
    for (int i = 0; i < Run::kGroup; i += 4)
      noise_of_block(key, (run.word + static_cast<uint64_t>(first + i)) / 4, noise + i);
    run.store(first, noise);
  }
}

}  // namespace torch_gumbel::cuda
