// SPDX-License-Identifier: Apache-2.0
// Soft samples and their one-hots in rows held in registers: the choice is found from the fast
// scores before these become weights.
#pragma once

#include "choice.cuh"
#include "soft.cuh"

namespace torch_gumbel::cuda {

constexpr uint32_t kEdge = 1u << 31;  // beside the bits of vectors

/// With 64 classes in registers ptxas spills none in the forms below only: addresses are made
/// again, and for halves no bit says whether an edge comes near the largest score, so that every
/// edge is looked at.
template <typename Element, int kVectors>
constexpr bool kFull = kVectors * Element::kWidth > 32;
template <typename Element, int kVectors>
constexpr bool kEveryEdge = kFull<Element, kVectors> && Element::kWidth == 8;

/// What follows the last reduction of sums: the soft sample, so that its registers are free, and
/// then the choice, from the vectors and the edge that come near the largest fast score.
template <typename Element, int kVectors, typename Team, bool kDeviceKey>
__device__ __forceinline__ void write_hard_soft(const Problem& p, int64_t index,
                                                Scores<Element, kVectors>& weights, float sum,
                                                uint32_t candidates, float threshold) {
  __shared__ typename Team::template Scratch<Best> scratch;
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Share<Element, kVectors> share(Team{}, line);
  const bool defined = sum > 0;  // neither NaN nor 0, by which both samples are undefined
  write_samples(p.a, line, share, sum, weights);
  const RowKey<kDeviceKey> key(p, row);
  if (!defined) candidates = 0;
  Best best;
  if (kEveryEdge<Element, kVectors> ? defined && share.edge >= 0 : (candidates & kEdge) != 0)
    best.offer(exact_score(line, key, Unscaled{}, share.edge), share.edge);
  offer_candidates<Scoring::kWeights>(line, share, key, Unscaled{}, candidates & ~kEdge, threshold,
                                      best);
  best = Team::reduce(best, Best{}, scratch, BetterOf{});
  write_one_hot(p.a, line.one_hot(p.a, row), share, best, defined);
}

template <typename Element, int kVectors, typename Team, bool kDeviceKey>
__global__ void __launch_bounds__(Team::bound(kVectors* Element::kWidth))
    hard_soft_row_kernel(const __grid_constant__ Problem p) {
  __shared__ typename Team::template Scratch<float> sum_scratch;
  const int64_t index = Team::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  constexpr bool kHoldsMost = kFull<Element, kVectors>;
  float scale = kHoldsMost ? temperature(p, row).scale : 0.0f;
  Scores<Element, kVectors> scores;
  {
    const Line<Element> line(p.a, row);
    const Share<Element, kVectors> share(Team{}, line);
    const RowKey<kDeviceKey> key(p, row);
    scores.load(line, share, key, Unscaled{});
  }
  const Tops<kVectors> top(Team{}, scores);
  const float threshold = filter_threshold(top.row);
  uint32_t candidates = top.candidates(threshold);
  if (!kEveryEdge<Element, kVectors> && scores.edge >= threshold) candidates |= kEdge;
  if (!kHoldsMost) scale = temperature(p, row).scale;
  const Weigh weigh(top.row, scale);
  scores.edge = weigh(scores.edge);
  const float own = weigh_all(weigh, scores.of) + scores.edge;
  const float sum = Team::reduce(own, 0.0f, sum_scratch, Sum{});
  const int64_t again = kHoldsMost ? Team::row_again() : index;
  write_hard_soft<Element, kVectors, Team, kDeviceKey>(p, again, scores, sum, candidates,
                                                       threshold);
}

}  // namespace torch_gumbel::cuda
