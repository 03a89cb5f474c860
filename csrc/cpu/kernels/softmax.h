// SPDX-License-Identifier: Apache-2.0
// Softmax of rows whose words run along their classes: weights in scratch, and the factor of each
// tile of each row.
#pragma once

#include "small_rows.h"
#include "weights.h"

namespace torch_gumbel::cpu::TG_ISA {

constexpr int64_t kRowTiles = kLongRow / kTile;

/// softmax_rows for one row of several tiles.
template <typename T, typename Visitor, typename Scaled>
static void softmax_tiled_row(const PlannedParams& a, const Group& row, T* values, Visitor&& visit,
                              Scaled&& scaled) {
  const int64_t classes = row.classes;
  const auto scale = math::exponent_scale<T>(row.tau);
  const bool divided = divides<T>(a, row.tau);
  TileStat stats[kRowTiles];
  for (int64_t begin = 0, t = 0; begin < classes; begin += kTile, ++t) {
    const int64_t count = min64(kTile, classes - begin);
    const RowSum<T> tile =
        load_weights(classes_of(row, begin, count), scale, divided, values + begin);
    stats[t].max = tile.max, stats[t].sum = tile.sum, stats[t].index = begin + tile.top;
  }
  const RowSum<T> sum = combine(stats, tiles_of(classes), scale);
  visit(sum, row.tau);
  for (int64_t begin = 0, t = 0; begin < classes; begin += kTile, ++t)
    scaled(begin, min64(kTile, classes - begin), tile_factor(stats[t], sum, scale, divided));
}

/// Whether rows of more than kVecRows classes are computed by softmax_short_rows.
template <typename T>
static inline bool uses_short_softmax(const PlannedParams& a, const Group& group) {
  return a.plan.short_rows && group.uniform_tau() && !divides<T>(a, group);
}

template <bool with_argmax, typename T, typename Visitor, typename Scaled>
static void softmax_short_rows_of(const Group& group, T* scores, Visitor&& visit, Scaled&& scaled) {
  const int64_t classes = group.classes;
  const auto scale = math::exponent_scale<T>(group.tau);
  const int64_t step = kTile / classes;
  T max[kTile];
  int32_t top[with_argmax ? kTile : 1];
  alignas(64) T of_row[kTile + kLanes];  // a row's reference or factor, at each of its classes
  for (int64_t begin = 0; begin < group.rows; begin += step) {
    const int64_t rows = min64(step, group.rows - begin);
    T* block = scores + begin * classes;
    for (int64_t i = 0; i < rows; ++i) {
      if constexpr (with_argmax) {
        const auto first = first_maximum(block + i * classes, classes);
        max[i] = first.value, top[i] = static_cast<int32_t>(first.index);
      } else {
        max[i] = max_of(block + i * classes, classes);
      }
      fill_over(of_row + i * classes, classes, or_zero(max[i]));
    }
    for_each_vec<T>(0, rows * classes, [&](auto at) TG_INLINE {
      at.store(math::exp_scaled(at.load(block) - at.load(of_row), scale), block);
    });
    for (int64_t i = 0; i < rows; ++i) {
      const RowSum<T> sum = {max[i], sum_of(block + i * classes, classes), 0,
                             with_argmax ? top[i] : 0};
      visit(begin + i, sum, group.tau);
      fill_over(of_row + i * classes, classes, single_factor(sum, false).high);
    }
    scaled(begin, rows, of_row);
  }
}

/// softmax_rows for short rows: scaled(first row, rows, the factor of each of their elements).
template <typename T, typename Visitor, typename Scaled>
static void softmax_short_rows(const Group& group, T* scores, Visitor&& visit, Scaled&& scaled) {
  load_scores(group, scores);
  group.one_hot.data != nullptr ? softmax_short_rows_of<true>(group, scores, visit, scaled)
                                : softmax_short_rows_of<false>(group, scores, visit, scaled);
}

/// Quotients of one row of one tile among rows of other temperatures. Scratch past it is preserved.
template <typename T>
static RowSum<T> quotients_of_row(const Group& row, T* values) {
  alignas(64) T buffer[kTile + kLanes];
  const RowSum<T> sum = load_weights(row, math::exponent_scale<T>(1.0), /*divided=*/true, buffer);
  memcpy(values, buffer, row.classes * sizeof(T));
  return sum;
}

/// Weights of a group's rows in scratch, [rows][classes], tile by tile. Per row: visit(i, row sum,
/// tau), then scaled(i, first class, classes, factor) for each of its tiles.
template <typename T, typename Visitor, typename Scaled>
static void softmax_rows(const PlannedParams& a, const Group& group, T* values, Visitor&& visit,
                         Scaled&& scaled) {
  const int64_t classes = group.classes;
  if (classes > kTile) {
    for (int64_t i = 0; i < group.rows; ++i)
      softmax_tiled_row(
          a, rows_of(group, i, 1), values + i * classes,
          [&](const auto& sum, double t) { visit(i, sum, t); },
          [&](int64_t begin, int64_t count, const Factor<T>& factor) {
            scaled(i, begin, count, factor);
          });
    return;
  }
  if constexpr (std::is_same_v<T, float>)
    if (divides<T>(a, group)) {
      RowSum<float> sums[kTile / kMaxSmallRow];
      load_quotients(group, values, sums);
      for (int64_t i = 0; i < group.rows; ++i) {
        visit(i, sums[i], group.tau);
        scaled(i, 0, classes, single_factor(sums[i], true));
      }
      return;
    }
  if (group.uniform_tau() && !a.plan.short_rows)
    return group_weights(group, math::exponent_scale<T>(group.tau), values,
                         [&](int64_t i, const RowSum<T>& sum) {
                           visit(i, sum, group.tau);
                           scaled(i, 0, classes, single_factor(sum, false));
                         });
  if (uses_short_softmax<T>(a, group))
    return softmax_short_rows(group, values, visit, [&](int64_t i, int64_t rows, const T* factors) {
      for (int64_t end = i + rows; i < end; ++i, factors += classes)
        scaled(i, 0, classes, Factor<T>{*factors});
    });
  load_scores(group, values);
  for (int64_t i = 0; i < group.rows; ++i) {
    const double tau = group.tau_of(i);
    T* row = values + i * classes;
    const bool divided = divides<T>(a, tau);
    const RowSum<T> sum = divided
                              ? quotients_of_row(rows_of(group, i, 1), row)
                              : tile_weights(row, classes, max_of(row, classes),
                                             math::exponent_scale<T>(tau), a.one_hot != nullptr);
    visit(i, sum, tau);
    scaled(i, 0, classes, single_factor(sum, divided));
  }
}

/// Transposed rows: scores -> probabilities; `max`, `sum`, and, unless null, `top` as they are in
/// RowSum.
template <int width, typename T>
TG_STAGE void softmax_transposed(T* padded, int classes, math::Exponent<T> scale, T* max, T* sum,
                                 T* top) {
  auto transposed = Transposed<T, width>::load(padded);
  const auto largest = transposed.max(classes);
  if (top != nullptr) storeu(transposed.first_index(largest, classes), top);
  const auto lowest = Vec<T>{} - static_cast<T>(__builtin_inf());
  const auto reference = largest > lowest ? largest : Vec<T>{};
  if (classes > width) __builtin_unreachable();  // so that the loops below are short ones
  for (int k = 0; k < classes; ++k) storeu(transposed.of_class(k) - reference, transposed.at(k));
  for_each_vec<T>(0, classes * kVecRows<T>, [&](auto at) TG_INLINE {
    at.store(math::exp_scaled(at.load(transposed.values), scale), transposed.values);
  });
  const auto total = transposed.sum(classes);
  const auto factor = 1 / total + (largest - largest);  // NaN where no score is finite
  for (int k = 0; k < classes; ++k) storeu(transposed.of_class(k) * factor, transposed.at(k));
  transposed.store(padded);
  storeu(largest, max);
  storeu(total, sum);
}

/// softmax_rows for rows of at most kVecRows classes and one temperature; the probabilities go to
/// `to`. `with_argmax`: whether sums have a `top`. visit(first row, rows, a function from row to
/// its sum).
template <typename T, typename Visitor>
static void softmax_small_rows(const Group& group, bool with_argmax, const T* scores, T* to,
                               Visitor&& visit) {
  const int64_t classes = group.classes;
  const auto scale = math::exponent_scale<T>(group.tau);
  alignas(64) T block[kPadded], max[kPadded], sum[kPadded], top[kPadded];
  for_each_padded_block<T>(group.rows, classes, [&](auto width, int64_t begin, int64_t rows) {
    constexpr int kWidth = decltype(width)::value, kRows = kVecRows<T>;
    pad_rows<kWidth>(scores + begin * classes, rows, classes, block);
    for (int64_t i = 0; i < rows; i += kRows)
      softmax_transposed<kWidth>(block + i * kWidth, static_cast<int>(classes), scale, max + i,
                                 sum + i, with_argmax ? top + i : nullptr);
    visit(begin, rows, [&](int64_t i) {
      const int64_t at = transposed_index<T, kWidth>(i);
      return RowSum<T>{max[at], sum[at], 0, with_argmax ? static_cast<int64_t>(top[at]) : 0};
    });
    pack_rows<kWidth>(block, rows, classes, to + begin * classes);
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
