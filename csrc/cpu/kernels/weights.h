// SPDX-License-Identifier: Apache-2.0
// Unnormalised weights exp((score - max) / tau), a tile at a time, and the factors that make
// probabilities of them.
//
// A tile's weights are computed relative to the tile's own maximum. Its factor
//     exp((tile max - row max) / tau) / (sum over the row)
// then makes them probabilities, so a row needs its scores only once.
#pragma once

#include "../simd/store.h"
#include "first_maximum.h"
#include "scores.h"

namespace torch_gumbel::cpu::TG_ISA {

/// The combined tiles of a row.
template <typename T>
struct RowSum {
  T max;
  T sum;
  T dot;
  int64_t top = 0;  // the class of the first maximum, where it is requested

  /// Whether the row has a distribution.
  bool defined() const { return sum > 0; }
};

template <typename T>
static inline RowSum<T> combine(const TileStat* stats, int64_t tiles, math::Exponent<T> scale) {
  const T lowest = -static_cast<T>(__builtin_inf());
  RowSum<T> row = {lowest, 0, 0};
  for (int64_t t = 0; t < tiles; ++t)
    if (static_cast<T>(stats[t].max) > row.max)
      row.max = static_cast<T>(stats[t].max), row.top = stats[t].index;
  const T reference = row.max > lowest ? row.max : T{0};
  for (int64_t t = 0; t < tiles; ++t) {
    const T weight = math::exp_scaled(static_cast<T>(stats[t].max) - reference, scale);
    row.sum += static_cast<T>(stats[t].sum) * weight;
    row.dot += static_cast<T>(stats[t].dot) * weight;
  }
  return row;
}

/// The factor of a tile's weights. NaN for a row that has no distribution: NaN or +inf among its
/// logits makes the sum NaN, and without a finite logit max - max is NaN.
template <typename T>
static inline Factor<T> tile_factor(const TileStat& tile, const RowSum<T>& row,
                                    math::Exponent<T> scale, bool divided) {
  const T weight = math::exp_scaled(static_cast<T>(tile.max) - row.max, scale);
  return divided ? Factor<T>::quotient(weight, row.sum) : Factor<T>{weight / row.sum};
}

/// Scratch scores of one tile -> weights relative to its maximum; a tile of -inf becomes 0. Returns
/// their sum.
template <typename T>
static inline T exponentiate(T* scores, int64_t count, T reference, math::Exponent<T> scale) {
  constexpr int kStep = kVectorBytes / sizeof(T);
  const int64_t whole = kVectorized<T> ? count : count / kStep * kStep, rest = count - whole;
  const int64_t misaligned = misalignment(scores);
  T* from = scores - misaligned;
  const auto weight_of = [&](auto at) TG_INLINE {
    return math::exp_scaled(at.load(from) - reference, scale);
  };
  if (rest == 0) return make_and_sum(from, misaligned, misaligned + count, weight_of);
  for_each_vec<T>(0, whole, [&](auto at) TG_INLINE { at.store(weight_of(at), scores); });
  T tail[kStep];  // the values past the tile are restored
  memcpy(tail, scores + whole, sizeof tail);
  for (int j = 0; j < kStep; ++j) {
    const T weight = math::exp_scaled(tail[j] - reference, scale);
    tail[j] = j < rest ? weight : tail[j];
  }
  memcpy(scores + whole, tail, sizeof tail);
  return sum_of(scores, count);
}

template <typename T>
static inline T or_zero(T max) {
  return max > -static_cast<T>(__builtin_inf()) ? max : T{0};
}

/// Scores of one tile, `max` the largest, become weights. `with_argmax`: whether to find `top`.
template <typename T>
static inline RowSum<T> tile_weights(T* scores, int64_t count, T max, math::Exponent<T> scale,
                                     bool with_argmax) {
  const int64_t top = with_argmax ? first_at_least(scores, count, max) : 0;
  return {max, exponentiate(scores, count, or_zero(max), scale), 0, top};
}

/// Weights of a group's rows, of one temperature, to [rows][classes]: scratch, or, with VecN, any
/// memory. visit(i, their sum).
template <typename T, typename Visitor>
static inline void group_weights(const Group& group, math::Exponent<T> scale, T* values,
                                 Visitor&& visit) {
  const int64_t classes = group.classes;
  const bool with_argmax = group.one_hot.data != nullptr;
  if constexpr (std::is_same_v<T, float>)
    if (words_run_together(group)) {
      const T* x = values_of(group, group.input, values);
      alignas(64) float buffer[kTile + kLineFloats];
      const int64_t head = misalignment(values);
      fill_exp1_aligned(head, group.words.key, group.words.first, group.rows * classes, buffer,
                        prefetch_set(group, values));
      for (int64_t i = 0; i < group.rows; ++i) {
        float* row = values + i * classes;
        const int64_t misaligned = misalignment(row), shift = i * classes - misaligned;
        const float *row_x = x + shift, *e = buffer + head + shift;
        const float max = make_and_max(
            row - misaligned, misaligned, misaligned + classes,
            [&](auto at) TG_INLINE { return AddNoise::apply(at.load(row_x), at.load(e)); });
        visit(i, tile_weights(row, classes, max, scale, with_argmax));
      }
      return;
    }
  load_scores(group, values);
  for (int64_t i = 0; i < group.rows; ++i) {
    T* row = values + i * classes;
    visit(i, tile_weights(row, classes, max_of(row, classes), scale, with_argmax));
  }
}

/// Whether a row's weights are quotients, exp(x) / exp1: at a temperature of 1.
template <typename T>
static inline bool divides(const PlannedParams& a, double tau) {
  return sizeof(T) == sizeof(float) && a.plan.divides && tau == 1.0;
}

/// Whether those of all rows of a group are.
template <typename T>
static inline bool divides(const PlannedParams& a, const Group& group) {
  const int64_t rows = group.uniform_tau() ? 1 : group.rows;
  for (int64_t i = 0; i < rows; ++i)
    if (!divides<T>(a, group.tau_of(i))) return false;
  return true;
}

/// Quotients are taken relative to this: as far below the largest logit as keeps quotients by the
/// smallest exp1, 2^-65, below overflow, and small weights with a small exp1 above underflow.
template <typename T>
static inline T quotient_reference(T largest_logit) {
  return largest_logit - 16;
}

/// values[k] = exp(x[k] - sums[i].max) / exp1 of row i, for rows whose words are consecutive, and
/// their sums.
static void divide_rows(const float* x, const float* exp1, int64_t rows, int64_t classes,
                        float* values, RowSum<float>* sums) {
  if (classes > kShortRow) {
    for (int64_t i = 0; i < rows; ++i) {
      float* row = values + i * classes;
      const int64_t misaligned = misalignment(row), shift = i * classes - misaligned;
      const float *row_x = x + shift, *e = exp1 + shift;
      const float reference = or_zero(sums[i].max);
      sums[i].sum =
          make_and_sum(row - misaligned, misaligned, misaligned + classes, [&](auto at) TG_INLINE {
            return WeightOf::apply(at.load(row_x) - reference, at.load(e));
          });
    }
    return;
  }
  alignas(64) float references[kTile + kLanes];
  for (int64_t i = 0; i < rows; ++i)
    fill_over(references + i * classes, classes, or_zero(sums[i].max));
  for_each_vec<float>(0, rows * classes, [&](auto at) TG_INLINE {
    at.store(WeightOf::apply(at.load(x) - at.load(references), at.load(exp1)), values);
  });
  for (int64_t i = 0; i < rows; ++i) sums[i].sum = sum_of(values + i * classes, classes);
}

/// Weights of a group's rows as quotients, and each row's sum. `values` is scratch,
/// [rows][classes].
static void load_quotients(const Group& group, float* values, RowSum<float>* sums) {
  const int64_t classes = group.classes;
  const float* x = values_of(group, group.input, values);
  for (int64_t i = 0; i < group.rows; ++i)
    sums[i] = {quotient_reference(max_of_memory(x + i * classes, classes)), 0, 0};
  const PrefetchSet prefetch = prefetch_set(group, values);
  if (words_run_together(group)) {
    alignas(64) float buffer[kTile + kLineFloats];
    const int64_t head = misalignment(values);
    fill_exp1_aligned(head, group.words.key, group.words.first, group.rows * classes, buffer,
                      prefetch);
    return divide_rows(x, buffer + head, group.rows, classes, values, sums);
  }
  for (int64_t i = 0; i < group.rows; ++i)
    subtract_over(x + i * classes, classes, or_zero(sums[i].max), values + i * classes);
  apply_group_noise<WeightOf>(group, values, values, prefetch);
  for (int64_t i = 0; i < group.rows; ++i) sums[i].sum = sum_of(values + i * classes, classes);
}

/// Weights of one tile of one row, in scratch; `divided`: as quotients.
template <typename T>
static RowSum<T> load_weights(const Group& tile, math::Exponent<T> scale, bool divided, T* values) {
  RowSum<T> sum;
  if constexpr (std::is_same_v<T, float>)
    if (divided) {
      load_quotients(tile, values, &sum);
      return sum;
    }
  group_weights(tile, scale, values, [&](int64_t, const RowSum<T>& of_row) { sum = of_row; });
  return sum;
}

/// log-sum-exp of (logits + g) / tau; -inf for a row without a finite logit.
template <typename T>
static inline void write_lse(const PlannedParams& a, int64_t row, const RowSum<T>& sum,
                             double tau) {
  if (a.row_value == nullptr) return;
  const T lse = sum.max * math::inverse_temperature<T>(tau) + math::log_normal(sum.sum);
  const T nothing = -static_cast<T>(__builtin_inf());
  static_cast<T*>(a.row_value)[row] = sum.max == nothing && sum.sum == 0 ? nothing
                                      : sum.sum > 0                      ? lse
                                                                         : sum.sum;
}

/// The factor of a row of one tile: tile_factor's bits.
template <typename T>
static inline Factor<T> single_factor(const RowSum<T>& sum, bool divided) {
  const T undefined = sum.max - sum.max;  // NaN if not finite
  auto factor = divided ? Factor<T>::quotient(T{1}, sum.sum) : Factor<T>{T{1} / sum.sum};
  factor.high += undefined;
  return factor;
}

}  // namespace torch_gumbel::cpu::TG_ISA
