// SPDX-License-Identifier: Apache-2.0
// Hard choice: the first maximum of logits + noise, exactly, with logarithms only where they can
// matter.
//
// Since E = -log1p(-v) >= v, an element's score x + g is at most x - log v. That bound costs one
// multiply-add, because the bits of a float, read as an integer, lie just below 2^23 times its
// logarithm. Only elements whose bound reaches the best score so far are evaluated. docs/design.md
// derives the margin.
#pragma once

#include "narrow.h"
#include "reduce.h"
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
  void spoil() { score = __builtin_nan(""), index = 0; }
  bool spoilt() const { return score != score; }
  bool drawn() const { return score > -__builtin_inf(); }
};

/// Combines tiles of one row, in any order.
static inline void merge(Best& best, const TileStat& tile) {
  if (best.spoilt()) return;
  if (tile.max != tile.max) return best.spoil();
  best.offer(tile.max, tile.index);
}

/// First maximum of evaluated scores.
template <typename T>
static inline Best best_of_scores(const T* scores, int64_t count, int64_t first_class) {
  Best best;
  T sum = 0;  // of zeros; NaN as soon as a score is NaN or +inf
  for (int64_t k = 0; k < count; ++k) {
    sum += scores[k] > -static_cast<T>(__builtin_inf()) || scores[k] != scores[k] ? scores[k] * 0
                                                                                  : T{0};
    if (scores[k] > best.score) best.score = scores[k], best.index = first_class + k;
  }
  if (sum != 0) best.spoil();
  return best;
}

constexpr float kOctave = 0x1p23f;                // the unit of bounds: 2^-23 octaves
constexpr float kBoundScale = 0x1.715476p+23f;    // kOctave log2(e)
constexpr float kBoundOffset = 158.0f * kOctave;  // bias of float exponents, and v = (w / 2) 2^-31
constexpr float kLargestBounded = 2e31f;          // beyond, bounds overflow
constexpr int64_t kPruneFrom = 256;               // shorter rows are evaluated whole

/// An element can beat a best score only if its bound is at least this.
static inline float pruning_threshold(double best) {
  const auto b = static_cast<float>(best);
  const float magnitude = b < 0 ? -b : b;
  if (!(magnitude < kLargestBounded)) return -__builtin_inff();
  const float slack = kOctave * (0x1p-14f + magnitude * 0x1p-20f);
  return math::fused(b, kBoundScale, -kBoundOffset) - slack;
}

/// Offers the elements whose bound reaches the threshold.
static void offer_survivors(const float* bounds, const float* x, const WordRun& run, int64_t count,
                            int64_t first_class, float threshold, Best& best) {
  constexpr int64_t kStep = 64;
  const uint32_t* words = run.words();
  for (int64_t k = 0; k < count; k += kStep) {
    const int64_t end = min64(k + kStep, count);
    int any = 0;
    for (int64_t i = k; i < end; ++i) any |= bounds[i] >= threshold;
    if (!any) continue;
    for (int64_t i = k; i < end; ++i)
      if (bounds[i] >= threshold) {
        const uint32_t extension = words[i] < math::kExtendBelow ? run.extension(i) : 0;
        best.offer(x[i] + math::gumbel(words[i], extension), first_class + i);
      }
  }
}

/// Best score of a tile of at most kTile classes; `best` holds what earlier tiles of the row gave.
static void prune_tile(const float* x, math::Key key, uint64_t position, int64_t count,
                       int64_t first_class, Best& best) {
  const WordRun run(key, position, count);
  const uint32_t* words = run.words();
  alignas(64) float bounds[kTile];
  int unordered = 0;
  for (int64_t k = 0; k < count; ++k) {
    const auto half_word = static_cast<float>(static_cast<int32_t>(words[k] >> 1));
    const auto log_word = static_cast<float>(math::bit_cast<int32_t>(half_word));
    const float bound = math::fused(x[k], kBoundScale, -log_word);
    bounds[k] = bound;
    unordered |= bound != bound;
  }
  if (unordered) return best.spoil();
  const float highest = max_of(bounds, count);
  if (highest == __builtin_inff())
    for (int64_t k = 0; k < count; ++k)
      if (x[k] == __builtin_inff()) return best.spoil();
  const float threshold = pruning_threshold(best.score);
  if (highest < threshold) return;
  // The element of the highest bound is a good guess at the best: with it the rest is nearly always
  // pruned.
  offer_survivors(bounds, x, run, count, first_class, highest, best);
  const float tightened = pruning_threshold(best.score);
  if (tightened <= highest) offer_survivors(bounds, x, run, count, first_class, tightened, best);
}

/// Best class of tile [begin, begin + count) of a row whose words follow each other.
static void choose_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                        bool scaled, Best& best) {
  alignas(64) float room[kTile];
  const float* x = values_of(operand_matrix(a, row, Operand::kInput, begin), 1, count, room);
  if (scaled) {
    const float inverse = math::inverse_temperature<float>(tau_at(a, row.first));
    for (int64_t k = 0; k < count; ++k) room[k] = math::scaled_logit(x[k], inverse);
    x = room;
  }
  prune_tile(x, key_of(a, row.first), static_cast<uint64_t>(row.first[Operand::kWord] + begin),
             count, begin, best);
}

/// The same by evaluating every score.
template <typename T>
static void evaluate_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                          bool scaled, Best& best, T* scores) {
  load_matrix(operand_matrix(a, row, Operand::kInput, begin), 1, count, scores);
  if (scaled) {
    const T inverse = math::inverse_temperature<T>(tau_at(a, row.first));
    for (int64_t k = 0; k < count; ++k) scores[k] = math::scaled_logit(scores[k], inverse);
  }
  add_group_noise(a, row, begin, count, scores, scores);
  const Best here = best_of_scores(scores, count, begin);
  merge(best, {.max = here.score, .index = here.index});
}

template <typename T>
static inline bool prunes(const Arguments& a) {
  return sizeof(T) == sizeof(float) && words_run_along_classes(a.rows) &&
         a.rows.classes >= kPruneFrom;
}

/// Best classes of tiles [begin, end) of one row, by the op's own convention of temperature.
template <typename T>
static Best choose_tiles(const Arguments& a, const Group& row, bool scaled, int64_t begin,
                         int64_t end, T* scores) {
  Best best;
  for (int64_t t = begin; t < end && !best.spoilt(); ++t) {
    const int64_t first = t * kTile, count = min64(kTile, a.rows.classes - first);
    if (prunes<T>(a))
      choose_tile(a, row, first, count, scaled, best);
    else
      evaluate_tile(a, row, first, count, scaled, best, scores);
  }
  return best;
}

/// Whether the sampler's temperature changes anything: a product with exactly 1 does not.
static inline bool scales(const Arguments& a) { return a.tau != nullptr || a.host_tau != 1.0; }

static inline Group single_row(const Group& group, int64_t i) {
  Group row = group;
  row.index += i;
  row.rows = 1;
  row.first = row_of(group, i);
  return row;
}

/// First maxima of narrow rows, side by side. Calls f(i, best) for every row.
template <typename T, typename F>
static void choose_narrow_rows(const T* scores, int64_t rows, int64_t classes, F&& f) {
  const T infinity = static_cast<T>(__builtin_inf());
  for (int64_t begin = 0; begin < rows; begin += kBlockRows) {
    const int64_t count = min64(kBlockRows, rows - begin);
    const Columns<T> block(scores + begin * classes, count, classes);
    T top[kBlockRows], at[kBlockRows], bad[kBlockRows];
    for (int r = 0; r < kBlockRows; ++r) top[r] = -infinity, at[r] = 0, bad[r] = 0;
    for (int k = 0; k < classes; ++k)
      for (int r = 0; r < kBlockRows; ++r) {
        const T score = block.at[k][r];
        at[r] = score > top[r] ? static_cast<T>(k) : at[r];
        top[r] = score > top[r] ? score : top[r];
        bad[r] = score < infinity ? bad[r] : T{1};
      }
    for (int r = 0; r < count; ++r) {
      Best best = {top[r], static_cast<int64_t>(at[r])};
      if (bad[r] != 0) best.spoil();
      f(begin + r, best);
    }
  }
}

/// Scores of a group, by the op's own convention of temperature.
template <typename T>
static void load_choice_scores(const Arguments& a, const Group& group, bool scaled, T* scores) {
  const int64_t classes = a.rows.classes;
  if (!scaled) return load_scores(a, group, 0, classes, scores);
  load_matrix(operand_matrix(a, group, Operand::kInput, 0), group.rows, classes, scores);
  for (int64_t i = 0; i < group.rows; ++i) {
    const T inverse = math::inverse_temperature<T>(tau_at(a, row_of(group, i)));
    T* row = scores + i * classes;
    for (int64_t k = 0; k < classes; ++k) row[k] = math::scaled_logit(row[k], inverse);
  }
  add_group_noise(a, group, 0, classes, scores, scores);
}

/// Calls f(i, best) for every row i of a group.
template <typename T, typename F>
static void choose_group(const Arguments& a, const Group& group, bool scaled, T* scores, F&& f) {
  const int64_t classes = a.rows.classes;
  if (prunes<T>(a)) {
    for (int64_t i = 0; i < group.rows; ++i)
      f(i, choose_tiles(a, single_row(group, i), scaled, 0, tiles_of(classes), scores));
    return;
  }
  load_choice_scores(a, group, scaled, scores);
  if (classes <= kLanes) return choose_narrow_rows(scores, group.rows, classes, f);
  for (int64_t i = 0; i < group.rows; ++i) f(i, best_of_scores(scores + i * classes, classes, 0));
}

template <typename T>
static inline void write_choice(const Arguments& a, int64_t row, const Best& best) {
  a.index[row] = best.index;
  if (a.row_value != nullptr) static_cast<T*>(a.row_value)[row] = static_cast<T>(best.score);
}

template <typename T>
static void argmax_group(const Arguments& a, const Group& group, T* scores) {
  choose_group(a, group, scales(a), scores,
               [&](int64_t i, const Best& best) { write_choice<T>(a, group.index + i, best); });
}

/// Zeros in classes [begin, begin + count) of a group's rows, in as few runs as they lie in.
static inline void clear_output(const Arguments& a, const Group& group, int64_t begin,
                                int64_t count) {
  const Strided to = operand_matrix(a, group, Operand::kOutput, begin);
  auto* bytes = static_cast<char*>(const_cast<void*>(to.data));
  const int64_t size = element_size(to.type);
  const int64_t row_bytes = to.row_step * size, class_bytes = to.class_step * size;
  if (to.class_step == 1 && (group.rows == 1 || to.row_step == count)) {
    memset(bytes, 0, group.rows * count * size);
  } else if (to.class_step == 1) {
    for (int64_t i = 0; i < group.rows; ++i) memset(bytes + i * row_bytes, 0, count * size);
  } else {
    const int64_t run = to.row_step == 1 ? group.rows : 1;
    for (int64_t k = 0; k < count; ++k)
      for (int64_t i = 0; i < group.rows; i += run)
        memset(bytes + i * row_bytes + k * class_bytes, 0, run * size);
  }
}

static inline void write_output(const Arguments& a, const Group& group, int64_t i,
                                int64_t class_index, float value) {
  const int64_t at = group.first[Operand::kOutput] + i * group.step_of(Operand::kOutput) +
                     class_index * a.rows.step(Operand::kOutput);
  with_elements(a.output_type, a.output, [&](auto* elements) {
    using Element = std::remove_const_t<std::remove_pointer_t<decltype(elements)>>;
    const_cast<Element*>(elements)[at] = narrow<Element>(value);
  });
}

/// The 1 of cleared row i among classes [begin, begin + count), or NaN in all of them if the row
/// has no distribution.
static inline void mark_choice(const Arguments& a, const Group& group, int64_t i, int64_t begin,
                               int64_t count, const Best& best) {
  // A row's offsets cost more than a narrow row does: only where its temperature is its own.
  const double tau = a.tau == nullptr ? a.host_tau : tau_at(a, row_of(group, i));
  if (best.drawn() && math::valid_temperature(tau)) {
    if (best.index >= begin && best.index < begin + count)
      write_output(a, group, i, best.index, 1.0f);
  } else {
    for (int64_t k = begin; k < begin + count; ++k)
      write_output(a, group, i, k, __builtin_nanf(""));
  }
}

template <typename T>
static void hard_group(const Arguments& a, const Group& group, T* scores) {
  const int64_t classes = a.rows.classes;
  clear_output(a, group, 0, classes);
  choose_group(a, group, false, scores,
               [&](int64_t i, const Best& best) { mark_choice(a, group, i, 0, classes, best); });
}

}  // namespace torch_gumbel::cpu::TG_ISA
