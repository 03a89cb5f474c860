// SPDX-License-Identifier: Apache-2.0
// Exponentials of scores, a tile at a time, and what makes probabilities of them.
//
// A tile's exponentials are taken relative to the tile's own maximum. Its factor
//     exp((tile max - row max) / tau) / (sum over the row)
// then makes them probabilities, so a row needs its scores only once.
#pragma once

#include "scores.h"
#include "store.h"

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
static inline Factor<T> tile_factor(const TileStat& tile, const RowSum<T>& row,
                                    math::Exponent<T> scale, bool divided) {
  const T weight = math::exp_scaled(static_cast<T>(tile.max) - row.max, scale);
  return divided ? Factor<T>::quotient(weight, row.sum) : Factor<T>{weight / row.sum};
}

/// Scratch scores of one tile -> exponentials relative to its maximum; a tile of -inf becomes 0.
template <typename T>
static inline void exponentiate(T* scores, int64_t count, T reference, math::Exponent<T> scale) {
  constexpr int kStep = kVectorBytes / sizeof(T);
  const int64_t whole = kWholeRegisters<T> ? count : count / kStep * kStep, rest = count - whole;
  for_each_place<T>(0, whole, [&](auto at) TG_INLINE {
    at.store(math::exp_scaled(at.load(scores) - reference, scale), scores);
  });
  if (rest == 0) return;
  T tail[kStep];  // the values behind the tile are put back
  memcpy(tail, scores + whole, sizeof tail);
  for (int j = 0; j < kStep; ++j) {
    const T weight = math::exp_scaled(tail[j] - reference, scale);
    tail[j] = j < rest ? weight : tail[j];
  }
  memcpy(scores + whole, tail, sizeof tail);
}

template <typename T>
static inline T or_zero(T max) {
  return max > -static_cast<T>(__builtin_inf()) ? max : T{0};
}

/// Scratch scores of one tile become exponentials.
template <typename T>
static inline RowSum<T> soften_tile(T* scores, int64_t count, math::Exponent<T> scale) {
  const T max = max_of(scores, count);
  exponentiate(scores, count, or_zero(max), scale);
  return {max, sum_of(scores, count), 0};
}

/// Whether a row's exponentials are quotients, exp(x) / E: at a temperature of 1. Rows that may
/// stand side by side have none: an instruction set would show in their bits.
template <typename T>
static inline bool divides(const Arguments& a, double tau) {
  return sizeof(T) == sizeof(float) && a.rows.classes > kWidestSide && tau == 1.0;
}

/// Whether those of all rows of a group are.
template <typename T>
static inline bool divides(const Arguments& a, const Group& group) {
  const int64_t rows = uniform_tau(a, group) ? 1 : group.rows;
  for (int64_t i = 0; i < rows; ++i)
    if (!divides<T>(a, tau_at(a, row_of(group, i)))) return false;
  return true;
}

/// Quotients are taken relative to this: as far below the largest logit as leaves room for the
/// smallest E, 2^-65, above, and below for exponentials that a small E lifts.
template <typename T>
static inline T quotient_reference(T largest_logit) {
  return largest_logit - 16;
}

constexpr int64_t kShortRow = 256;  // up to here, rows take their exponentials in one flat pass

/// values[k] = exp(x[k] - reference) / E, for rows whose words follow each other.
static void divide_rows(const float* x, const float* exponentials, int64_t rows, int64_t classes,
                        const float* reference, float* values) {
  if (classes > kShortRow) {
    for (int64_t i = 0; i < rows; ++i) {
      const float zero = or_zero(reference[i]);
      for_each_place<float>(i * classes, (i + 1) * classes, [&](auto at) TG_INLINE {
        at.store(Weigh::apply(at.load(x) - zero, at.load(exponentials)), values);
      });
    }
    return;
  }
  alignas(64) float zeros[kTile + kLanes];
  for (int64_t i = 0; i < rows; ++i) fill_over(zeros + i * classes, classes, or_zero(reference[i]));
  for_each_place<float>(0, rows * classes, [&](auto at) TG_INLINE {
    at.store(Weigh::apply(at.load(x) - at.load(zeros), at.load(exponentials)), values);
  });
}

/// Exponentials of tiles of a group's rows, relative to `reference`, one for each row. `values` is
/// scratch, [rows][classes].
static void load_quotients(const Arguments& a, const Group& group, int64_t begin, int64_t classes,
                           float* values, float* reference) {
  const Strided logits = operand_matrix(a, group, Operand::kInput, begin);
  const float* x = values_of(logits, group.rows, classes, values);
  for (int64_t i = 0; i < group.rows; ++i)
    reference[i] = quotient_reference(max_of_memory(x + i * classes, classes));
  const Ahead ahead = ahead_of(a, group, begin, classes);
  if (words_run_together(a, group, classes)) {
    alignas(64) float exponentials[kTile];
    fill_exponentials(key_of(a, group.first),
                      static_cast<uint64_t>(group.first[Operand::kWord] + begin),
                      group.rows * classes, exponentials, ahead);
    return divide_rows(x, exponentials, group.rows, classes, reference, values);
  }
  for (int64_t i = 0; i < group.rows; ++i)
    subtract_over(x + i * classes, classes, or_zero(reference[i]), values + i * classes);
  take_group_noise<Weigh>(a, group, begin, classes, values, values, ahead);
}

/// Exponentials of one tile of one row, in scratch; `divided`: as quotients.
template <typename T>
static RowSum<T> load_exponentials(const Arguments& a, const Group& row, int64_t begin,
                                   int64_t count, bool divided, T* values) {
  if constexpr (std::is_same_v<T, float>)
    if (divided) {
      float reference;
      load_quotients(a, row, begin, count, values, &reference);
      return {reference, sum_of(values, count), 0};
    }
  load_scores(a, row, begin, count, values);
  return soften_tile(values, count, math::exponent_scale<T>(tau_at(a, row.first)));
}

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

/// What a row of one tile is multiplied by: tile_factor's bits.
template <typename T>
static inline Factor<T> single_factor(const RowSum<T>& sum, bool divided) {
  const T undefined = sum.max - sum.max;  // NaN if not finite
  auto factor = divided ? Factor<T>::quotient(T{1}, sum.sum) : Factor<T>{T{1} / sum.sum};
  factor.high += undefined;
  return factor;
}

}  // namespace torch_gumbel::cpu::TG_ISA
