// SPDX-License-Identifier: Apache-2.0
// Soft sample: y = softmax((logits + g) / tau).
#pragma once

#include "one_hot.h"
#include "softmax.h"

namespace torch_gumbel::cpu::TG_ISA {

template <typename T>
static inline void scale_row(T* row, int64_t count, Factor<T> factor) {
  const int64_t misaligned = misalignment(row);
  with_product(factor, [&](auto product) TG_INLINE {
    if (misaligned == 0) {
      for (int64_t k = 0; k < count; ++k) row[k] = product(row[k]);
      return;
    }
    T* from = row - misaligned;
    for_each_vec_from<T>(misaligned, misaligned + count,
                         [&](auto at) TG_INLINE { at.store(product(at.load(from)), from); });
  });
}

/// softmax_rows, with the probabilities in scratch.
template <typename T, typename Visitor>
static void softmax_in_scratch(const PlannedParams& a, const Group& group, T* scores,
                               Visitor&& visit) {
  softmax_rows(a, group, scores, visit,
               [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) TG_INLINE {
                 T* row = scores + i * group.classes + begin;
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

/// soft_group of rows of at most kVecRows classes and one temperature.
template <typename T>
static void soft_small(const PlannedParams& a, const Group& group, T* scores) {
  const int64_t classes = group.classes;
  const bool with_argmax = a.one_hot != nullptr;
  int32_t choice[kTile];
  load_scores(group, scores);
  T* direct = a.plan.nontemporal ? nullptr : packed_values<T>(group.output, group.rows, classes);
  const auto visit = [&](int64_t begin, int64_t rows, auto sum_of_row) {
    for (int64_t i = 0; with_argmax && i < rows; ++i) choice[begin + i] = choice_of(sum_of_row(i));
    if (a.row_value == nullptr) return;
    for (int64_t i = 0; i < rows; ++i)
      write_lse(a, group.index + begin + i, sum_of_row(i), group.tau);
  };
  softmax_small_rows(group, with_argmax, scores, direct != nullptr ? direct : scores, visit);
  if (direct == nullptr) store_group(scores, group.rows, classes, group.output, a.plan.nontemporal);
  if (with_argmax) write_choices(a, group, choice, scores, group.one_hot);
}

/// Offset of `to` in its cache line, in elements.
template <typename T>
static inline int64_t offset_in_line(const T* to) {
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine / sizeof(T));
}

/// Contiguous rows, written with nontemporal stores. Values in scratch have the alignment that they
/// will have in memory. A cache line that two rows share is written with the second of them.
template <typename T>
class NontemporalRows {
 public:
  NontemporalRows(T* to, int64_t classes, T* scratch)
      : to_(to), classes_(classes), scratch_(scratch) {}

  /// Where the values of rows from `first` on are computed; keeps the partial line before them.
  T* begin(int64_t first) {
    T* to = to_ + first * classes_;
    const int64_t misaligned = offset_in_line(to);
    if (first > 0 && misaligned > 0) memcpy(scratch_, left_, kLine);
    first_ = first, values_ = scratch_ + misaligned;
    return values_;
  }

  /// `count` classes of row i, from `begin` on, times `factor`.
  void put(int64_t i, int64_t begin, int64_t count, Factor<T> factor) {
    T* row = values_ + (i - first_) * classes_ + begin;
    T* to = to_ + i * classes_ + begin;
    const int64_t misaligned = offset_in_line(to),
                  head = misaligned == 0 ? 0 : min64(kStep - misaligned, count);
    const int64_t last = head + (count - head) / kStep * kStep;
    scale_row(row, head, factor);
    if (head > 0 && to - misaligned < to_)
      memcpy(to, row, head * sizeof(T));
    else if (head > 0 && misaligned + head == kStep)
      store_line_nontemporal(row - misaligned, to - misaligned);
    store_scaled_run(row + head, last - head, factor, to + head, true);
    left_ = row + last;
    scale_row(left_, count - last, factor);
  }

  /// The end of the last row, `rows - 1`.
  void finish(int64_t rows) {
    T* end = to_ + rows * classes_;
    memcpy(end - offset_in_line(end), left_, offset_in_line(end) * sizeof(T));
  }

 private:
  static constexpr int64_t kStep = kLine / sizeof(T);

  T* to_;
  int64_t classes_;
  T *scratch_, *values_ = nullptr, *left_ = nullptr;
  int64_t first_ = 0;
};

/// Where NontemporalRows writes a group's rows; null where it does not.
template <typename T>
static inline T* nontemporal_rows(const PlannedParams& a, const Group& group, const Strided& to) {
  if (!kVectorized<T> || a.plan.path != Path::kLines) return nullptr;
  return packed_values<T>(to, group.rows, group.classes);
}

/// Samples of as many rows as scratch holds; visit(i, sum of row i, its temperature).
template <typename T, typename Visitor>
static void soft_rows(const PlannedParams& a, const Group& group, T* scores, Visitor&& visit) {
  const int64_t classes = group.classes;
  const Strided& output = group.output;
  if (uses_short_softmax<T>(a, group) && output.packed(group.rows, classes))
    return softmax_short_rows(group, scores, visit, [&](int64_t i, int64_t rows, const T* factors) {
      store_scaled_elementwise(scores + i * classes, factors, rows * classes, part_of(output, i, 0),
                               a.plan.nontemporal);
    });
  if (a.plan.stores_rows_at_once ||
      (a.plan.stores_packed_rows_at_once && output.packed(group.rows, classes))) {
    softmax_in_scratch(a, group, scores, visit);
    return store_group(scores, group.rows, classes, output, a.plan.nontemporal);
  }
  softmax_rows(a, group, scores, visit,
               [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) {
                 store_scaled(scores + i * classes + begin, count, factor,
                              part_of(output, i, begin), a.plan.nontemporal);
               });
}

/// soft_rows of any number of rows.
template <typename T, typename Visitor>
static void soft_blocks(const PlannedParams& a, const Group& group, T* scores, Visitor&& visit) {
  T* to = nontemporal_rows<T>(a, group, group.output);
  NontemporalRows<T> lines(to, group.classes, scores);
  for_each_block(a, group, [&](const Group& block, int64_t first) {
    const auto visit_row = [&](int64_t i, const RowSum<T>& sum, double tau) {
      visit(first + i, sum, tau);
    };
    if (to == nullptr) return soft_rows(a, block, scores, visit_row);
    softmax_rows(a, block, lines.begin(first), visit_row,
                 [&](int64_t i, int64_t begin, int64_t count, const Factor<T>& factor) {
                   lines.put(first + i, begin, count, factor);
                 });
  });
  if (to != nullptr) lines.finish(group.rows);
}

/// soft_blocks, and the one-hots beside them.
template <typename T>
static void soft_blocks_with_one_hots(const PlannedParams& a, const Group& group, T* scores) {
  int32_t choice[kTile];
  T* to = nontemporal_rows<T>(a, group, group.one_hot);
  if (to == nullptr) {
    soft_blocks(a, group, scores,
                [&](int64_t i, const RowSum<T>& sum, double) { choice[i] = choice_of(sum); });
    return write_choices(a, group, choice, scores, group.one_hot);
  }
  NontemporalOneHots<T> lines(to, group.rows, group.classes, choice);
  Group deferring = group;
  deferring.deferred = lines.deferred();
  soft_blocks(a, deferring, scores, [&](int64_t i, const RowSum<T>& sum, double) {
    choice[i] = choice_of(sum);
    lines.know(i + 1);
  });
  lines.finish();
  mark_undefined(group, choice, group.one_hot);
}

template <typename T>
static void soft_group(const PlannedParams& a, const Group& group, T* scores) {
  if (group.classes <= kVecRows<T> && group.uniform_tau()) return soft_small(a, group, scores);
  if (a.one_hot != nullptr) return soft_blocks_with_one_hots(a, group, scores);
  soft_blocks(a, group, scores, [&](int64_t i, const RowSum<T>& sum, double tau) {
    write_lse(a, group.index + i, sum, tau);
  });
}

/// Probabilities of a group, [rows][classes] in scratch.
template <typename T>
static void softmax_group(const PlannedParams& a, const Group& group, T* scores) {
  const auto ignore = [](auto...) {};
  if (group.classes <= kVecRows<T> && group.uniform_tau()) {
    load_scores(group, scores);
    return softmax_small_rows(group, false, scores, scores, ignore);
  }
  softmax_in_scratch(a, group, scores, ignore);
}

}  // namespace torch_gumbel::cpu::TG_ISA
