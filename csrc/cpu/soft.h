// SPDX-License-Identifier: Apache-2.0
// Soft sample: y = softmax((logits + g) / tau).
#pragma once

#include "soften.h"

namespace torch_gumbel::cpu::TG_ISA {

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

/// Whether rows are made in scratch and written at once. Streams break at the ends of rows, and the
/// last line of a row is made of elements that were made before, unless these are ends of lines.
static inline bool takes_rows_at_once(const Arguments& a, const Strided& output, int64_t rows) {
  constexpr int64_t kFewLines = 4;
  const int64_t classes = a.rows.classes;
  if (whole_lines(classes, output.type)) return false;
  const bool few = classes * element_size(output.type) < kFewLines * kLine;
  return streams(a) || (few && output.packed(rows, classes));
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
  if (takes_rows_at_once(a, output, group.rows)) {
    soften_rows(a, group, scores, see,
                [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) {
                  scale_row(scores + i * classes + begin, count, factor);
                });
    return store_group(scores, group.rows, classes, output, streams(a));
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
  const bool in_output = a.output_type == kTypeOf<T> && a.rows.step(Operand::kOutput) == 1;
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

/// Classes from a line's first one to `at` in a row's output.
static inline int64_t into_line(const Arguments& a, const Group& row, int64_t at) {
  const Strided to = operand_matrix(a, row, Operand::kOutput, at);
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(to.data) % kLine) / element_size(to.type);
}

/// The first class from a tile's end on with which a line begins, or the row ends. Where tiles end
/// within lines, a line belongs to the tile that it begins in: written twice, it waits for itself.
static inline int64_t next_line(const Arguments& a, const Group& row, int64_t end) {
  const int64_t past = into_line(a, row, end);
  if (end == 0 || past == 0) return end;
  return min64(a.rows.classes, end - past + kLine / element_size(a.output_type));
}

/// Kept exponentials of a tile to its lines; `next` is the next tile's factor.
template <typename T>
static void soft_finish_lines(const Arguments& a, const Group& row, int64_t begin, int64_t end,
                              Factor<T> factor, Factor<T> next, T* scores, const T* kept) {
  const int64_t first = next_line(a, row, begin), last = next_line(a, row, end);
  const int64_t shared = last > end ? end - into_line(a, row, end) : end;
  const auto to = [&](int64_t k) { return operand_matrix(a, row, Operand::kOutput, k); };
  if (first < shared) store_scaled(kept + first, shared - first, factor, to(first), true);
  for (int64_t k = shared; k < last; ++k)
    scores[k - shared] = k < end ? factor.of(kept[k]) : next.of(kept[k]);
  if (shared < last) store_scaled(scores, last - shared, Factor<T>{1}, to(shared), true);
}

template <typename T>
static void soft_finish_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                             Factor<T> factor, Factor<T> next, T* scores, void* kept) {
  if (kept != nullptr && streams(a) && a.rows.step(Operand::kOutput) == 1)
    return soft_finish_lines(a, row, begin, begin + count, factor, next, scores,
                             static_cast<const T*>(kept));
  const T* values = exponentials_of_tile(a, row, begin, count, divides<T>(a, row), scores, kept);
  const Strided output = operand_matrix(a, row, Operand::kOutput, begin);
  if (values == output.data) return scale_row(const_cast<T*>(values), count, factor);
  store_scaled(values, count, factor, output, streams(a));
}

}  // namespace torch_gumbel::cpu::TG_ISA
