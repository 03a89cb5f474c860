// SPDX-License-Identifier: Apache-2.0
// How a block shares the work: it takes one row at a time, its threads take classes of that row.
#pragma once

#include "../csrc/math/rows.h"

namespace torch_gumbel::cuda {

constexpr int kThreads = 256;
constexpr int kWarpSize = 32;
constexpr int kWarps = kThreads / kWarpSize;
constexpr unsigned kAllLanes = 0xFFFFFFFF;

/// Calls visit(index, row) for every row of this block. All its threads arrive together.
template <typename Visit>
__device__ __forceinline__ void for_each_row(const Rows& rows, Visit visit) {
  for (int64_t index = blockIdx.x; index < rows.count; index += gridDim.x)
    visit(index, row_at(rows, index));
}

/// Calls visit(k) for every class of this thread.
template <typename Visit>
__device__ __forceinline__ void for_each_class(const Rows& rows, Visit visit) {
  for (int64_t k = threadIdx.x; k < rows.classes; k += kThreads) visit(k);
}

template <typename T>
__device__ __forceinline__ T exchange(T value, int lane_mask) {
  return __shfl_xor_sync(kAllLanes, value, lane_mask);
}

/// Merges one state of every thread of the block, in an order that never changes, for all of them.
/// merge(x, y) must equal merge(y, x) in bits. A state that is a struct has its own exchange().
/// `of_warp` may be used again at once: a barrier comes first.
template <typename State, typename Merge>
__device__ __forceinline__ State block_reduce(State state, State (&of_warp)[kWarps], Merge merge) {
  for (int lane_mask = kWarpSize / 2; lane_mask > 0; lane_mask /= 2)
    state = merge(state, exchange(state, lane_mask));
  __syncthreads();  // everyone has read the result of an earlier reduction
  if (threadIdx.x % kWarpSize == 0) of_warp[threadIdx.x / kWarpSize] = state;
  __syncthreads();
  State total = of_warp[0];
  for (int warp = 1; warp < kWarps; ++warp) total = merge(total, of_warp[warp]);
  return total;
}

template <typename T>
__device__ __forceinline__ T block_sum(T value, T (&of_warp)[kWarps]) {
  return block_reduce(value, of_warp, [](T x, T y) { return x + y; });
}

template <typename T>
__device__ __forceinline__ T block_max(T value, T (&of_warp)[kWarps]) {
  return block_reduce(value, of_warp, [](T x, T y) { return x > y ? x : y; });
}

/// A sum that carries its rounding error along (Kahan): a thread may add millions of terms, each
/// too small to change a plain sum.
template <typename T>
struct LongSum {
  T sum = 0;
  T excess = 0;  // what `sum` has too much

  __device__ __forceinline__ void add(T term) {
    const T corrected = term - excess;
    const T next = sum + corrected;
    excess = (next - sum) - corrected;
    sum = next;
  }
  __device__ __forceinline__ void scale(T factor) {
    sum *= factor;
    excess *= factor;
  }
};

}  // namespace torch_gumbel::cuda
