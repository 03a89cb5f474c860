// SPDX-License-Identifier: Apache-2.0
// Soft sample: y = softmax((logits + g) / tau).
#pragma once

#include "one_hot.h"
#include "soften.h"

namespace torch_gumbel::cpu::TG_ISA {

template <typename T>
static inline void scale_row(T* row, int64_t count, Factor<T> factor) {
  const int64_t past = past_boundary(row);
  with_product(factor, [&](auto product) TG_INLINE {
    if (past == 0) {
      for (int64_t k = 0; k < count; ++k) row[k] = product(row[k]);
      return;
    }
    T* from = row - past;
    for_each_place_from<T>(past, past + count,
                           [&](auto at) TG_INLINE { at.store(product(at.load(from)), from); });
  });
}

/// soften_rows, with the probabilities in scratch.
template <typename T, typename See>
static void soften_in_scratch(const Arguments& a, const Group& group, T* scores, See&& see) {
  soften_rows(a, group, scores, see,
              [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) TG_INLINE {
                T* row = scores + i * a.rows.classes + begin;
                if (count > kShortRow) return scale_row(row, count, factor);
                with_product(factor, [&](auto product) TG_INLINE {
                  for (int64_t k = 0; k < count; ++k) row[k] = product(row[k]);
                });
              });
}

/// The choice of a row with a one-hot.
template <typename T>
static inline int32_t choice_of(const RowSum<T>& sum) {
  return sum.defined() ? static_cast<int32_t>(sum.top) : kNoChoice;
}

/// soft_group of rows of at most kSideRows classes and one temperature.
template <typename T>
static void soft_narrow(const Arguments& a, const Group& group, T* scores) {
  const int64_t classes = a.rows.classes;
  const Strided output = operand_matrix(a, group, Operand::kOutput, 0);
  const double tau = tau_at(a, group.first);
  const bool choose = a.one_hot != nullptr;
  int32_t choice[kTile];
  load_scores(a, group, 0, classes, scores);
  T* direct = streams(a) ? nullptr : packed_values<T>(output, group.rows, classes);
  const auto see = [&](int64_t begin, int64_t rows, auto sum_of_row) {
    for (int64_t i = 0; choose && i < rows; ++i) choice[begin + i] = choice_of(sum_of_row(i));
    if (a.row_value == nullptr) return;
    for (int64_t i = 0; i < rows; ++i) write_lse(a, group.index + begin + i, sum_of_row(i), tau);
  };
  soften_narrow_rows(group, classes, tau, choose, scores, direct != nullptr ? direct : scores, see);
  if (direct == nullptr) store_group(scores, group.rows, classes, output, streams(a));
  if (choose) write_choices(a, group, choice, scores, a.one_hot);
}

/// How far `to` lies behind a line's beginning, in elements.
template <typename T>
static inline int64_t past_line(const T* to) {
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine / sizeof(T));
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

/// Rows that lie end to end, on their way past the caches. Values in scratch begin as far behind a
/// line as they will in memory. A line that two rows share goes with the second of them.
template <typename T>
class RowLines {
 public:
  RowLines(T* to, int64_t classes, T* scratch) : to_(to), classes_(classes), scratch_(scratch) {}

  /// Where values of row `first` and of rows behind it are made; keeps what row first - 1 left of a
  /// line.
  T* begin(int64_t first) {
    T* to = to_ + first * classes_;
    const int64_t past = past_line(to);
    if (first > 0 && past > 0) memcpy(scratch_, left_, kLine);
    first_ = first, values_ = scratch_ + past;
    return values_;
  }

  /// `count` classes of row i, from `begin` on, times `factor`.
  void put(int64_t i, int64_t begin, int64_t count, Factor<T> factor) {
    T* row = values_ + (i - first_) * classes_ + begin;
    T* to = to_ + i * classes_ + begin;
    const int64_t past = past_line(to), head = past == 0 ? 0 : min64(kStep - past, count);
    const int64_t last = head + (count - head) / kStep * kStep;
    scale_row(row, head, factor);
    if (head > 0 && to - past < to_)
      memcpy(to, row, head * sizeof(T));
    else if (head > 0 && past + head == kStep)
      stream_line(row - past, to - past);
    store_scaled_run(row + head, last - head, factor, to + head, true);
    left_ = row + last;
    scale_row(left_, count - last, factor);
  }

  /// The end of the last row, `rows - 1`.
  void finish(int64_t rows) {
    T* end = to_ + rows * classes_;
    memcpy(end - past_line(end), left_, past_line(end) * sizeof(T));
  }

 private:
  static constexpr int64_t kStep = kLine / sizeof(T);

  T* to_;
  int64_t classes_;
  T *scratch_, *values_ = nullptr, *left_ = nullptr;
  int64_t first_ = 0;
};

/// Where RowLines writes a group's rows; null where it does not.
template <typename T>
static inline T* row_lines(const Arguments& a, const Group& group, const void* result) {
  if (!kWholeRegisters<T> || !in_lines(Op::kSoft, a)) return nullptr;
  return packed_values<T>(result_matrix(a, group, result, 0), group.rows, a.rows.classes);
}

/// Samples of as many rows as scratch holds; see(i, what row i comes to, its temperature).
template <typename T, typename See>
static void soft_rows(const Arguments& a, const Group& group, T* scores, See&& see) {
  const int64_t classes = a.rows.classes;
  const Strided output = operand_matrix(a, group, Operand::kOutput, 0);
  if (are_short<T>(a, group) && output.packed(group.rows, classes))
    return soften_short_rows(a, group, scores, see, [&](int64_t i, int64_t rows, const T* factors) {
      store_products(scores + i * classes, factors, rows * classes, part_of(output, i, 0),
                     streams(a));
    });
  if (takes_rows_at_once(a, output, group.rows)) {
    soften_in_scratch(a, group, scores, see);
    return store_group(scores, group.rows, classes, output, streams(a));
  }
  soften_rows(a, group, scores, see,
              [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) {
                store_scaled(scores + i * classes + begin, count, factor, part_of(output, i, begin),
                             streams(a));
              });
}

/// soft_rows of any number of rows.
template <typename T, typename See>
static void soft_blocks(const Arguments& a, const Group& group, T* scores, See&& see) {
  T* to = row_lines<T>(a, group, a.output);
  RowLines<T> lines(to, a.rows.classes, scores);
  for_each_block(a, group, [&](const Group& block, int64_t first) {
    const auto see_row = [&](int64_t i, const RowSum<T>& sum, double tau) {
      see(first + i, sum, tau);
    };
    if (to == nullptr) return soft_rows(a, block, scores, see_row);
    soften_rows(a, block, lines.begin(first), see_row,
                [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) {
                  lines.put(first + i, begin, count, factor);
                });
  });
  if (to != nullptr) lines.finish(group.rows);
}

/// soft_blocks, and the one-hots beside them.
template <typename T>
static void soft_blocks_with_one_hots(const Arguments& a, const Group& group, T* scores) {
  int32_t choice[kTile];
  T* to = row_lines<T>(a, group, a.one_hot);
  if (to == nullptr) {
    soft_blocks(a, group, scores,
                [&](int64_t i, const RowSum<T>& sum, double) { choice[i] = choice_of(sum); });
    return write_choices(a, group, choice, scores, a.one_hot);
  }
  OneHotLines<T> lines(to, group.rows, a.rows.classes, choice);
  Group waiting = group;
  waiting.waiting = lines.waiting();
  soft_blocks(a, waiting, scores, [&](int64_t i, const RowSum<T>& sum, double) {
    choice[i] = choice_of(sum);
    lines.know(i + 1);
  });
  lines.finish();
  mark_undefined(a, group, choice, a.one_hot);
}

template <typename T>
static void soft_group(const Arguments& a, const Group& group, T* scores) {
  if (a.rows.classes <= kSideRows<T> && uniform_tau(a, group)) return soft_narrow(a, group, scores);
  if (a.one_hot != nullptr) return soft_blocks_with_one_hots(a, group, scores);
  soft_blocks(a, group, scores, [&](int64_t i, const RowSum<T>& sum, double tau) {
    write_lse(a, group.index + i, sum, tau);
  });
}

/// Probabilities of a group, [rows][classes] in scratch.
template <typename T>
static void soften_group(const Arguments& a, const Group& group, T* scores) {
  const int64_t classes = a.rows.classes;
  const auto ignore = [](auto...) {};
  if (classes <= kSideRows<T> && uniform_tau(a, group)) {
    load_scores(a, group, 0, classes, scores);
    return soften_narrow_rows(group, classes, tau_at(a, group.first), false, scores, scores,
                              ignore);
  }
  soften_in_scratch(a, group, scores, ignore);
}

/// Where a long row's exponentials wait for their factor: in `kept`, in the output, or nowhere
/// (null): then they are made again.
template <typename T>
static inline T* waiting_tile(const Arguments& a, const Row& row, int64_t begin, void* kept) {
  if (kept != nullptr) return static_cast<T*>(kept) + begin;
  const bool in_output = a.output_type == kTypeOf<T> && a.rows.step(Operand::kOutput) == 1;
  return in_output ? static_cast<T*>(a.output) + row[Operand::kOutput] + begin : nullptr;
}

/// Whether exponentials are made where they wait: not where more would be read behind them.
template <typename T>
static inline bool made_in_place(const Arguments& a, int64_t count) {
  const bool exact = kWholeRegisters<T> && words_run_along_classes(a.rows) && count > kShortRow;
  return count % kLanes == 0 || exact;
}

template <typename T>
static void soft_reduce_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                             TileStat& stat, bool divided, T* scores, void* kept) {
  T* waiting = waiting_tile<T>(a, row.first, begin, kept);
  T* values = waiting != nullptr && made_in_place<T>(a, count) ? waiting : scores;
  const RowSum<T> sum = load_exponentials(a, row, begin, count, divided, values);
  stat.max = sum.max, stat.sum = sum.sum, stat.index = begin + sum.top;
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
