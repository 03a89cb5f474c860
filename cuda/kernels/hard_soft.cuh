// SPDX-License-Identifier: Apache-2.0
// Soft samples and their one-hots in rows held in registers: the argmax is found from the fast
// scores before these become weights.
#pragma once

#include "argmax.cuh"
#include "soft.cuh"

namespace torch_gumbel::cuda {

constexpr uint32_t kHeadTailBit = 1u << 31;  // beside the bits of vectors

/// With 64 classes in registers ptxas spills none in the forms below only: addresses are
/// recomputed, and for halves no bit says whether a class of the head or tail comes near the
/// largest score, so that each is evaluated.
template <typename Element, int kVectors>
constexpr bool kFull = kVectors * Element::kWidth > 32;
template <typename Element, int kVectors>
constexpr bool kEveryHeadTail = kFull<Element, kVectors> && Element::kWidth == 8;

/// What follows the last reduction of sums: the soft sample, so that its registers are free, and
/// then the argmax, from the vectors and the class of head or tail that come near the largest fast
/// score.
template <typename Element, int kVectors, typename ThreadGroup, bool kDeviceKey>
__device__ __forceinline__ void write_hard_soft(const Problem& p, int64_t index,
                                                Scores<Element, kVectors>& weights, float sum,
                                                uint32_t candidates, float threshold) {
  __shared__ typename ThreadGroup::template Scratch<Best> scratch;
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const Fragment<Element, kVectors> fragment(ThreadGroup{}, aligned);
  const bool defined = sum > 0;  // neither NaN nor 0, by which both samples are undefined
  write_samples(p.a, aligned, fragment, sum, weights);
  const RowKey<kDeviceKey> key(p, row);
  if (!defined) candidates = 0;
  Best best;
  if (kEveryHeadTail<Element, kVectors> ? defined && fragment.head_tail >= 0
                                        : (candidates & kHeadTailBit) != 0)
    best.offer(exact_score(aligned, key, Unscaled{}, fragment.head_tail), fragment.head_tail);
  offer_candidates<Scoring::kWeights>(aligned, fragment, key, Unscaled{},
                                      candidates & ~kHeadTailBit, threshold, best);
  best = ThreadGroup::reduce(best, Best{}, scratch, BetterOf{});
  write_one_hot(p.a, aligned.one_hot(p.a, row), fragment, best, defined);
}

template <typename Element, int kVectors, typename ThreadGroup, bool kDeviceKey>
__global__ void __launch_bounds__(ThreadGroup::bound(kVectors* Element::kWidth))
    hard_soft_row_kernel(const __grid_constant__ Problem p) {
  __shared__ typename ThreadGroup::template Scratch<float> sum_scratch;
  const int64_t index = ThreadGroup::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  constexpr bool kUsesMaxItems = kFull<Element, kVectors>;
  float scale = kUsesMaxItems ? temperature(p, row).scale : 0.0f;
  Scores<Element, kVectors> scores;
  {
    const AlignedRow<Element> aligned(p.a, row);
    const Fragment<Element, kVectors> fragment(ThreadGroup{}, aligned);
    const RowKey<kDeviceKey> key(p, row);
    scores.load(aligned, fragment, key, Unscaled{});
  }
  const Tops<kVectors> top(ThreadGroup{}, scores);
  const float threshold = filter_threshold(top.row);
  uint32_t candidates = top.candidates(threshold);
  if (!kEveryHeadTail<Element, kVectors> && scores.head_tail >= threshold)
    candidates |= kHeadTailBit;
  if (!kUsesMaxItems) scale = temperature(p, row).scale;
  const Weigh weigh(top.row, scale);
  scores.head_tail = weigh(scores.head_tail);
  const float own = weigh_all(weigh, scores.of) + scores.head_tail;
  const float sum = ThreadGroup::reduce(own, 0.0f, sum_scratch, Sum{});
  const int64_t again = kUsesMaxItems ? ThreadGroup::row_again() : index;
  write_hard_soft<Element, kVectors, ThreadGroup, kDeviceKey>(p, again, scores, sum, candidates,
                                                              threshold);
}

}  // namespace torch_gumbel::cuda
