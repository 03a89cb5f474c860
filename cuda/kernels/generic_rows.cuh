// SPDX-License-Identifier: Apache-2.0
// Rows of any layout and dtype: how the threads of a block divide them, and their elements, noise,
// and scores.
//
// A block processes kThreads / threads_per_row rows at a time. Its neighbouring threads process
// neighbouring classes of a row, or, of spatial rows, the same class of neighbouring rows:
// whichever are contiguous in memory, so that no layout needs a copy.
#pragma once

#include "../../csrc/math/gumbel.h"
#include "../device/aligned_row.cuh"
#include "../device/thread_group.cuh"

namespace torch_gumbel::cuda {

constexpr int kThreads = 256;

/// One of the `threads_per_row` threads of row `row` of the block's rows.
struct ThreadIndex {
  int threads_per_row;
  int row;
  int lane;

  __device__ __forceinline__ explicit ThreadIndex(const Problem& p)
      : threads_per_row(p.threads_per_row) {
    const int thread = static_cast<int>(threadIdx.x);
    const int rows = kThreads / threads_per_row;
    row = p.spatial ? thread % rows : thread / threads_per_row;
    lane = p.spatial ? thread / rows : thread % threads_per_row;
  }
};

/// A row of one thread. A block's last rows may be past the tensor: they have no classes and write
/// nothing, but their threads reach every barrier.
struct GenericRow {
  ThreadIndex thread;
  Row row;
  int64_t index;
  int64_t classes;
  bool exists;

  __device__ __forceinline__ bool writes_row_value() const { return exists && thread.lane == 0; }
};

/// Calls visit(GenericRow) for every row of this thread. All threads of the block arrive together.
template <typename Visit>
__device__ __forceinline__ void for_each_row(const Problem& p, Visit visit) {
  const Rows& rows = p.a.rows;
  const ThreadIndex thread(p);
  const int64_t at_once = kThreads / thread.threads_per_row;
  for (int64_t first = blockIdx.x * at_once; first < rows.count; first += gridDim.x * at_once) {
    const int64_t index = first + thread.row;
    const bool exists = index < rows.count;
    const Row row = row_of(rows, exists ? index : first);
    visit(GenericRow{thread, row, index, exists ? rows.classes : 0, exists});
  }
}

/// Merges one state of every thread of a row, for all of them, in a fixed order. merge(x, y) must
/// equal merge(y, x) in bits. `scratch` may be used again at once.
template <typename State, typename Merge>
__device__ __forceinline__ State reduce_row(const ThreadIndex& thread, State state,
                                            State (&scratch)[kThreads], Merge merge) {
  State* of_row = scratch + thread.row * thread.threads_per_row;
  of_row[thread.lane] = state;
  __syncthreads();
  for (int half = thread.threads_per_row / 2; half > 0; half /= 2) {
    if (thread.lane < half)
      of_row[thread.lane] = merge(of_row[thread.lane], of_row[thread.lane + half]);
    __syncthreads();
  }
  state = of_row[0];
  __syncthreads();
  return state;
}

template <typename T>
__device__ __forceinline__ T row_sum(const ThreadIndex& thread, T value, T (&scratch)[kThreads]) {
  return reduce_row(thread, value, scratch, [](T x, T y) { return x + y; });
}

template <typename T>
__device__ __forceinline__ T row_max(const ThreadIndex& thread, T value, T (&scratch)[kThreads]) {
  return reduce_row(thread, value, scratch, [](T x, T y) { return max_number(x, y); });
}

// The dtype is the same for every thread, so that its switch never diverges.

template <typename T>
__device__ __forceinline__ T load_generic(const void* data, DType type, int64_t at) {
  switch (type) {
    case DType::kFloat32:
      return static_cast<T>(static_cast<const float*>(data)[at]);
    case DType::kFloat64:
      return static_cast<T>(static_cast<const double*>(data)[at]);
    case DType::kFloat16:
      return static_cast<T>(half_to_float(static_cast<const uint16_t*>(data)[at]));
    case DType::kBFloat16:
      return static_cast<T>(bfloat_to_float(static_cast<const uint16_t*>(data)[at]));
  }
  __builtin_unreachable();
}

/// Rounds to nearest even; float64 goes to a half by way of float32, as on the CPU.
template <typename T>
__device__ __forceinline__ void store_generic(void* data, DType type, int64_t at, T value) {
  switch (type) {
    case DType::kFloat32:
      static_cast<float*>(data)[at] = static_cast<float>(value);
      return;
    case DType::kFloat64:
      static_cast<double*>(data)[at] = static_cast<double>(value);
      return;
    case DType::kFloat16:
      static_cast<uint16_t*>(data)[at] = float_to_half(static_cast<float>(value));
      return;
    case DType::kBFloat16:
      static_cast<uint16_t*>(data)[at] = float_to_bfloat(static_cast<float>(value));
      return;
  }
}

template <typename T>
__device__ __forceinline__ T load_input(const KernelParams& a, const Row& row, int64_t k) {
  const int64_t at = row[Operand::kInput] + k * a.rows.step(Operand::kInput);
  return load_generic<T>(a.input, a.input_type, at);
}

template <typename T>
__device__ __forceinline__ T load_grad(const KernelParams& a, const Row& row, int64_t k) {
  const int64_t at = row[Operand::kGrad] + k * a.rows.step(Operand::kGrad);
  return load_generic<T>(a.grad, a.grad_type, at);
}

/// To a tensor with the output's strides.
template <typename T>
__device__ __forceinline__ void store_output(const KernelParams& a, void* data, const Row& row,
                                             int64_t k, T value) {
  const int64_t at = row[Operand::kOutput] + k * a.rows.step(Operand::kOutput);
  store_generic(data, a.output_type, at, value);
}

/// Calls visit(k) for every class of this thread.
template <typename Visit>
__device__ __forceinline__ void for_each_class(const GenericRow& row, Visit visit) {
  for (int64_t k = row.thread.lane; k < row.classes; k += row.thread.threads_per_row) visit(k);
}

/// Whether a word's noise depends on its extension; float64 noise always does.
template <typename T>
__device__ __forceinline__ bool needs_extension(uint32_t word) {
  return sizeof(T) == sizeof(double) || word < math::kExtendBelow;
}

__device__ __forceinline__ void noise_of(uint32_t word, uint32_t extension, float& noise) {
  noise = math::gumbel(word, extension);
}

__device__ __forceinline__ void noise_of(uint32_t word, uint32_t extension, double& noise) {
  noise = math::gumbel64(word, extension);
}

/// Noise of the four positions of block `index`.
template <typename T>
__device__ __forceinline__ void block_noise(math::Key key, uint64_t index, T (&noise)[4]) {
  const math::Block words = math::key_block(key, index);
  bool extend = false;
  for (uint32_t word : words.word) extend |= needs_extension<T>(word);
  math::Block extensions = {};
  if (extend) extensions = math::key_block(key, index, math::Plane::kExtension);
  for (int i = 0; i < 4; ++i) noise_of(words.word[i], extensions.word[i], noise[i]);
}

template <typename T>
__device__ __forceinline__ T position_noise(math::Key key, uint64_t position) {
  const uint32_t word = math::key_word(key, position);
  const uint32_t extension =
      needs_extension<T>(word) ? math::key_word(key, position, math::Plane::kExtension) : 0;
  T noise;
  noise_of(word, extension, noise);
  return noise;
}

/// Classes whose words are consecutive from `first` on: a thread processes whole blocks of four
/// words. The first block and the last may belong to the row in part.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_noise_run(const GenericRow& row, math::Key key,
                                                   uint64_t first, Visit visit) {
  const auto before = static_cast<int64_t>(first % 4);
  for (int64_t k = 4 * int64_t{row.thread.lane} - before; k < row.classes;
       k += 4 * row.thread.threads_per_row) {
    T noise[4];
    block_noise(key, (first + static_cast<uint64_t>(k)) / 4, noise);
    for (int i = 0; i < 4; ++i)
      if (k + i >= 0 && k + i < row.classes) visit(k + i, noise[i]);
  }
}

/// Calls visit(k, noise of class k) for every class of this thread, in ascending order.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_noise(const KernelParams& a, const GenericRow& row,
                                               Visit visit) {
  const math::Key key = key_of(a, row.row);
  const auto first = static_cast<uint64_t>(row.row[Operand::kWord]);
  const auto step = static_cast<uint64_t>(a.rows.step(Operand::kWord));
  if (step == 1) return for_each_noise_run<T>(row, key, first, visit);
  for_each_class(row, [&](int64_t k) {
    visit(k, position_noise<T>(key, first + static_cast<uint64_t>(k) * step));
  });
}

/// +inf leaves its row as undefined as NaN does, and becomes NaN.
template <typename T>
__device__ __forceinline__ T defined_score(T score) {
  return score == static_cast<T>(__builtin_inf()) ? static_cast<T>(__builtin_nan("")) : score;
}

/// Calls visit(k, score of class k), score = scaled logit + noise, as defined_score() has it.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_score(const KernelParams& a, const GenericRow& row,
                                               T factor, Visit visit) {
  for_each_noise<T>(a, row, [&](int64_t k, T noise) {
    visit(k, defined_score(math::scaled_logit(load_input<T>(a, row.row, k), factor) + noise));
  });
}

/// The same without noise, and unscaled.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_greedy_score(const KernelParams& a, const GenericRow& row,
                                                      Visit visit) {
  for_each_class(row, [&](int64_t k) { visit(k, defined_score(load_input<T>(a, row.row, k))); });
}

}  // namespace torch_gumbel::cuda
