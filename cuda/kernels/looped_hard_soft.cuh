// SPDX-License-Identifier: Apache-2.0
// Soft samples and their one-hots in rows longer than a block's registers. The first read keeps
// where a thread met its largest fast score; between the reads the classes there, if they come near
// the row's largest, are compared by their exact scores; the second read writes both samples.
#pragma once

#include "hard_soft.cuh"
#include "looped_argmax.cuh"
#include "looped_soft.cuh"

namespace torch_gumbel::cuda {

constexpr int kHardSoftThreads = 384;

/// The fragment where a thread met its largest fast score, and the largest one of its other
/// fragments.
struct TopFragment {
  int at = -1;  // first vector of the fragment
  float second = -kInfinity;

  template <typename Fragment>
  __device__ __forceinline__ void update(const Fragment& fragment, float top, float largest) {
    second = max_number(second, min_number(top, largest));
    at = top > largest ? fragment.first : at;
  }
};

/// Offers the exact scores of all classes of a warp's fragments that come near the range's largest
/// score: for the few threads that have several such fragments.
template <typename Element, typename Key>
__device__ __forceinline__ void offer_range(const AlignedRow<Element>& aligned,
                                            const BlockRange& range, const Key& key,
                                            float threshold, Best& best) {
  constexpr int kVectors = kLoopedVectors<Element>;
  for_each_fragment<kVectors>(aligned, range, [&](const Fragment<Element, kVectors>& fragment) {
#pragma unroll 1
    for (int i = 0; i < kVectors && fragment.holds(i); ++i)
      offer_vector<Scoring::kWeights>(aligned, key, Unscaled{}, fragment.vector(i), threshold,
                                      best);
  });
}

/// Offers the exact scores of one fragment of a lane, one to each lane of its warp.
template <typename Element, typename Key>
__device__ __forceinline__ void offer_fragment(const AlignedRow<Element>& aligned,
                                               const BlockRange& range, const Key& key, int first,
                                               Best& best) {
  constexpr int kWidth = Element::kWidth;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int vector = first + lane / kWidth * kWarpSize,
            at = aligned.class_of(vector) + lane % kWidth;
  if (lane >= kLoopedVectors<Element> * kWidth || vector >= range.end) return;
  best.offer(exact_score(aligned, key, Unscaled{}, at), at);
}

/// The best class of a range by its exact scores, for all threads: `own` is the thread's largest
/// fast score, `top` the range's.
template <typename Element, typename Key>
__device__ __forceinline__ Best best_of_top_fragments(const AlignedRow<Element>& aligned,
                                                      const BlockRange& range, const Key& key,
                                                      const TopFragment& top_fragment, float own,
                                                      float top) {
  __shared__ BlockThreadGroup::Scratch<Best> scratch;
  const float threshold = filter_threshold(top);
  Best best;
  const int head_tail = range.head_tail(aligned);
  if (head_tail >= 0) best.offer(exact_score(aligned, key, Unscaled{}, head_tail), head_tail);
  if (__any_sync(kAllLanes, top_fragment.second >= threshold)) {
    offer_range(aligned, range, key, threshold, best);
  } else {
    unsigned mask = __ballot_sync(kAllLanes, own >= threshold && top_fragment.at >= 0);
    for (; mask != 0; mask &= mask - 1) {
      const int lane = __ffs(static_cast<int>(mask)) - 1;
      offer_fragment(aligned, range, key, __shfl_sync(kAllLanes, top_fragment.at, lane), best);
    }
  }
  return BlockThreadGroup::reduce(best, Best{}, scratch, BetterOf{});
}

/// After the states of all blocks of all rows.
__device__ __forceinline__ BlockBest* bests_after_states(const Problem& p, int64_t row) {
  return reinterpret_cast<BlockBest*>(states_of(p, p.a.rows.count)) + row * p.blocks_per_row;
}

/// The first read: state and best class of the row or range.
template <typename Element, typename Key>
__device__ __forceinline__ Best search_range(const Problem& p, const AlignedRow<Element>& aligned,
                                             const BlockRange& range, const Key& key, float scale,
                                             LoopedState& state) {
  TopFragment top_fragment;
  const Running own = weigh_range<false>(p, aligned, range, key, scale, top_fragment);
  state = merge_states({own.max, own.sum.sum, 0, 0}, scale);
  return best_of_top_fragments(aligned, range, key, top_fragment, own.max, state.max);
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kHardSoftThreads)
    hard_soft_looped_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLoopedVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const BlockRange range(p, aligned, index);
  const RowKey<kDeviceKey> key(p, row);
  const float scale = temperature(p, row).scale;
  LoopedState state;
  Best best;
  if (kStage == Stage::kFinish) {
    state = merge_blocks(p, index, scale);
    best = best_of_blocks(p, bests_after_states(p, index));
  } else {
    best = search_range(p, aligned, range, key, scale, state);
  }
  if (kStage == Stage::kReduce) {
    if (threadIdx.x != 0) return;
    states_of(p, index)[range.block] = state;
    bests_after_states(p, index)[range.block] = {best.score, best.index};
    return;
  }
  const AlignedRow<Element> one_hot = aligned.one_hot(p.a, row);
  const float norm = 1.0f / state.sum;
  for_each_fragment<kVectors>(aligned, range, [&](const Fragment<Element, kVectors>& fragment) {
    write_fragment(p.a, aligned, fragment, key, state, scale, norm);
    write_one_hot(p.a, one_hot, fragment, best, state.sum > 0);
  });
}

}  // namespace torch_gumbel::cuda
