// SPDX-License-Identifier: Apache-2.0
// Soft sample: y = softmax((logits + g) / tau).
//
// A tile's exponentials are taken relative to the tile's own maximum. Its factor
//     exp((tile max - row max) / tau) / (sum over the row)
// then makes them probabilities, so a row needs its scores only once.
#pragma once

#include "narrow.h"
#include "reduce.h"
#include "scores.h"

namespace torch_gumbel::cpu::TG_ISA {

/// What a row's tiles combine to.
template <typename T>
struct RowSum {
  T max;
  T sum;
  T dot;
};

template <typename T>
static inline RowSum<T> combine(const TileStat* stats, int64_t tiles, math::Exponent<T> scale) {
  const T lowest = -static_cast<T>(__builtin_inf());
  RowSum<T> row = {lowest, 0, 0};
  for (int64_t t = 0; t < tiles; ++t)
    row.max = static_cast<T>(stats[t].max) > row.max ? static_cast<T>(stats[t].max) : row.max;
  const T reference = row.max > lowest ? row.max : T{0};
  for (int64_t t = 0; t < tiles; ++t) {
    const T weight = math::exp_scaled(static_cast<T>(stats[t].max) - reference, scale);
    row.sum += static_cast<T>(stats[t].sum) * weight;
    row.dot += static_cast<T>(stats[t].dot) * weight;
  }
  return row;
}

/// What a tile's exponentials are multiplied by. NaN for a row that has no distribution: NaN or
/// +inf among its logits makes the sum NaN, and without a finite logit max - max is NaN.
template <typename T>
static inline T tile_factor(const TileStat& tile, const RowSum<T>& row, math::Exponent<T> scale) {
  return math::exp_scaled(static_cast<T>(tile.max) - row.max, scale) / row.sum;
}

/// scores -> scores - max; returns the maximum. A tile of -inf keeps them, so that its exponentials
/// are 0.
template <typename T>
static inline T subtract_max(T* scores, int64_t count) {
  const T max = max_of(scores, count);
  const T reference = max > -static_cast<T>(__builtin_inf()) ? max : T{0};
  for (int64_t k = 0; k < count; ++k) scores[k] -= reference;
  return max;
}

template <typename T>
static inline void exponentiate(T* scores, int64_t count, math::Exponent<T> scale) {
  for (int64_t k = 0; k < count; ++k) scores[k] = math::exp_scaled(scores[k], scale);
}

/// Scores of one row, [classes], become tile-relative exponentials.
template <typename T>
static void soften_row(T* scores, int64_t classes, math::Exponent<T> scale, TileStat* stats) {
  for (int64_t begin = 0, t = 0; begin < classes; begin += kTile, ++t) {
    const int64_t count = min64(kTile, classes - begin);
    stats[t].max = subtract_max(scores + begin, count);
    exponentiate(scores + begin, count, scale);
    stats[t].sum = sum_of(scores + begin, count);
  }
}

constexpr int64_t kGroupTiles = kLongRow / kTile;

/// log-sum-exp of (logits + g) / tau; -inf for a row without a finite logit.
template <typename T>
static inline void write_lse(const Arguments& a, int64_t row, const RowSum<T>& sum, double tau) {
  if (a.row_value == nullptr) return;
  const T lse = sum.max * math::inverse_temperature<T>(tau) + math::log_normal(sum.sum);
  const T nothing = -static_cast<T>(__builtin_inf());
  static_cast<T*>(a.row_value)[row] = sum.max == nothing && sum.sum == 0 ? nothing
                                      : sum.sum > 0                      ? lse
                                                                         : sum.sum;
}

/// soften_group for rows of one tile and one temperature: as many rows as fill a tile get their
/// exponentials in one flat pass. Gives the bits that the general form gives.
template <typename T, typename F>
static void soften_short_rows(const Group& group, int64_t classes, double tau, T* scores,
                              F&& each_row) {
  const auto scale = math::exponent_scale<T>(tau);
  const int64_t step = kTile / classes;
  T max[kTile / kLanes];
  for (int64_t begin = 0; begin < group.rows; begin += step) {
    const int64_t count = min64(step, group.rows - begin);
    T* rows = scores + begin * classes;
    for (int64_t i = 0; i < count; ++i) max[i] = subtract_max(rows + i * classes, classes);
    exponentiate(rows, count * classes, scale);
    for (int64_t i = 0; i < count; ++i) {
      T* row = rows + i * classes;
      const RowSum<T> sum = {max[i], sum_of(row, classes), 0};
      each_row(begin + i, sum, tau);
      const T factor = T{1} / sum.sum + (max[i] - max[i]);  // NaN if the maximum is not finite
      for (int64_t k = 0; k < classes; ++k) row[k] *= factor;
    }
  }
}

/// The same for rows of at most kLanes classes.
template <typename T, typename F>
static void soften_narrow_rows(const Group& group, int64_t classes, double tau, T* scores,
                               F&& each_row) {
  const auto scale = math::exponent_scale<T>(tau);
  const T lowest = -static_cast<T>(__builtin_inf());
  for (int64_t begin = 0; begin < group.rows; begin += kBlockRows) {
    const int64_t count = min64(kBlockRows, group.rows - begin);
    Columns<T> block(scores + begin * classes, count, classes);
    T max[kBlockRows], sum[kBlockRows], reference[kBlockRows], factor[kBlockRows];
    block.max(max);
    for (int r = 0; r < kBlockRows; ++r) reference[r] = max[r] > lowest ? max[r] : T{0};
    for (int k = 0; k < classes; ++k)
      for (int r = 0; r < kBlockRows; ++r)
        block.at[k][r] = math::exp_scaled(block.at[k][r] - reference[r], scale);
    block.sum(sum);
    for (int r = 0; r < kBlockRows; ++r) factor[r] = T{1} / sum[r] + (max[r] - max[r]);
    for (int k = 0; k < classes; ++k)
      for (int r = 0; r < kBlockRows; ++r) block.at[k][r] *= factor[r];
    for (int r = 0; r < count; ++r) each_row(begin + r, RowSum<T>{max[r], sum[r], 0}, tau);
    block.store(scores + begin * classes, count);
  }
}

/// Scores of a group, [rows][classes], become probabilities; `each_row(i, row_sum, tau)` sees every
/// row before it is scaled.
template <typename T, typename F>
static void soften_group(const Arguments& a, const Group& group, T* scores, F&& each_row) {
  const int64_t classes = a.rows.classes;
  if (classes <= kLanes && uniform_tau(a, group))
    return soften_narrow_rows(group, classes, tau_at(a, group.first), scores, each_row);
  if (classes <= kTile && uniform_tau(a, group))
    return soften_short_rows(group, classes, tau_at(a, group.first), scores, each_row);
  TileStat stats[kGroupTiles];
  for (int64_t i = 0; i < group.rows; ++i) {
    const double tau = tau_at(a, row_of(group, i));
    const auto scale = math::exponent_scale<T>(tau);
    T* row = scores + i * classes;
    soften_row(row, classes, scale, stats);
    const RowSum<T> sum = combine(stats, tiles_of(classes), scale);
    each_row(i, sum, tau);
    for (int64_t begin = 0, t = 0; begin < classes; begin += kTile, ++t) {
      const T factor = tile_factor(stats[t], sum, scale);
      const int64_t end = min64(begin + kTile, classes);
      for (int64_t k = begin; k < end; ++k) row[k] *= factor;
    }
  }
}

template <typename T>
static void soft_group(const Arguments& a, const Group& group, T* scores) {
  load_scores(a, group, 0, a.rows.classes, scores);
  soften_group(a, group, scores, [&](int64_t i, const RowSum<T>& sum, double tau) {
    write_lse(a, group.index + i, sum, tau);
  });
  store_matrix(scores, group.rows, a.rows.classes, operand_matrix(a, group, Operand::kOutput, 0));
}

/// Whether a long row's exponentials can wait in the output for their factor; otherwise they are
/// made again.
template <typename T>
static inline bool kept_in_output(const Arguments& a) {
  return a.output_type == TypeOf<T>::value && a.rows.step(Operand::kOutput) == 1;
}

template <typename T>
static inline T* output_of(const Arguments& a, const Row& row, int64_t class_begin) {
  return static_cast<T*>(a.output) + row[Operand::kOutput] + class_begin;
}

template <typename T>
static void soft_reduce_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                             TileStat& stat, T* scores) {
  load_scores(a, row, begin, count, scores);
  soften_row(scores, count, math::exponent_scale<T>(tau_at(a, row.first)), &stat);
  if (kept_in_output<T>(a)) memcpy(output_of<T>(a, row.first, begin), scores, count * sizeof(T));
}

/// The probabilities of a tile of a long row, in `scores` or in the output.
template <typename T>
static T* finished_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                        T factor, T* scores) {
  T* values = kept_in_output<T>(a) ? output_of<T>(a, row.first, begin) : scores;
  if (values == scores) {
    TileStat again;
    load_scores(a, row, begin, count, scores);
    soften_row(scores, count, math::exponent_scale<T>(tau_at(a, row.first)), &again);
  }
  for (int64_t k = 0; k < count; ++k) values[k] *= factor;
  return values;
}

template <typename T>
static void soft_finish_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                             T factor, T* scores) {
  const T* values = finished_tile(a, row, begin, count, factor, scores);
  if (values == scores)
    store_matrix(scores, 1, count, operand_matrix(a, row, Operand::kOutput, begin));
}

}  // namespace torch_gumbel::cpu::TG_ISA
