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
static inline Factor<T> tile_factor(const TileStat& tile, const RowSum<T>& row,
                                    math::Exponent<T> scale, bool divided) {
  const T weight = math::exp_scaled(static_cast<T>(tile.max) - row.max, scale);
  return divided ? Factor<T>::quotient(weight, row.sum) : Factor<T>{weight / row.sum};
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
      for (int64_t k = i * classes; k < (i + 1) * classes; ++k)
        values[k] = Weigh::apply(x[k] - zero, exponentials[k]);
    }
    return;
  }
  alignas(64) float zeros[kTile + kLanes];
  for (int64_t i = 0; i < rows; ++i) fill_over(zeros + i * classes, classes, or_zero(reference[i]));
  for (int64_t k = 0; k < rows * classes; ++k)
    values[k] = Weigh::apply(x[k] - zeros[k], exponentials[k]);
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

constexpr int64_t kRowTiles = kLongRow / kTile;

/// soften_rows for one row of several tiles.
template <typename T, typename See, typename Scaled>
static void soften_tiled_row(const Arguments& a, const Group& row, T* values, See&& see,
                             Scaled&& scaled) {
  const int64_t classes = a.rows.classes;
  const double tau = tau_at(a, row.first);
  const auto scale = math::exponent_scale<T>(tau);
  const bool divided = divides<T>(a, row);
  TileStat stats[kRowTiles];
  for (int64_t begin = 0, t = 0; begin < classes; begin += kTile, ++t) {
    const int64_t count = min64(kTile, classes - begin);
    const RowSum<T> tile = load_exponentials(a, row, begin, count, divided, values + begin);
    stats[t].max = tile.max, stats[t].sum = tile.sum;
  }
  const RowSum<T> sum = combine(stats, tiles_of(classes), scale);
  see(sum, tau);
  for (int64_t begin = 0, t = 0; begin < classes; begin += kTile, ++t)
    scaled(begin, min64(kTile, classes - begin), tile_factor(stats[t], sum, scale, divided));
}

/// soften_rows for scores of at most kShortRow classes and one temperature.
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
      scaled(begin + i, 0, classes, single_factor(sum, false));
    }
  }
}

/// Quotients of one row of one tile among rows of other temperatures. What lies behind it in
/// scratch is kept.
template <typename T>
static RowSum<T> quotients_of_row(const Arguments& a, const Group& row, T* values) {
  if constexpr (std::is_same_v<T, float>) {
    const int64_t classes = a.rows.classes;
    alignas(64) float room[kTile + kLanes];
    float reference;
    load_quotients(a, row, 0, classes, room, &reference);
    memcpy(values, room, classes * sizeof(float));
    return {reference, sum_of(room, classes), 0};
  } else {
    return {};
  }
}

/// Exponentials of a group's rows in scratch, [rows][classes], tile by tile. Per row:
/// see(i, row sum, tau), then scaled(i, first class, classes, factor) for each of its tiles.
template <typename T, typename See, typename Scaled>
static void soften_rows(const Arguments& a, const Group& group, T* values, See&& see,
                        Scaled&& scaled) {
  const int64_t classes = a.rows.classes;
  const bool uniform = uniform_tau(a, group);
  double tau = tau_at(a, group.first);
  if (classes > kTile) {
    for (int64_t i = 0; i < group.rows; ++i)
      soften_tiled_row(
          a, single_row(group, i), values + i * classes,
          [&](const auto& sum, double t) { see(i, sum, t); },
          [&](int64_t begin, int64_t count, const Factor<T>& factor) {
            scaled(i, begin, count, factor);
          });
    return;
  }
  if constexpr (std::is_same_v<T, float>)
    if (divides<T>(a, group)) {
      float reference[kTile / kWidestSide];
      load_quotients(a, group, 0, classes, values, reference);
      for (int64_t i = 0; i < group.rows; ++i) {
        const RowSum<T> sum = {reference[i], sum_of(values + i * classes, classes), 0};
        see(i, sum, tau);
        scaled(i, 0, classes, single_factor(sum, true));
      }
      return;
    }
  load_scores(a, group, 0, classes, values);
  if (uniform && classes <= kShortRow)
    return soften_short_rows(group, classes, tau, values, see, scaled);
  for (int64_t i = 0; i < group.rows; ++i) {
    if (!uniform) tau = tau_at(a, row_of(group, i));
    T* row = values + i * classes;
    const bool divided = divides<T>(a, tau);
    const RowSum<T> sum = divided ? quotients_of_row(a, single_row(group, i), row)
                                  : soften_tile(row, classes, math::exponent_scale<T>(tau));
    see(i, sum, tau);
    scaled(i, 0, classes, single_factor(sum, divided));
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
static inline void scale_row(T* row, int64_t count, Factor<T> factor) {
  with_product(
      factor, [&](auto product) __attribute__((always_inline)) {
        for (int64_t k = 0; k < count; ++k) row[k] = product(row[k]);
      });
}

/// soft_group of rows of at most kSideRows classes and one temperature.
template <typename T>
static void soft_narrow(const Arguments& a, const Group& group, const Strided& output, T* scores) {
  const int64_t classes = a.rows.classes;
  const double tau = tau_at(a, group.first);
  load_scores(a, group, 0, classes, scores);
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
  if (classes <= kSideRows<T> && uniform_tau(a, group))
    return soft_narrow(a, group, output, scores);
  const auto see = [&](int64_t i, const RowSum<T>& sum, double tau) {
    write_lse(a, group.index + i, sum, tau);
  };
  // Streams break at the ends of rows, unless these are ends of lines.
  const bool whole_lines = classes * element_size(output.type) % kLine == 0;
  if (streams(a) && !whole_lines) {
    soften_rows(a, group, scores, see,
                [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) {
                  scale_row(scores + i * classes + begin, count, factor);
                });
    return store_group(scores, group.rows, classes, output, true);
  }
  soften_rows(a, group, scores, see,
              [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) {
                store_scaled(scores + i * classes + begin, count, factor, part_of(output, i, begin),
                             streams(a));
              });
}

/// Probabilities of a group, [rows][classes] in scratch.
template <typename T>
static void soften_group(const Arguments& a, const Group& group, T* scores) {
  const int64_t classes = a.rows.classes;
  const auto ignore = [](auto...) {};
  if (classes <= kSideRows<T> && uniform_tau(a, group)) {
    load_scores(a, group, 0, classes, scores);
    return soften_narrow_rows(group, classes, tau_at(a, group.first), scores, scores, ignore);
  }
  soften_rows(a, group, scores, ignore,
              [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) {
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
                             TileStat& stat, bool divided, T* scores, void* kept) {
  T* waiting = waiting_tile<T>(a, row.first, begin, kept);
  // A tile of whole lanes can be made where it waits; others need room behind them.
  T* values = waiting != nullptr && count % kLanes == 0 ? waiting : scores;
  const RowSum<T> sum = load_exponentials(a, row, begin, count, divided, values);
  stat.max = sum.max, stat.sum = sum.sum;
  if (waiting != nullptr && waiting != values) memcpy(waiting, values, count * sizeof(T));
}

/// The exponentials of a tile, made again in `scores` if they wait nowhere.
template <typename T>
static const T* exponentials_of_tile(const Arguments& a, const Group& row, int64_t begin,
                                     int64_t count, bool divided, T* scores, void* kept) {
  if (const T* waiting = waiting_tile<T>(a, row.first, begin, kept)) return waiting;
  load_exponentials(a, row, begin, count, divided, scores);
  return scores;
}

template <typename T>
static void soft_finish_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                             Factor<T> factor, T* scores, void* kept) {
  const T* values = exponentials_of_tile(a, row, begin, count, divides<T>(a, row), scores, kept);
  const Strided output = operand_matrix(a, row, Operand::kOutput, begin);
  if (values == output.data) return scale_row(const_cast<T*>(values), count, factor);
  store_scaled(values, count, factor, output, streams(a));
}

}  // namespace torch_gumbel::cpu::TG_ISA
