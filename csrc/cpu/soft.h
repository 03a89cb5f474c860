// SPDX-License-Identifier: Apache-2.0
// Soft sample: y = softmax((logits + g) / tau).
//
// A tile's exponentials are taken relative to the tile's own maximum. Its factor
//     exp((tile max - row max) / tau) / (sum over the row)
// then makes them probabilities, so a row needs its scores only once.
#pragma once

#include "narrow.h"
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
static inline T tile_factor(const TileStat& tile, const RowSum<T>& row, math::Exponent<T> scale) {
  return math::exp_scaled(static_cast<T>(tile.max) - row.max, scale) / row.sum;
}

/// Scratch scores of one tile -> exponentials relative to its maximum; a tile of -inf becomes 0.
template <typename T>
static inline void exponentiate(T* scores, int64_t count, T reference, math::Exponent<T> scale) {
  constexpr int kStep = kVectorBytes / sizeof(T);
  const int64_t whole = count / kStep * kStep, rest = count - whole;
  for (int64_t k = 0; k < whole; ++k) scores[k] = math::exp_scaled(scores[k] - reference, scale);
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

template <typename T>
static inline RowSum<T> soften_tile(T* scores, int64_t count, math::Exponent<T> scale) {
  const T max = max_of(scores, count);
  exponentiate(scores, count, or_zero(max), scale);
  return {max, sum_of(scores, count), 0};
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
static inline T single_factor(const RowSum<T>& sum) {
  return T{1} / sum.sum + (sum.max - sum.max);
}

constexpr int64_t kRowTiles = kLongRow / kTile;
constexpr int64_t kShortRow = 256;  // up to here, rows take their exponentials in one flat pass

/// soften_rows for rows of at most kShortRow classes and one temperature.
template <typename T, typename See, typename Scaled>
static void soften_short_rows(const Group& group, int64_t classes, double tau, T* scores, See&& see,
                              Scaled&& scaled) {
  const auto scale = math::exponent_scale<T>(tau);
  const int64_t step = kTile / classes;
  T max[kTile];
  alignas(64) T reference[kTile + kLanes];
  for (int64_t begin = 0; begin < group.rows; begin += step) {
    const int64_t rows = min64(step, group.rows - begin);
    T* block = scores + begin * classes;
    for (int64_t i = 0; i < rows; ++i) {
      max[i] = max_of(block + i * classes, classes);
      fill_over(reference + i * classes, classes, or_zero(max[i]));
    }
    for (int64_t j = 0; j < rows * classes; ++j)
      block[j] = math::exp_scaled(block[j] - reference[j], scale);
    for (int64_t i = 0; i < rows; ++i) {
      const RowSum<T> sum = {max[i], sum_of(block + i * classes, classes), 0};
      see(begin + i, sum, tau);
      scaled(begin + i, 0, classes, single_factor(sum));
    }
  }
}

/// Scores of rows, [rows][classes] in scratch, become exponentials tile by tile. Per row:
/// see(i, row sum, tau), then scaled(i, first class, classes, factor) for each of its tiles.
template <typename T, typename See, typename Scaled>
static void soften_rows(const Arguments& a, const Group& group, T* scores, See&& see,
                        Scaled&& scaled) {
  const int64_t classes = a.rows.classes;
  const bool uniform = uniform_tau(a, group);
  double tau = tau_at(a, group.first);
  if (uniform && classes <= kShortRow)
    return soften_short_rows(group, classes, tau, scores, see, scaled);
  auto scale = math::exponent_scale<T>(tau);
  for (int64_t i = 0; i < group.rows; ++i) {
    if (!uniform) tau = tau_at(a, row_of(group, i)), scale = math::exponent_scale<T>(tau);
    T* row = scores + i * classes;
    if (classes <= kTile) {
      const RowSum<T> sum = soften_tile(row, classes, scale);
      see(i, sum, tau);
      scaled(i, 0, classes, single_factor(sum));
      continue;
    }
    TileStat stats[kRowTiles];
    for (int64_t begin = 0, t = 0; begin < classes; begin += kTile, ++t) {
      const auto tile = soften_tile(row + begin, min64(kTile, classes - begin), scale);
      stats[t].max = tile.max, stats[t].sum = tile.sum;
    }
    const RowSum<T> sum = combine(stats, tiles_of(classes), scale);
    see(i, sum, tau);
    for (int64_t begin = 0, t = 0; begin < classes; begin += kTile, ++t)
      scaled(i, begin, min64(kTile, classes - begin), tile_factor(stats[t], sum, scale));
  }
}

/// Rows side by side: scores -> probabilities; `top` and `sum` as they are in RowSum.
template <int width, typename T>
TG_STAGE void soften_side(T* padded, int classes, math::Exponent<T> scale, T* top, T* sum) {
  auto side = Side<T, width>::load(padded);
  const auto largest = side.max(classes);
  const auto lowest = Register<T>{} - static_cast<T>(__builtin_inf());
  const auto reference = largest > lowest ? largest : Register<T>{};
  for (int k = 0; k < classes; ++k) store_register(side.column(k) - reference, side.at(k));
  for (int j = 0; j < classes * kSideRows<T>; ++j)
    side.values[j] = math::exp_scaled(side.values[j], scale);
  const auto total = side.sum(classes);
  const auto factor = 1 / total + (largest - largest);  // NaN where no score is finite
  for (int k = 0; k < classes; ++k) store_register(side.column(k) * factor, side.at(k));
  side.store(padded);
  store_register(largest, top);
  store_register(total, sum);
}

/// soften_rows for rows of at most kSideRows classes and one temperature; the probabilities go to
/// `to`. see(first row, rows, a function from row to its sum).
template <typename T, typename See>
static void soften_narrow_rows(const Group& group, int64_t classes, double tau, const T* scores,
                               T* to, See&& see) {
  const auto scale = math::exponent_scale<T>(tau);
  alignas(64) T block[kPadded], top[kPadded], sum[kPadded];
  for_each_padded_block<T>(group.rows, classes, [&](auto width, int64_t begin, int64_t rows) {
    constexpr int kWidth = decltype(width)::value, kRows = kSideRows<T>;
    pad_rows<kWidth>(scores + begin * classes, rows, classes, block);
    for (int64_t i = 0; i < rows; i += kRows)
      soften_side<kWidth>(block + i * kWidth, static_cast<int>(classes), scale, top + i, sum + i);
    see(begin, rows, [&](int64_t i) {
      const int64_t at = side_of<T, kWidth>(i);
      return RowSum<T>{top[at], sum[at], 0};
    });
    pack_rows<kWidth>(block, rows, classes, to + begin * classes);
  });
}

template <typename T>
static inline void scale_row(T* row, int64_t count, T factor) {
  for (int64_t k = 0; k < count; ++k) row[k] *= factor;
}

/// soft_group of rows of at most kSideRows classes and one temperature.
template <typename T>
static void soft_narrow(const Arguments& a, const Group& group, const Strided& output, T* scores) {
  const int64_t classes = a.rows.classes;
  const double tau = tau_at(a, group.first);
  T* direct = streams(a) ? nullptr : packed_values<T>(output, group.rows, classes);
  const auto see = [&](int64_t begin, int64_t rows, auto sum_of_row) {
    if (a.row_value == nullptr) return;
    for (int64_t i = 0; i < rows; ++i) write_lse(a, group.index + begin + i, sum_of_row(i), tau);
  };
  soften_narrow_rows(group, classes, tau, scores, direct != nullptr ? direct : scores, see);
  if (direct == nullptr) store_group(scores, group.rows, classes, output, streams(a));
}

template <typename T>
static void soft_group(const Arguments& a, const Group& group, T* scores) {
  const int64_t classes = a.rows.classes;
  const Strided output = operand_matrix(a, group, Operand::kOutput, 0);
  load_scores(a, group, 0, classes, scores);
  if (classes <= kSideRows<T> && uniform_tau(a, group))
    return soft_narrow(a, group, output, scores);
  const auto see = [&](int64_t i, const RowSum<T>& sum, double tau) {
    write_lse(a, group.index + i, sum, tau);
  };
  // Streams break at the ends of rows, unless these are ends of lines.
  const bool whole_lines = classes * element_size(output.type) % kLine == 0;
  if (streams(a) && !whole_lines) {
    soften_rows(a, group, scores, see, [&](int64_t i, int64_t begin, int64_t count, T factor) {
      scale_row(scores + i * classes + begin, count, factor);
    });
    return store_group(scores, group.rows, classes, output, true);
  }
  soften_rows(a, group, scores, see, [&](int64_t i, int64_t begin, int64_t count, T factor) {
    store_scaled(scores + i * classes + begin, count, factor, part_of(output, i, begin),
                 streams(a));
  });
}

/// Scores of a group, [rows][classes] in scratch, become probabilities.
template <typename T>
static void soften_group(const Arguments& a, const Group& group, T* scores) {
  const int64_t classes = a.rows.classes;
  const auto ignore = [](auto...) {};
  if (classes <= kSideRows<T> && uniform_tau(a, group))
    return soften_narrow_rows(group, classes, tau_at(a, group.first), scores, scores, ignore);
  soften_rows(a, group, scores, ignore, [&](int64_t i, int64_t begin, int64_t count, T factor) {
    scale_row(scores + i * classes + begin, count, factor);
  });
}

/// Where a long row's exponentials wait for their factor: in `kept`, in the output, or nowhere
/// (null): then they are made again.
template <typename T>
static inline T* waiting_tile(const Arguments& a, const Row& row, int64_t begin, void* kept) {
  if (kept != nullptr) return static_cast<T*>(kept) + begin;
  const bool in_output = a.output_type == TypeOf<T>::value && a.rows.step(Operand::kOutput) == 1;
  return in_output ? static_cast<T*>(a.output) + row[Operand::kOutput] + begin : nullptr;
}

template <typename T>
static void soft_reduce_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                             TileStat& stat, T* scores, void* kept) {
  T* waiting = waiting_tile<T>(a, row.first, begin, kept);
  // A tile of whole lanes can be made where it waits; others need room behind them.
  T* values = waiting != nullptr && count % kLanes == 0 ? waiting : scores;
  load_scores(a, row, begin, count, values);
  const auto sum = soften_tile(values, count, math::exponent_scale<T>(tau_at(a, row.first)));
  stat.max = sum.max, stat.sum = sum.sum;
  if (waiting != nullptr && waiting != values) memcpy(waiting, values, count * sizeof(T));
}

/// The exponentials of a tile, made again in `scores` if they wait nowhere.
template <typename T>
static const T* exponentials_of_tile(const Arguments& a, const Group& row, int64_t begin,
                                     int64_t count, T* scores, void* kept) {
  if (const T* waiting = waiting_tile<T>(a, row.first, begin, kept)) return waiting;
  load_scores(a, row, begin, count, scores);
  soften_tile(scores, count, math::exponent_scale<T>(tau_at(a, row.first)));
  return scores;
}

template <typename T>
static void soft_finish_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                             T factor, T* scores, void* kept) {
  const T* values = exponentials_of_tile(a, row, begin, count, scores, kept);
  const Strided output = operand_matrix(a, row, Operand::kOutput, begin);
  if (values == output.data) return scale_row(const_cast<T*>(values), count, factor);
  store_scaled(values, count, factor, output, streams(a));
}

}  // namespace torch_gumbel::cpu::TG_ISA
