// SPDX-License-Identifier: Apache-2.0
// Argmax of rows longer than a block's registers: one read, and logarithms only of classes whose
// bound (csrc/math/prune.h) reaches the best score so far. Ranges of blocks as in looped.cuh.
#pragma once

#include "../../csrc/math/prune.h"
#include "argmax.cuh"
#include "looped.cuh"

namespace torch_gumbel::cuda {

constexpr int kArgmaxThreads = 256;

/// Vectors that a thread processes at a time: 32 classes.
template <typename Element>
constexpr int kArgmaxVectors = 32 / Element::kWidth;

/// The best class of a block's range, in the workspace. NaN if the range makes the row undefined.
struct BlockBest {
  float score;
  int32_t index;
};

__device__ __forceinline__ BlockBest* bests_of(const Problem& p, int64_t row) {
  return static_cast<BlockBest*>(p.workspace) + row * p.blocks_per_row;
}

/// The state of the search for the best class of a range.
struct ArgmaxSearch {
  Best best;                  // of this thread's exact scores
  float threshold = kLowest;  // of bounds; the same in a warp
  bool undefined = false;     // this thread met NaN or +inf

  __device__ __forceinline__ void offer(float score, int at) {
    if (!(score < kInfinity)) undefined = true;
    best.offer(score, at);
  }
  /// Best score of the warp.
  __device__ __forceinline__ float top() const { return reduce_lanes(best.score, MaxNumber{}); }
  /// `score` is one that the row's best reaches.
  __device__ __forceinline__ void tighten(float score) {
    threshold = max_number(threshold, math::pruning_threshold(score));
  }
};

/// Offers the classes of a vector whose bound reaches the threshold. For few vectors of a row, so
/// that it is kept small instead of fast.
template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ void search_vector(const AlignedRow<Element>& aligned, const Key& key,
                                              const Scaling& scaling, int vector,
                                              ArgmaxSearch& search) {
  math::Block words;
#pragma unroll 1
  for (int j = 0; j < Element::kWidth; ++j) {
    const int at = aligned.class_of(vector) + j;
    const uint64_t position = aligned.word + static_cast<uint64_t>(at);
    if (j % 4 == 0) words = key.words(math::counter_block(key.offset() + position / 4));
    const uint32_t word = word_of(words, static_cast<unsigned>(j));
    const float x = scaling(Element::widen(aligned.input[at]));
    if (x != -kInfinity && !(math::score_bound(x, word) < search.threshold))
      search.offer(x + exact_noise(key, position, word), at);
  }
}

/// A vector's largest logit, NaN if one is NaN, and its smallest word.
struct Extremes {
  float logit;
  uint32_t word;
};

template <typename Element, typename Key>
__device__ __forceinline__ Extremes extremes_of(const Bits128& raw, const Key& key,
                                                const Counters<>& counters, uint32_t step) {
  float x[Element::kWidth];
  Element::unpack(raw, x);
  Extremes found = {x[0], 0xFFFFFFFF};
#pragma unroll
  for (int i = 0; i < Element::kWidth; i += 4) {
    const math::Block block = counters.words(key, step + i / 4);
    found.word = min_word(found.word, block.word[0], block.word[1]);
    found.word = min_word(found.word, block.word[2], block.word[3]);
#pragma unroll
    for (int j = 0; j < 4; ++j) found.logit = max_or_nan(found.logit, x[i + j]);
  }
  return found;
}

/// Searches a fragment: the classes of vectors whose bound reaches the threshold.
template <typename Element, int kVectors, typename Key, typename Scaling>
__device__ __forceinline__ void search_fragment(const AlignedRow<Element>& aligned,
                                                const Fragment<Element, kVectors>& fragment,
                                                const Key& key, const Scaling& scaling,
                                                ArgmaxSearch& search) {
  Bits128 raw[kVectors];
  load_fragment<Element>(aligned.input, aligned.head, fragment, Element::kMasked, raw);
  constexpr uint32_t kStep = kWarpSize * (Element::kWidth / 4);
  const Counters<> counters(key.offset() + (aligned.word + aligned.class_of(fragment.first)) / 4);
  Extremes extremes[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i)
    extremes[i] = extremes_of<Element>(raw[i], key, counters, i * kStep);
  scaling.apply(extremes);
  float bound[kVectors], highest = -kInfinity;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    bound[i] = math::score_bound(extremes[i].logit, extremes[i].word);
    highest = max_or_nan(highest, bound[i]);
  }
  const bool wraps = counters.wraps(kVectors * kStep);
  if (!__any_sync(kAllLanes, wraps || !(highest < search.threshold))) return;
  uint32_t candidates = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i)
    candidates |= wraps || !(bound[i] < search.threshold) ? 1u << i : 0u;
  for (; candidates != 0; candidates &= candidates - 1) {
    const int i = __ffs(static_cast<int>(candidates)) - 1;
    if (fragment.holds(i)) search_vector(aligned, key, scaling, fragment.vector(i), search);
  }
  __syncwarp();
  search.tighten(search.top());
}

/// A first threshold that the range's best reaches: the best of its first vectors by their fast
/// scores, less their error. All threads of the block arrive together.
template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ float first_score(const AlignedRow<Element>& aligned,
                                             const BlockRange& range, const Key& key,
                                             const Scaling& scaling) {
  __shared__ BlockThreadGroup::Scratch<float> scratch;
  const Fragment<Element, 1> fragment(range.begin, range.end);
  Scores<Element, 1> scores;
  scores.load(aligned, fragment, key, scaling);
  const float top =
      BlockThreadGroup::reduce(scores.max(MaxOrNan{}), -kInfinity, scratch, MaxOrNan{});
  return filter_threshold(top);
}

/// The best class of a range, for all threads. Score NaN: the range makes the row undefined.
template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ Best best_of_range(const AlignedRow<Element>& aligned,
                                              const BlockRange& range, const Key& key,
                                              const Scaling& scaling) {
  __shared__ BlockThreadGroup::Scratch<Best> scratch;
  __shared__ BlockThreadGroup::Scratch<int> undefined_scratch;
  using Vectors = Fragment<Element, kArgmaxVectors<Element>>;
  ArgmaxSearch search;
  search.tighten(first_score(aligned, range, key, scaling));
  for_each_fragment<kArgmaxVectors<Element>>(aligned, range, [&](const Vectors& fragment) {
    search_fragment(aligned, fragment, key, scaling, search);
    if (fragment.head_tail >= 0)
      search.offer(exact_score(aligned, key, scaling, fragment.head_tail), fragment.head_tail);
  });
  // Logits so low that their bounds overflow pass only a threshold of -inf: a warp that found
  // nothing better searches again.
  if (search.top() < -math::kLargestBounded) {
    search.threshold = -kInfinity;
    for_each_fragment<kArgmaxVectors<Element>>(aligned, range, [&](const Vectors& fragment) {
      search_fragment(aligned, fragment, key, scaling, search);
    });
  }
  const auto either = [](int x, int y) { return x | y; };
  const int undefined =
      BlockThreadGroup::reduce(static_cast<int>(search.undefined), 0, undefined_scratch, either);
  const Best best = BlockThreadGroup::reduce(search.best, Best{}, scratch, BetterOf{});
  return undefined ? Best{kNan, 0} : best;
}

/// The same without noise.
template <typename Element>
__device__ __forceinline__ Best greedy_best_of_range(const AlignedRow<Element>& aligned,
                                                     const BlockRange& range) {
  Best best;
  for_each_fragment<kArgmaxVectors<Element>>(
      aligned, range, [&](const auto& fragment) { offer_greedy(aligned, fragment, best); });
  return best_of_greedy<BlockThreadGroup>(best);
}

/// The best class of a row from those of its blocks, for all threads of the block.
__device__ __forceinline__ Best best_of_blocks(const Problem& p, const BlockBest* bests) {
  __shared__ BlockThreadGroup::Scratch<Best> scratch;
  __shared__ BlockThreadGroup::Scratch<int> undefined_scratch;
  ArgmaxSearch search;
  for (int block = static_cast<int>(threadIdx.x); block < p.blocks_per_row;
       block += static_cast<int>(blockDim.x)) {
    const BlockBest of_block = bests[block];
    search.offer(of_block.score, of_block.index);
  }
  const auto either = [](int x, int y) { return x | y; };
  const int undefined =
      BlockThreadGroup::reduce(static_cast<int>(search.undefined), 0, undefined_scratch, either);
  const Best best = BlockThreadGroup::reduce(search.best, Best{}, scratch, BetterOf{});
  return undefined ? Best{kNan, 0} : best;
}

/// kWhole and kReduce. Without classes that can be drawn the index is 0.
template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kArgmaxThreads)
    argmax_looped_kernel(const __grid_constant__ Problem p) {
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const BlockRange range(p, aligned, index);
  const RowKey<kDeviceKey> key(p, row);
  const Scaled scaling = {math::sampling_inverse(temperature(p, row).inverse), p.scaled};
  const Best best = is_greedy(p, row, scaling.inverse)
                        ? greedy_best_of_range(aligned, range)
                        : best_of_range(aligned, range, key, scaling);
  if (threadIdx.x != 0) return;
  if (kStage == Stage::kWhole)
    write_argmax(p.a, index, best);
  else
    bests_of(p, index)[range.block] = {best.score, best.index};
}

static __global__ void __launch_bounds__(kArgmaxThreads)
    argmax_multi_block_kernel(const __grid_constant__ Problem p) {
  const Best best = best_of_blocks(p, bests_of(p, blockIdx.x));
  if (threadIdx.x == 0) write_argmax(p.a, blockIdx.x, best);
}

/// Zeros or, where the row is undefined, NaN in all of a range.
template <typename Element>
__device__ __forceinline__ void clear_range(const KernelParams& a,
                                            const AlignedRow<Element>& aligned,
                                            const BlockRange& range, bool defined) {
  for_each_fragment<kArgmaxVectors<Element>>(aligned, range, [&](const auto& fragment) {
    clear_fragment(a, aligned, fragment, defined);
    if (fragment.head_tail >= 0)
      store_one<Element>(aligned.output, a.output_type, fragment.head_tail, defined ? 0.0f : kNan);
  });
}

/// Completes a one-hot row of zeros by its best class.
template <typename Element>
__device__ __forceinline__ void finish_one_hot(const Problem& p, const AlignedRow<Element>& aligned,
                                               const BlockRange& range, const Row& row,
                                               const Best& best) {
  const bool defined = best.score > -kInfinity && temperature(p, row).scale > 0;
  if (!defined) return clear_range(p.a, aligned, range, false);
  if (range.block == 0 && threadIdx.x == 0)
    store_one<Element>(aligned.output, p.a.output_type, best.index, 1.0f);
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kArgmaxThreads)
    hard_looped_kernel(const __grid_constant__ Problem p) {
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const BlockRange range(p, aligned, index);
  if (kStage == Stage::kFinish)
    return finish_one_hot(p, aligned, range, row, best_of_blocks(p, bests_of(p, index)));
  const RowKey<kDeviceKey> key(p, row);
  clear_range(p.a, aligned, range, true);
  // Its reductions' barriers separate the zeros from the stores that replace them.
  const Best best = best_of_range(aligned, range, key, Unscaled{});
  if (kStage == Stage::kWhole)
    finish_one_hot(p, aligned, range, row, best);
  else if (threadIdx.x == 0)
    bests_of(p, index)[range.block] = {best.score, best.index};
}

}  // namespace torch_gumbel::cuda
