// SPDX-License-Identifier: Apache-2.0
// Soft samples of rows that a cluster of blocks holds in its registers: one read, noise once. The
// blocks exchange their maxima and sums through distributed shared memory.
//
// For compute capability 9.0 and higher; in code for others these kernels do nothing and are never
// launched (has_clusters() of kernels.h).
#pragma once

#include <cooperative_groups.h>

#include "looped.cuh"
#include "soft.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define TORCH_GUMBEL_CLUSTERS
#endif

namespace torch_gumbel::cuda {

#ifdef TORCH_GUMBEL_CLUSTERS

/// The blocks of a cluster, of whole warps. All its threads must arrive at reduce().
struct ClusterThreadGroup {
  /// One reduction of a launch, as of a block; the others read `of_block`.
  template <typename State>
  struct Scratch {
    BlockThreadGroup::Scratch<State> of_warps;
    State of_block;
  };

  static __device__ __forceinline__ cooperative_groups::cluster_group cluster() {
    return cooperative_groups::this_cluster();
  }
  static __device__ __forceinline__ int thread() {
    return static_cast<int>(cluster().block_rank() * blockDim.x + threadIdx.x);
  }
  static __device__ __forceinline__ int warp() { return thread() / kWarpSize; }

  /// The same bits in every thread of the cluster. A block must not end before the others have read
  /// its state: leave() after its last reduction, and wait_for_others() at its end.
  template <typename State, typename Merge>
  static __device__ __forceinline__ State reduce(State state, State neutral,
                                                 Scratch<State>& scratch, Merge merge) {
    state = BlockThreadGroup::reduce(state, neutral, scratch.of_warps, merge);
    if (threadIdx.x == 0) scratch.of_block = state;
    cluster().sync();
    const int lane = threadIdx.x % kWarpSize, blocks = static_cast<int>(cluster().num_blocks());
    if (lane < blocks) neutral = *cluster().map_shared_rank(&scratch.of_block, lane);
    return reduce_lanes(neutral, merge);
  }

  static __device__ __forceinline__ void leave() { (void)cluster().barrier_arrive(); }
  static __device__ __forceinline__ void wait_for_others() { cluster().barrier_wait(); }
};

#endif

/// soft_row_kernel() with a cluster to each row.
template <typename Element, int kVectors, bool kDeviceKey>
__global__ void __launch_bounds__(BlockThreadGroup::bound(kVectors* Element::kWidth))
    soft_cluster_kernel(const __grid_constant__ Problem p) {
#ifdef TORCH_GUMBEL_CLUSTERS
  __shared__ ClusterThreadGroup::Scratch<float> max_scratch, sum_scratch;
  const Row row = row_of(p.a.rows, row_of_block(p));
  // ptxas spills none in this order: see soft_row_kernel().
  float scale = kDeviceKey ? 0.0f : temperature(p, row).scale;
  Scores<Element, kVectors> scores;
  {
    const AlignedRow<Element> aligned(p.a, row);
    const Fragment<Element, kVectors> fragment(ClusterThreadGroup{}, aligned);
    const RowKey<kDeviceKey> key(p, row);
    constexpr bool kHeadTailFirst = Element::kWidth == 8 && !kDeviceKey;
    scores.template load<kHeadTailFirst>(aligned, fragment, key, Unscaled{});
  }
  const float top =
      ClusterThreadGroup::reduce(scores.max(MaxNumber{}), -kInfinity, max_scratch, MaxNumber{});
  if (kDeviceKey) scale = temperature(p, row_of(p.a.rows, row_of_block_again(p))).scale;
  const Weigh weigh(top, scale);
  scores.head_tail = weigh(scores.head_tail);
  const float own = weigh_all(weigh, scores.of) + scores.head_tail;
  const float sum = ClusterThreadGroup::reduce(own, 0.0f, sum_scratch, Sum{});
  ClusterThreadGroup::leave();
  write_soft<Element, kVectors, ClusterThreadGroup>(p, row_of_block_again(p), scores, weigh, sum);
  ClusterThreadGroup::wait_for_others();
#endif
}

}  // namespace torch_gumbel::cuda
