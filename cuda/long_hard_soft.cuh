// SPDX-License-Identifier: Apache-2.0
// Soft samples and their one-hots in rows longer than a block's registers. The first read keeps
// where a thread met its largest fast score; between the reads the classes there, if they come near
// the row's largest, are looked at by their exact scores; the second read writes both samples.
#pragma once

#include "hard_soft.cuh"
#include "long_choice.cuh"
#include "long_soft.cuh"

namespace torch_gumbel::cuda {

constexpr int kHardSoftThreads = 384;

/// The share where a thread met its largest fast score, and the largest one of its other shares.
struct Finalists {
  int at = -1;  // first vector of the share
  float second = -kInfinity;

  template <typename Share>
  __device__ __forceinline__ void see(const Share& share, float top, float largest) {
    second = max_number(second, min_number(top, largest));
    at = top > largest ? share.first : at;
  }
};

/// Offers the exact scores of all that a warp holds of a part and comes near its largest score: for
/// the few threads that have several shares of that kind.
template <typename Element, typename Key>
__device__ __forceinline__ void offer_part(const Line<Element>& line, const Part& part,
                                           const Key& key, float threshold, Best& best) {
  constexpr int kVectors = kLongVectors<Element>;
  for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
#pragma unroll 1
    for (int i = 0; i < kVectors && share.holds(i); ++i)
      offer_vector<Scoring::kWeights>(line, key, Unscaled{}, share.vector(i), threshold, best);
  });
}

/// Offers the exact scores of one share of a lane, one to each lane of its warp.
template <typename Element, typename Key>
__device__ __forceinline__ void offer_share(const Line<Element>& line, const Part& part,
                                            const Key& key, int first, Best& best) {
  constexpr int kWidth = Element::kWidth;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int vector = first + lane / kWidth * kWarpSize, at = line.class_of(vector) + lane % kWidth;
  if (lane >= kLongVectors<Element> * kWidth || vector >= part.end) return;
  best.offer(exact_score(line, key, Unscaled{}, at), at);
}

/// The best class of a part by its exact scores, for all threads: `own` is the thread's largest fast
/// score, `top` the part's.
template <typename Element, typename Key>
__device__ __forceinline__ Best best_of_finalists(const Line<Element>& line, const Part& part,
                                                  const Key& key, const Finalists& finalists,
                                                  float own, float top) {
  __shared__ BlockTeam::Scratch<Best> scratch;
  const float threshold = filter_threshold(top);
  Best best;
  const int edge = part.edge(line);
  if (edge >= 0) best.offer(exact_score(line, key, Unscaled{}, edge), edge);
  if (__any_sync(kAllLanes, finalists.second >= threshold)) {
    offer_part(line, part, key, threshold, best);
  } else {
    unsigned lanes = __ballot_sync(kAllLanes, own >= threshold && finalists.at >= 0);
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __ffs(static_cast<int>(lanes)) - 1;
      offer_share(line, part, key, __shfl_sync(kAllLanes, finalists.at, lane), best);
    }
  }
  return BlockTeam::reduce(best, Best{}, scratch, BetterOf{});
}

/// Behind the sums of all parts of all rows.
__device__ __forceinline__ PartBest* bests_behind_states(const Problem& p, int64_t row) {
  return reinterpret_cast<PartBest*>(states_of(p, p.a.rows.count)) + row * p.parts;
}

/// The first read, and what the row or the part comes to.
template <typename Element, typename Key>
__device__ __forceinline__ Best choose_part(const Problem& p, const Line<Element>& line,
                                            const Part& part, const Key& key, float scale,
                                            LongState& state) {
  Finalists finalists;
  const Running own = weigh_part<false>(p, line, part, key, scale, finalists);
  state = merge_states({own.max, own.sum.sum, 0, 0}, scale);
  return best_of_finalists(line, part, key, finalists, own.max, state.max);
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kHardSoftThreads)
    hard_soft_long_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLongVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  const RowKey<kDeviceKey> key(p, row);
  const float scale = temperature(p, row).scale;
  LongState state;
  Best best;
  if (kStage == Stage::kFinish) {
    state = merge_parts(p, index, scale);
    best = best_of_parts(p, bests_behind_states(p, index));
  } else {
    best = choose_part(p, line, part, key, scale, state);
  }
  if (kStage == Stage::kReduce) {
    if (threadIdx.x != 0) return;
    states_of(p, index)[part.number] = state;
    bests_behind_states(p, index)[part.number] = {best.score, best.index};
    return;
  }
  const Line<Element> one_hot = line.one_hot(p.a, row);
  const float norm = 1.0f / state.sum;
  for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
    write_share(p.a, line, share, key, state, scale, norm);
    write_one_hot(p.a, one_hot, share, best, state.sum > 0);
  });
}

}  // namespace torch_gumbel::cuda
