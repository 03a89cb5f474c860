// SPDX-License-Identifier: Apache-2.0
// Hard choices in rows longer than a block's registers: one read, and logarithms only of classes
// whose bound (csrc/math/prune.h) reaches the best score so far. Rows are cut into parts as in
// long.cuh.
#pragma once

#include "../csrc/math/prune.h"
#include "choice.cuh"
#include "long.cuh"

namespace torch_gumbel::cuda {

constexpr int kChoiceThreads = 256;

/// Vectors that a thread takes at a time: 32 classes.
template <typename Element>
constexpr int kChoiceVectors = 32 / Element::kWidth;

/// The best class of a part, as the workspace keeps it. NaN if the part makes the row undefined.
struct PartBest {
  float score;
  int32_t index;
};

__device__ __forceinline__ PartBest* bests_of(const Problem& p, int64_t row) {
  return static_cast<PartBest*>(p.workspace) + row * p.parts;
}

/// The best class on the way through a part.
struct Hunt {
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
__device__ __forceinline__ void hunt_vector(const Line<Element>& line, const Key& key,
                                            const Scaling& scaling, int vector, Hunt& hunt) {
  math::Block words;
#pragma unroll 1
  for (int j = 0; j < Element::kWidth; ++j) {
    const int at = line.class_of(vector) + j;
    const uint64_t position = line.word + static_cast<uint64_t>(at);
    if (j % 4 == 0) words = key.words(math::counter_block(key.offset() + position / 4));
    const uint32_t word = word_of(words, static_cast<unsigned>(j));
    const float x = scaling(Element::widen(line.input[at]));
    if (x != -kInfinity && !(math::score_bound(x, word) < hunt.threshold))
      hunt.offer(x + exact_noise(key, position, word), at);
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

/// What this thread holds of a share: vectors whose bound reaches the threshold are looked into.
template <typename Element, int kVectors, typename Key, typename Scaling>
__device__ __forceinline__ void hunt_share(const Line<Element>& line,
                                           const Share<Element, kVectors>& share, const Key& key,
                                           const Scaling& scaling, Hunt& hunt) {
  Bits128 raw[kVectors];
  load_share<Element>(line.input, line.head, share, Element::kMasked, raw);
  constexpr uint32_t kStep = kWarpSize * (Element::kWidth / 4);
  const Counters<> counters(key.offset() + (line.word + line.class_of(share.first)) / 4);
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
  if (!__any_sync(kAllLanes, wraps || !(highest < hunt.threshold))) return;
  uint32_t candidates = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i)
    candidates |= wraps || !(bound[i] < hunt.threshold) ? 1u << i : 0u;
  for (; candidates != 0; candidates &= candidates - 1) {
    const int i = __ffs(static_cast<int>(candidates)) - 1;
    if (share.holds(i)) hunt_vector(line, key, scaling, share.vector(i), hunt);
  }
  __syncwarp();
  hunt.tighten(hunt.top());
}

/// A score to begin with that the part's best reaches: the best of its first vectors by their fast
/// scores, less what these may be wrong by. All threads of the block arrive together.
template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ float first_score(const Line<Element>& line, const Part& part,
                                             const Key& key, const Scaling& scaling) {
  __shared__ BlockTeam::Scratch<float> scratch;
  const Share<Element, 1> share(part.begin, part.end);
  Scores<Element, 1> scores;
  scores.load(line, share, key, scaling);
  const float top = BlockTeam::reduce(scores.max(MaxOrNan{}), -kInfinity, scratch, MaxOrNan{});
  return filter_threshold(top);
}

/// The best class of a part, for all threads. Score NaN: the part makes the row undefined.
template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ Best best_of_part(const Line<Element>& line, const Part& part,
                                             const Key& key, const Scaling& scaling) {
  __shared__ BlockTeam::Scratch<Best> scratch;
  __shared__ BlockTeam::Scratch<int> undefined_scratch;
  using Held = Share<Element, kChoiceVectors<Element>>;
  Hunt hunt;
  hunt.tighten(first_score(line, part, key, scaling));
  for_each_share<kChoiceVectors<Element>>(line, part, [&](const Held& share) {
    hunt_share(line, share, key, scaling, hunt);
    if (share.edge >= 0) hunt.offer(exact_score(line, key, scaling, share.edge), share.edge);
  });
  // Logits so low that their bounds overflow pass only a threshold of -inf: a warp that found
  // nothing better looks again.
  if (hunt.top() < -math::kLargestBounded) {
    hunt.threshold = -kInfinity;
    for_each_share<kChoiceVectors<Element>>(
        line, part, [&](const Held& share) { hunt_share(line, share, key, scaling, hunt); });
  }
  const auto either = [](int x, int y) { return x | y; };
  const int undefined =
      BlockTeam::reduce(static_cast<int>(hunt.undefined), 0, undefined_scratch, either);
  const Best best = BlockTeam::reduce(hunt.best, Best{}, scratch, BetterOf{});
  return undefined ? Best{kNan, 0} : best;
}

/// The same without noise.
template <typename Element>
__device__ __forceinline__ Best plain_best_of_part(const Line<Element>& line, const Part& part) {
  Best best;
  for_each_share<kChoiceVectors<Element>>(
      line, part, [&](const auto& share) { offer_plain(line, share, best); });
  return best_of_plain<BlockTeam>(best);
}

/// The best class of a row from those of its parts, for all threads of the block.
__device__ __forceinline__ Best best_of_parts(const Problem& p, const PartBest* bests) {
  __shared__ BlockTeam::Scratch<Best> scratch;
  __shared__ BlockTeam::Scratch<int> undefined_scratch;
  Hunt hunt;
  for (int part = static_cast<int>(threadIdx.x); part < p.parts;
       part += static_cast<int>(blockDim.x)) {
    const PartBest of_part = bests[part];
    hunt.offer(of_part.score, of_part.index);
  }
  const auto either = [](int x, int y) { return x | y; };
  const int undefined =
      BlockTeam::reduce(static_cast<int>(hunt.undefined), 0, undefined_scratch, either);
  const Best best = BlockTeam::reduce(hunt.best, Best{}, scratch, BetterOf{});
  return undefined ? Best{kNan, 0} : best;
}

/// kWhole and kReduce. Without classes that can be drawn the index is 0.
template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kChoiceThreads)
    argmax_long_kernel(const __grid_constant__ Problem p) {
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  const RowKey<kDeviceKey> key(p, row);
  const Scaled scaling = {math::sampling_inverse(temperature(p, row).inverse), p.scaled};
  const Best best = is_plain(p, row, scaling.inverse) ? plain_best_of_part(line, part)
                                                      : best_of_part(line, part, key, scaling);
  if (threadIdx.x != 0) return;
  if (kStage == Stage::kWhole)
    write_choice(p.a, index, best);
  else
    bests_of(p, index)[part.number] = {best.score, best.index};
}

static __global__ void __launch_bounds__(kChoiceThreads)
    argmax_parts_kernel(const __grid_constant__ Problem p) {
  const Best best = best_of_parts(p, bests_of(p, blockIdx.x));
  if (threadIdx.x == 0) write_choice(p.a, blockIdx.x, best);
}

/// Zeros or, where the row is undefined, NaN in all of a part.
template <typename Element>
__device__ __forceinline__ void clear_part(const KernelParams& a, const Line<Element>& line,
                                           const Part& part, bool defined) {
  for_each_share<kChoiceVectors<Element>>(line, part, [&](const auto& share) {
    clear_share(a, line, share, defined);
    if (share.edge >= 0)
      store_one<Element>(line.output, a.output_type, share.edge, defined ? 0.0f : kNan);
  });
}

/// What a row's best class still asks for where zeros are.
template <typename Element>
__device__ __forceinline__ void finish_one_hot(const Problem& p, const Line<Element>& line,
                                               const Part& part, const Row& row, const Best& best) {
  const bool defined = best.score > -kInfinity && temperature(p, row).scale > 0;
  if (!defined) return clear_part(p.a, line, part, false);
  if (part.number == 0 && threadIdx.x == 0)
    store_one<Element>(line.output, p.a.output_type, best.index, 1.0f);
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kChoiceThreads)
    hard_long_kernel(const __grid_constant__ Problem p) {
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  if (kStage == Stage::kFinish)
    return finish_one_hot(p, line, part, row, best_of_parts(p, bests_of(p, index)));
  const RowKey<kDeviceKey> key(p, row);
  clear_part(p.a, line, part, true);
  // Its reductions' barriers lie between the zeros and what replaces them.
  const Best best = best_of_part(line, part, key, Unscaled{});
  if (kStage == Stage::kWhole)
    finish_one_hot(p, line, part, row, best);
  else if (threadIdx.x == 0)
    bests_of(p, index)[part.number] = {best.score, best.index};
}

}  // namespace torch_gumbel::cuda
