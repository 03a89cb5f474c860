// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples and their gradient (csrc/math/subset.h), a row at a time in scratch.
#pragma once

#include "../simd/reduce.h"
#include "../simd/store.h"
#include "../subset_params.h"
#include "group.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Calls f(first class, how many) for the tiles of a row.
template <typename F>
static inline void for_each_tile(int64_t classes, F&& f) {
  for (int64_t k = 0; k < classes; k += kTile) f(k, min64(kTile, classes - k));
}

/// The scores of a row in one round, and their weights.
template <typename T>
struct SubsetRow {
  T *r, *e;  // e = exp((r - reference) / tau)
  int64_t classes;
  double tau;
  math::Exponent<T> scale;
  T max, reference;
  double sum;  // of e

  SubsetRow(T* scores, T* weights, int64_t count, double temperature)
      : r(scores),
        e(weights),
        classes(count),
        tau(temperature),
        scale(math::exponent_scale<T>(temperature)) {}

  /// Weights relative to the largest score.
  void weigh(T to) {
    reference = to, sum = 0;
    for_each_tile(classes, [&](int64_t first, int64_t count) {
      const T* from = r + first;
      sum += make_and_sum(e + first, 0, count, [&](auto at) TG_INLINE {
        return math::exp_scaled(at.load(from) - reference, scale);
      });
    });
  }
  T weight(T score) const { return math::exp_scaled(score - reference, scale); }
};

/// What a round does to a row. `largest`: the class of more than half of it, or -1.
template <typename T>
struct SubsetRound {
  int64_t largest = -1;
  T score = 0, a = 0;   // of that class
  T rest = 1, share;    // the weights of csrc/math/subset.h are e share
  double log_rest = 0;  // of that class
  T max;                // score of which u is 0
};

/// Takes that class out of the row, if there is one.
template <typename T>
static SubsetRound<T> begin_round(SubsetRow<T>& row) {
  const double peak = static_cast<double>(row.weight(row.max));
  SubsetRound<T> round;
  round.max = row.max, round.share = static_cast<T>(1 / row.sum);
  if (!(2 * peak > row.sum)) return round;
  round.largest = 0;
  while (row.r[round.largest] != row.max) ++round.largest;
  const T nothing = -static_cast<T>(__builtin_inf());
  round.score = row.max;
  round.a = static_cast<T>(peak / row.sum);
  row.r[round.largest] = nothing, row.e[round.largest] = 0;
  double others = 0, down = 0;
  for_each_tile(row.classes, [&](int64_t k, int64_t count) { others += sum_of(row.e + k, count); });
  if (others < 0x1p-60) {  // of weights that are 0: relative to their own largest
    const T second = max_of(row.r, row.classes);
    if (second > nothing) {
      down = (static_cast<double>(second) - static_cast<double>(row.max)) / row.tau;
      row.weigh(second);
      others = row.sum;
    }
  } else {
    down = -math::log_normal(peak);
  }
  const double log_others = others > 0 ? math::log_normal(others) + down : -__builtin_inf();
  round.log_rest = math::log_rest_of_largest(log_others);
  round.rest = static_cast<T>(math::exp_scaled(round.log_rest, math::Exponent<double>{1, 0}));
  round.share = others > 0 ? static_cast<T>(1 / others) : T{0};
  return round;
}

/// y += a, of all but that class.
template <typename T>
static void add_round(const SubsetRow<T>& row, const SubsetRound<T>& round, T* y) {
  const T share = round.share * round.rest;
  for_each_vec<T>(0, row.classes, [&](auto at) TG_INLINE {
    at.store(at.load(y) + at.load(row.e) * share, y);
  });
}

/// The same, and r += log(1 - a), and weights of that.
template <typename T>
static void pass_round(SubsetRow<T>& row, const SubsetRound<T>& round, T* y) {
  const T share = round.share * round.rest, reference = row.reference;
  const math::Exponent<T> scale = row.scale;
  double sum = 0;
  for_each_tile(row.classes, [&](int64_t first, int64_t count) {
    T *r = row.r + first, *e = row.e + first, *to = y + first;
    sum += make_and_sum(e, 0, count, [&](auto at) TG_INLINE {
      const auto a = at.load(e) * share;
      at.store(at.load(to) + a, to);
      const auto next = at.load(r) + math::log_rest(a);
      at.store(next, r);
      return math::exp_scaled(next - reference, scale);
    });
  });
  row.sum = sum;
  row.max = max_of(row.r, row.classes);
}

/// Puts that class back, and keeps the weights in range.
template <typename T>
static void end_round(SubsetRow<T>& row, const SubsetRound<T>& round) {
  if (round.largest >= 0) {
    const T score = static_cast<T>(static_cast<double>(round.score) + round.log_rest);
    row.r[round.largest] = score;
    row.e[round.largest] = score > row.reference ? T{0} : row.weight(score);
    row.sum += static_cast<double>(row.e[round.largest]);
    if (score > row.max) row.max = score;
  }
  if (row.max > row.reference || row.weight(row.max) < static_cast<T>(0x1p-30)) row.weigh(row.max);
}

/// Where the backward finds the rounds of a row again: `classes` weights each, and scores or null.
template <typename T>
struct KeptRounds {
  SubsetRound<T>* rounds;
  T *weights, *scores;
  int64_t pitch;

  void keep_scores(const SubsetRow<T>& row, int64_t j) const {
    if (scores != nullptr) memcpy(scores + j * pitch, row.r, row.classes * sizeof(T));
  }
  void keep(const SubsetRow<T>& row, const SubsetRound<T>& round, int64_t j) const {
    rounds[j] = round;
    T* to = weights + j * pitch;
    for_each_vec<T>(0, row.classes,
                    [&](auto at) TG_INLINE { at.store(at.load(row.e) * round.share, to); });
  }
};

/// Whether a row has a k-hot; its scores are then copied to the row.
template <typename T>
static bool begin_row(SubsetRow<T>& row, const T* x, int64_t k) {
  int64_t finite = 0, bad = 0;
  const T infinity = static_cast<T>(__builtin_inf());
  for (int64_t i = 0; i < row.classes; ++i) {
    finite += x[i] > -infinity;
    bad += !(x[i] < infinity);
  }
  if (bad != 0 || finite < k || !math::valid_temperature(row.tau)) return false;
  memcpy(row.r, x, row.classes * sizeof(T));
  row.max = max_of(row.r, row.classes);
  row.weigh(row.max);
  return true;
}

/// The k-hot of a row; `kept`: null, or for the backward.
template <typename T>
static void run_rounds(SubsetRow<T>& row, int64_t k, T* y, const KeptRounds<T>* kept) {
  for (int64_t i = 0; i < row.classes; ++i) y[i] = 0;
  for (int64_t j = 0; j < k; ++j) {
    if (kept != nullptr) kept->keep_scores(row, j);
    const SubsetRound<T> round = begin_round(row);
    if (kept != nullptr) kept->keep(row, round, j);
    if (j + 1 == k)
      add_round(row, round, y);
    else
      pass_round(row, round, y);
    if (round.largest >= 0) y[round.largest] += round.a;
    if (j + 1 < k) end_round(row, round);
  }
}

template <typename T>
static void subset_forward(const SubsetCall& a, int64_t begin, int64_t end, T* scratch) {
  const int64_t classes = a.rows.classes, pitch = a.pitch(), most = a.plan.rows_per_group;
  T *values = scratch, *sums = values + most * pitch, *r = sums + most * pitch, *e = r + pitch;
  for_each_group(a, begin, end, most, [&](const Group& group) {
    const T* x = values_of(group, group.input, values);
    T* direct = packed_values<T>(group.output, group.rows, classes);
    T* y = direct != nullptr ? direct : sums;
    for (int64_t i = 0; i < group.rows; ++i) {
      SubsetRow<T> row(r, e, classes, group.tau_of(i));
      T* to = y + i * classes;
      if (begin_row(row, x + i * classes, a.k))
        run_rounds(row, a.k, to, static_cast<const KeptRounds<T>*>(nullptr));
      else
        for (int64_t c = 0; c < classes; ++c) to[c] = static_cast<T>(__builtin_nan(""));
    }
    if (direct == nullptr) store_group(y, group.rows, classes, group.output, false);
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
