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

/// Bound of a vector's scores, by its largest logit and its smallest word. NaN if a logit is NaN.
template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ float vector_bound(const Bits128& raw, const Key& key,
                                              const Counters& counters, uint32_t step,
                                              const Scaling& scaling) {
  float x[Element::kWidth];
  Element::unpack(raw, x);
  uint32_t least = 0xFFFFFFFF;
  float top = x[0];
#pragma unroll
  for (int i = 0; i < Element::kWidth; i += 4) {
    const math::Block block = key.words(counters.at(step + i / 4));
    least = min_word(least, block.word[0], block.word[1]);
    least = min_word(least, block.word[2], block.word[3]);
    for (int j = 0; j < 4; ++j) top = max_or_nan(top, x[i + j]);
  }
  return math::score_bound(scaling(top), least);
}

/// What this thread holds of a share: vectors whose bound reaches the threshold are looked into.
template <typename Element, int kVectors, typename Key, typename Scaling>
__device__ __forceinline__ void hunt_share(const Line<Element>& line,
                                           const Share<Element, kVectors>& share, const Key& key,
                                           const Scaling& scaling, Hunt& hunt) {
  Bits128 raw[kVectors];
  load_share<Element>(line.input, line.head, share, Element::kMasked, raw);
  constexpr uint32_t kStep = kWarpSize * (Element::kWidth / 4);
  const Counters counters(key.offset() + (line.word + line.class_of(share.first)) / 4);
  uint32_t candidates = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const float bound = vector_bound<Element>(raw[i], key, counters, i * kStep, scaling);
    candidates |= bound < hunt.threshold ? 0u : 1u << i;
  }
  if (counters.wraps(kVectors * kStep)) candidates = (1u << kVectors) - 1;
  if (!__any_sync(kAllLanes, candidates != 0)) return;
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
  return filter_threshold(top) + kShift;
}

/// The best class of a part, for all threads. `also(share)` is called for everything the thread
/// holds. Score NaN: the part makes the row undefined.
template <typename Element, typename Key, typename Scaling, typename Also>
__device__ __forceinline__ Best best_of_part(const Line<Element>& line, const Part& part,
                                             const Key& key, const Scaling& scaling, Also also) {
  __shared__ BlockTeam::Scratch<Best> scratch;
  __shared__ BlockTeam::Scratch<int> undefined_scratch;
  using Held = Share<Element, kLongVectors<Element>>;
  Hunt hunt;
  hunt.tighten(first_score(line, part, key, scaling));
  for_each_share(line, part, [&](const Held& share) {
    hunt_share(line, share, key, scaling, hunt);
    if (share.edge >= 0) hunt.offer(exact_score(line, key, scaling, share.edge), share.edge);
    also(share);
  });
  // Logits so low that their bounds overflow pass only a threshold of -inf: a warp that found
  // nothing better looks again.
  if (hunt.top() < -math::kLargestBounded) {
    hunt.threshold = -kInfinity;
    for_each_share(line, part,
                   [&](const Held& share) { hunt_share(line, share, key, scaling, hunt); });
  }
  const auto either = [](int x, int y) { return x | y; };
  const int undefined =
      BlockTeam::reduce(static_cast<int>(hunt.undefined), 0, undefined_scratch, either);
  const Best best = BlockTeam::reduce(hunt.best, Best{}, scratch, BetterOf{});
  return undefined ? Best{kNan, 0} : best;
}

/// The best class of a row from those of its parts, for all threads of the block.
__device__ __forceinline__ Best best_of_parts(const Problem& p, int64_t row) {
  __shared__ BlockTeam::Scratch<Best> scratch;
  __shared__ BlockTeam::Scratch<int> undefined_scratch;
  Hunt hunt;
  for (int part = static_cast<int>(threadIdx.x); part < p.parts;
       part += static_cast<int>(blockDim.x)) {
    const PartBest of_part = bests_of(p, row)[part];
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
  const Scaled scaling = {temperature(p, row).inverse, p.scaled};
  const Best best = best_of_part(line, part, key, scaling, [](const auto&) {});
  if (threadIdx.x != 0) return;
  if (kStage == Stage::kWhole)
    write_choice(p.a, index, best);
  else
    bests_of(p, index)[part.number] = {best.score, best.index};
}

static __global__ void __launch_bounds__(kChoiceThreads)
    argmax_parts_kernel(const __grid_constant__ Problem p) {
  const Best best = best_of_parts(p, blockIdx.x);
  if (threadIdx.x == 0) write_choice(p.a, blockIdx.x, best);
}

/// What a long row's best class still asks for: zeros are there already.
template <typename Element>
__device__ __forceinline__ void finish_one_hot(const Problem& p, const Line<Element>& line,
                                               const Part& part, const Row& row, const Best& best) {
  const bool defined = best.score > -kInfinity && temperature(p, row).scale > 0;
  if (defined) {
    if (part.number == 0 && threadIdx.x == 0)
      store_one<Element>(line.output, p.a.output_type, best.index, 1.0f);
    return;
  }
  for_each_share(line, part, [&](const Share<Element, kLongVectors<Element>>& share) {
    clear_share(p.a, line, share, false);
    if (share.edge >= 0) store_one<Element>(line.output, p.a.output_type, share.edge, kNan);
  });
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kChoiceThreads)
    hard_long_kernel(const __grid_constant__ Problem p) {
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  if (kStage == Stage::kFinish) return finish_one_hot(p, line, part, row, best_of_parts(p, index));
  const RowKey<kDeviceKey> key(p, row);
  const auto clear = [&](const Share<Element, kLongVectors<Element>>& share) {
    clear_share(p.a, line, share, true);
    if (share.edge >= 0) store_one<Element>(line.output, p.a.output_type, share.edge, 0.0f);
  };
  // A barrier of the reduction lies between the zeros and what replaces them.
  const Best best = best_of_part(line, part, key, Unscaled{}, clear);
  if (kStage == Stage::kWhole)
    finish_one_hot(p, line, part, row, best);
  else if (threadIdx.x == 0)
    bests_of(p, index)[part.number] = {best.score, best.index};
}

}  // namespace torch_gumbel::cuda
