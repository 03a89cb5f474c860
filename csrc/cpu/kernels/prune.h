// SPDX-License-Identifier: Apache-2.0
// Pruning: the first maximum of logits + noise, exactly, with logarithms only where they can
// matter.
//
// Only elements whose bound (math/prune.h) reaches the best score so far are evaluated.
#pragma once

#include "../../math/prune.h"
#include "../simd/reduce.h"
#include "scores.h"

namespace torch_gumbel::cpu::TG_ISA {

/// The best class of (a part of) a row. `score` is -inf if no class can be drawn and NaN if a logit
/// is NaN or +inf.
struct Best {
  double score = -__builtin_inf();
  int64_t index = 0;

  void offer(double other, int64_t at) {
    if (other > score || (other == score && at < index)) score = other, index = at;
  }
  void invalidate() { score = __builtin_nan(""), index = 0; }
  bool invalid() const { return score != score; }
  bool drawn() const { return score > -__builtin_inf(); }
};

/// Combines tiles of one row, in any order.
static inline void merge(Best& best, const TileStat& tile) {
  if (best.invalid()) return;
  if (tile.max != tile.max) return best.invalidate();
  best.offer(tile.max, tile.index);
}

/// An element can beat the best score only if its bound is at least this.
static inline float pruning_threshold(const Best& best) {
  return math::pruning_threshold(static_cast<float>(best.score));
}

/// Part of one row, and where the bounds of its scores go.
struct Bounded {
  float* bounds;  // scratch
  const float* x;
  const uint32_t* words;
  int64_t position;  // of the first word in its run
  int64_t count;
};

/// Offers the elements whose bound reaches the threshold.
static void offer_survivors(const Bounded& part, const WordRun& run, int64_t first_class,
                            float threshold, Best& best) {
  for (int64_t k = 0; k < part.count; k += kLanes) {
    uint32_t reached = lanes_at_least(Lanes<float>::load(part.bounds + k), threshold);
    if (reached == 0) continue;
    if (part.count - k < kLanes) reached &= (1u << (part.count - k)) - 1;
    for (; reached != 0; reached &= reached - 1) {
      const int64_t i = k + __builtin_ctz(reached);
      const uint32_t word = part.words[i];
      const uint32_t extension = word < math::kExtendBelow ? run.extension(part.position + i) : 0;
      best.offer(part.x[i] + math::gumbel(word, extension), first_class + i);
    }
  }
}

static inline bool any_nan(const float* values, int64_t count) {
  int unordered = 0;
  for (int64_t k = 0; k < count; ++k) unordered |= values[k] != values[k];
  return unordered != 0;
}

static inline bool any_finite(const float* x, int64_t count) {
  int finite = 0;
  for (int64_t k = 0; k < count; ++k) finite |= x[k] > -__builtin_inff();
  return finite != 0;
}

/// Maximum and sum of the bounds of a part.
struct Highest {
  float bound;
  float sum;  // NaN if a bound is
};

/// Bounds of a part, to scratch.
static inline Highest bound_scores(const float* x, const uint32_t* words, int64_t count,
                                   float* bounds) {
#if defined(__AVX2__)
  auto max = running_max();
  auto total = running_sum();
  for_each_vec<float>(0, count, [&](auto at) TG_INLINE {
    const auto bound = math::score_bound(at.load(x), at.load(words));
    at.store(bound, bounds);
    max.update(at, bound);
    total.update(at, bound);
  });
  return {max.total(), total.total()};
#else
  for (int64_t k = 0; k < count; ++k) bounds[k] = math::score_bound(x[k], words[k]);
  float sum;
  const float highest = max_and_sum_of(bounds, count, sum);
  return {highest, sum};
#endif
}

/// Where exp1 is about v, a bound is above its score by less than this. So the best is nearly always
/// among the elements this close to the highest bound, and then no other can reach it.
constexpr float kGuessedBelow = 0.22f * math::kOctave;

/// Best score of a part; `best` holds what earlier parts of the row gave.
static void prune_part(const Bounded& part, const Highest& of_part, const WordRun& run,
                       int64_t first_class, Best& best) {
  const float highest = of_part.bound;
  if (of_part.sum != of_part.sum && any_nan(part.bounds, part.count)) return best.invalidate();
  // Finite logits may have bounds of -inf, where they are huge.
  if (highest == -__builtin_inff() && !any_finite(part.x, part.count)) return;
  if (highest == __builtin_inff())
    for (int64_t k = 0; k < part.count; ++k)
      if (part.x[k] == __builtin_inff()) return best.invalidate();
  const float threshold = pruning_threshold(best);
  if (highest < threshold) return;
  const float guess = highest - kGuessedBelow;
  const float near = guess > threshold ? guess : threshold;
  offer_survivors(part, run, first_class, near, best);
  const float tightened = pruning_threshold(best);
  if (tightened < near) offer_survivors(part, run, first_class, tightened, best);
}

/// Best scores of a group's rows, whose words are consecutive, and which fit a tile; best[i] holds
/// what earlier classes gave. `x`: [rows][classes], what is searched.
static void prune_parts(const float* x, const Group& group, Best* best) {
  const int64_t rows = group.rows, count = group.classes;
  const WordRun run(group.words.key, group.words.first, rows * count,
                    prefetch_after(group, group.input));
  const uint32_t* words = run.words();
  alignas(64) float bounds[kTile + kLanes];
  Highest highest[kTile / kPruneFrom + 1];
  // All bounds first: a row's highest is known only after its last bound, which would stall the
  // pipeline.
  for (int64_t i = 0; i < rows; ++i)
    highest[i] = bound_scores(x + i * count, words + i * count, count, bounds + i * count);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = i * count;
    if (!best[i].invalid())
      prune_part({bounds + at, x + at, words + at, at, count}, highest[i], run, group.begin,
                 best[i]);
  }
}

}  // namespace torch_gumbel::cpu::TG_ISA
