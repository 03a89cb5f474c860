// SPDX-License-Identifier: Apache-2.0
// The row of a block of the filters' kernels, and what its threads share.
#pragma once

#include "../../csrc/math/filter.h"
#include "generic_kernels.cuh"

namespace torch_gumbel::cuda {

constexpr int kFilterThreads = kMaxWarps * kWarpSize;  // at most, and at least two warps
constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;

/// A class and its score, without padding: kMostFiltered is below 2^31.
template <typename T>
struct FilterBest {
  using Index = std::conditional_t<sizeof(T) == sizeof(double), int64_t, int32_t>;

  T score;
  Index index;

  static __device__ __forceinline__ FilterBest none() { return {kMinusInfinity<T>, INT32_MAX}; }
};

template <typename T>
__device__ __forceinline__ FilterBest<T> exchange(const FilterBest<T>& best, int lane_mask) {
  return {exchange(best.score, lane_mask), exchange(best.index, lane_mask)};
}

template <typename T>
__device__ __forceinline__ FilterBest<T> better_of(const FilterBest<T>& x, const FilterBest<T>& y) {
  if (x.score != x.score) return x;
  if (y.score != y.score || y.score > x.score) return y;
  return y.score == x.score && y.index < x.index ? y : x;
}

template <typename T>
__device__ __forceinline__ FilterBest<T> best_of_class(T score, int64_t k) {
  return {score, static_cast<typename FilterBest<T>::Index>(k)};
}

/// A bin of a histogram, and how much of its mass is wanted.
struct FoundBin {
  uint64_t index, rest, mass;
};

/// What the threads of a block share. Masses are in two halves: adding 64 bits at once is slow.
template <typename T>
struct FilterShared {
  uint32_t low[kBins], high[kBins];
  uint64_t of_warp[kMaxWarps];
  FoundBin found;
  BlockThreadGroup::Scratch<FilterBest<T>> best;
  BlockThreadGroup::Scratch<double> sum;
};

/// As BlockThreadGroup::reduce, on scratch that was used before.
template <typename State, typename Merge>
__device__ __forceinline__ State reduce_block(State state, State neutral,
                                              BlockThreadGroup::Scratch<State>& scratch,
                                              Merge merge) {
  __syncthreads();
  return BlockThreadGroup::reduce(state, neutral, scratch, merge);
}

/// Elements at, at + step, ..., as many of kCount as there are before `count`: loaded together.
template <int kCount, typename T>
__device__ __forceinline__ void load_several(const KernelParams& a, int64_t at, int64_t step,
                                             int64_t count, T (&x)[kCount]) {
  const auto each = [&](DType type) {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      x[i] = i < count ? load_generic<T>(a.input, type, at + i * step) : kMinusInfinity<T>;
  };
  if constexpr (sizeof(T) == sizeof(double)) return each(DType::kFloat64);
  if (a.input_type == DType::kFloat16) return each(DType::kFloat16);
  if (a.input_type == DType::kBFloat16) return each(DType::kBFloat16);
  each(DType::kFloat32);
}

/// The row of a block.
template <typename T>
struct FilterRow {
  const FilterParams& a;
  Row row;
  int64_t index;

  /// Calls visit(k, logit) for k = first, first + step, ..., of the classes before `end`.
  template <int kCount = sizeof(T) == sizeof(double) ? 4 : 8, typename Visit>
  __device__ __forceinline__ void for_classes(int64_t first, int64_t end, int64_t step,
                                              Visit visit) const {
    const int64_t distance = a.rows.step(Operand::kInput), base = row[Operand::kInput];
#pragma unroll 1
    for (int64_t k = first; k < end; k += kCount * step) {
      T x[kCount];
      load_several(a, base + k * distance, step * distance, (end - k + step - 1) / step, x);
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (k + i * step < end) visit(k + i * step, x[i]);
    }
  }
  /// The same for all classes of this thread.
  template <typename Visit>
  __device__ __forceinline__ void for_each_logit(Visit visit) const {
    for_classes(threadIdx.x, a.rows.classes, blockDim.x, visit);
  }
  /// One after another: for more work.
  template <typename Visit>
  __device__ __forceinline__ void for_each_logit_alone(Visit visit) const {
    for_classes<1>(threadIdx.x, a.rows.classes, blockDim.x, visit);
  }
};

}  // namespace torch_gumbel::cuda
