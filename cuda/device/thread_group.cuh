// SPDX-License-Identifier: Apache-2.0
// The threads that share a row: a warp, or a block.
#pragma once

#include "math.cuh"

namespace torch_gumbel::cuda {

constexpr int kWarpSize = 32;
constexpr int kMaxWarps = 16;  // of a block that shares a row
constexpr int kRowWarps = 8;   // of one that holds it in registers
constexpr unsigned kAllLanes = 0xFFFFFFFF;
constexpr int kWarpRows = 4;  // rows of a block whose warps take one each

template <typename T>
__device__ __forceinline__ T exchange(T value, int lane_mask) {
  return __shfl_xor_sync(kAllLanes, value, lane_mask);
}

/// Merges one state of every lane, for all of them. merge(x, y) must equal merge(y, x) in bits. A
/// state that is a struct has its own exchange().
template <typename State, typename Merge>
__device__ __forceinline__ State reduce_lanes(State state, Merge merge) {
#pragma unroll
  for (int lane_mask = kWarpSize / 2; lane_mask > 0; lane_mask /= 2)
    state = merge(state, exchange(state, lane_mask));
  return state;
}

struct Sum {
  template <typename T>
  __device__ __forceinline__ T operator()(T x, T y) const {
    return x + y;
  }
};

struct MaxNumber {
  template <typename T>
  __device__ __forceinline__ T operator()(T x, T y) const {
    return max_number(x, y);
  }
};

struct MaxOrNan {
  __device__ __forceinline__ float operator()(float x, float y) const { return max_or_nan(x, y); }
};

/// One warp. Other warps of the block may be at other instructions, or have exited.
struct WarpThreadGroup {
  static constexpr bool kIsBlock = false;
  static constexpr int kMaxThreads = kWarpRows * kWarpSize;
  static constexpr int bound(int) { return kMaxThreads; }

  template <typename State>
  struct Scratch {};

  static __device__ __forceinline__ int64_t row() {
    return int64_t{blockIdx.x} * kWarpRows + threadIdx.x / kWarpSize;
  }
  /// Opaque to the compiler, so that values derived from it are recomputed and not kept.
  static __device__ __forceinline__ int64_t row_again() {
    return int64_t{block_again()} * kWarpRows + threadIdx.x / kWarpSize;
  }
  static __device__ __forceinline__ int thread() { return threadIdx.x % kWarpSize; }
  static __device__ __forceinline__ int warp() { return 0; }

  template <typename State, typename Merge>
  static __device__ __forceinline__ State reduce(State state, State, Scratch<State>&, Merge merge) {
    return reduce_lanes(state, merge);
  }
};

/// One block of whole warps. All its threads must arrive at reduce().
struct BlockThreadGroup {
  static constexpr bool kIsBlock = true;
  static constexpr int kMaxThreads = kRowWarps * kWarpSize;
  /// Launch bound of a kernel whose threads hold so many values: twice the threads where that keeps
  /// registers to what lets two blocks run.
  static constexpr int bound(int items) { return kMaxThreads * (items <= 32 ? 1 : 2); }

  /// Used for one reduction of a launch: then no barrier is needed to use it again.
  template <typename State>
  struct Scratch {
    State of_warp[kMaxWarps];
  };

  static __device__ __forceinline__ int64_t row() { return blockIdx.x; }
  static __device__ __forceinline__ int64_t row_again() { return block_again(); }
  static __device__ __forceinline__ int thread() { return threadIdx.x; }
  static __device__ __forceinline__ int warp() { return threadIdx.x / kWarpSize; }

  /// `neutral` merges with any state without changing it.
  template <typename State, typename Merge>
  static __device__ __forceinline__ State reduce(State state, State neutral,
                                                 Scratch<State>& scratch, Merge merge) {
    state = reduce_lanes(state, merge);
    const int lane = threadIdx.x % kWarpSize;
    if (lane == 0) scratch.of_warp[warp()] = state;
    __syncthreads();
    const int warps = static_cast<int>(blockDim.x) / kWarpSize;
    return reduce_lanes(lane < warps ? scratch.of_warp[lane] : neutral, merge);
  }
};

/// A sum with compensation for its rounding error (Kahan): a thread may add millions of terms, each
/// too small to change an uncompensated sum.
template <typename T>
struct KahanSum {
  T sum = 0;
  T excess = 0;  // the excess of `sum`

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
