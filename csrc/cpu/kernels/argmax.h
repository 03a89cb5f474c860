// SPDX-License-Identifier: Apache-2.0
// Argmax: the class of each row's first maximum, long rows by pruning, others by evaluating every
// score.
#pragma once

#include "first_maximum.h"
#include "prune.h"
#include "small_rows.h"

namespace torch_gumbel::cpu::TG_ISA {

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
  if (sum != 0) best.invalidate();
  return best;
}

/// Whether a score is NaN or +inf.
template <typename T>
static inline bool any_undefined(const T* scores, int64_t count) {
  int bad = 0;
  for (int64_t k = 0; k < count; ++k) bad |= !(scores[k] < static_cast<T>(__builtin_inf()));
  return bad != 0;
}

/// Logits of a group, in place or in `buffer`, by the op's own convention of temperature.
template <typename T>
static const T* search_logits(const Group& group, bool scaled, T* buffer) {
  const T* x = values_of(group, group.input, buffer);
  if (!scaled) return x;
  for (int64_t i = 0; i < group.rows; ++i) {
    const T inverse = math::sampling_inverse_of<T>(group.tau_of(i));
    for (int64_t k = i * group.classes; k < (i + 1) * group.classes; ++k)
      buffer[k] = math::scaled_logit(x[k], inverse);
  }
  return buffer;
}

/// Whether a row of the sampler's convention is greedy: its argmax without noise.
static inline bool is_greedy(const Group& group, int64_t i, bool scaled) {
  return scaled && math::without_noise(group.tau_of(i));
}

/// Whether some row of a group is.
static inline bool any_greedy(const Group& group, bool scaled) {
  const int64_t rows = group.uniform_tau() ? 1 : group.rows;
  for (int64_t i = 0; scaled && i < rows; ++i)
    if (is_greedy(group, i, scaled)) return true;
  return false;
}

/// Best class of a tile of one row, by the op's own convention of temperature; `best` holds what
/// earlier tiles gave.
template <typename T>
static void search_tile(const PlannedParams& a, const Group& tile, bool scaled, Best& best,
                        T* scores) {
  const bool greedy = is_greedy(tile, 0, scaled);
  const T* x = search_logits(tile, scaled && !greedy, scores);
  if constexpr (std::is_same_v<T, float>)
    if (a.plan.prunes && !greedy) return prune_parts(x, tile, &best);
  if (!greedy) apply_group_noise<AddNoise>(tile, x, scores);
  const Best here = best_of_scores(greedy ? x : scores, tile.classes, tile.begin);
  merge(best, {.max = here.score, .index = here.index});
}

/// Whether the sampler's temperature changes anything: a product with exactly 1 does not.
static inline bool scales(const PlannedParams& a) { return a.tau != nullptr || a.host_tau != 1.0; }

/// Transposed rows: the class of each row's first maximum in `index`, the score in `top`. Returns
/// whether some row may be undefined: a score is NaN or +inf, or all are -inf.
template <int width, typename T>
TG_STAGE bool search_transposed(const T* padded, int classes, T* index, T* top) {
  const auto transposed = Transposed<T, width>::load(padded);
  const auto infinity = Vec<T>{} + static_cast<T>(__builtin_inf());
  auto largest = -infinity, at = Vec<T>{}, bad = Vec<T>{};
  for (int k = 0; k < classes; ++k) {
    const auto score = transposed.of_class(k);
    at = score > largest ? Vec<T>{} + static_cast<T>(k) : at;
    largest = score > largest ? score : largest;
    bad = score < infinity ? bad : Vec<T>{} + T{1};
  }
  bad = largest > -infinity ? bad : Vec<T>{} + T{1};
  storeu(at, index);
  storeu(largest, top);
  T each[kVecRows<T>];
  storeu(bad, each);
  T any = 0;
  for (T one : each) any += one;
  return any != 0;
}

/// First maxima of small rows, block by block: f(width, first row, rows, index, top), with `top`
/// null where best_of_scores must look at each row. Row i of a block is at transposed_index<T,
/// width>(i).
template <typename T, typename F>
static void search_small_rows(const T* scores, int64_t rows, int64_t classes, F&& f) {
  alignas(64) T padded[kPadded], index[kPadded], top[kPadded];
  for_each_padded_block<T>(rows, classes, [&](auto width, int64_t begin, int64_t block_rows) {
    constexpr int kWidth = decltype(width)::value;
    pad_rows<kWidth>(scores + begin * classes, block_rows, classes, padded);
    bool bad = false;
    for (int64_t i = 0; i < block_rows; i += kVecRows<T>)
      bad |= search_transposed<kWidth>(padded + i * kWidth, static_cast<int>(classes), index + i,
                                       top + i);
    f(width, begin, block_rows, index, bad ? nullptr : top);
  });
}

/// Scores of a group, by the op's own convention of temperature.
template <typename T>
static void load_search_scores(const Group& group, bool scaled, T* scores) {
  const bool greedy = any_greedy(group, scaled);
  if (greedy && group.uniform_tau())
    return load_matrix(group.input, group.rows, group.classes, scores);
  const T* x = search_logits(group, scaled, scores);
  apply_group_noise<AddNoise>(group, x, scores);
  for (int64_t i = 0; greedy && i < group.rows; ++i)
    if (is_greedy(group, i, scaled))
      load_matrix(part_of(group.input, i, 0), 1, group.classes, scores + i * group.classes);
}

/// Calls f(i, best) for every row i of a group that prunes. Rows whose words are consecutive are
/// processed together, as many as fill a tile.
template <typename F>
static void prune_group(const PlannedParams& a, const Group& group, bool scaled, float* buffer,
                        F&& f) {
  if (group.classes <= kTile && words_run_together(group) && !any_greedy(group, scaled)) {
    Best best[kTile / kPruneFrom];
    prune_parts(search_logits(group, scaled, buffer), group, best);
    for (int64_t i = 0; i < group.rows; ++i) f(i, best[i]);
    return;
  }
  for (int64_t i = 0; i < group.rows; ++i) {
    const Group row = rows_of(group, i, 1);
    Best best;
    for (int64_t k = 0; k < row.classes && !best.invalid(); k += kTile)
      search_tile(a, classes_of(row, k, min64(kTile, row.classes - k)), scaled, best, buffer);
    f(i, best);
  }
}

/// Calls f(i, best) for every row i of a group.
template <typename T, typename F>
static void search_group(const PlannedParams& a, const Group& group, bool scaled, T* scores,
                         F&& f) {
  const int64_t classes = group.classes;
  if constexpr (std::is_same_v<T, float>)
    if (a.plan.prunes) return prune_group(a, group, scaled, scores, f);
  load_search_scores(group, scaled, scores);
  const bool bad = any_undefined(scores, group.rows * classes);
  for (int64_t i = 0; i < group.rows; ++i) {
    const T* row = scores + i * classes;
    if (bad) {
      f(i, best_of_scores(row, classes, 0));
    } else {
      const auto first = first_maximum(row, classes);
      f(i, Best{first.value, first.index});
    }
  }
}

template <typename T>
static inline void write_choice(const PlannedParams& a, int64_t row, const Best& best) {
  a.index[row] = best.index;
  if (a.row_value != nullptr) static_cast<T*>(a.row_value)[row] = static_cast<T>(best.score);
}

/// argmax_group of rows of at most kVecRows classes.
template <typename T>
static void argmax_small(const PlannedParams& a, const Group& group, T* scores) {
  const int64_t classes = group.classes;
  load_search_scores(group, scales(a), scores);
  search_small_rows(
      scores, group.rows, classes,
      [&](auto width, int64_t begin, int64_t rows, const T* index, const T* top) {
        constexpr int kWidth = decltype(width)::value;
        const int64_t first = group.index + begin;
        auto* score = static_cast<T*>(a.row_value);
        for (int64_t i = 0; i < rows; ++i) {
          if (top == nullptr)
            write_choice<T>(a, first + i,
                            best_of_scores(scores + (begin + i) * classes, classes, 0));
          else
            a.index[first + i] = static_cast<int64_t>(index[transposed_index<T, kWidth>(i)]);
        }
        for (int64_t i = 0; score != nullptr && top != nullptr && i < rows; ++i)
          score[first + i] = top[transposed_index<T, kWidth>(i)];
      });
}

template <typename T>
static void argmax_group(const PlannedParams& a, const Group& group, T* scores) {
  if (group.classes <= kVecRows<T>) return argmax_small(a, group, scores);
  search_group(a, group, scales(a), scores,
               [&](int64_t i, const Best& best) { write_choice<T>(a, group.index + i, best); });
}

}  // namespace torch_gumbel::cpu::TG_ISA
