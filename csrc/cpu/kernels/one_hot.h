// SPDX-License-Identifier: Apache-2.0
// Stores of one-hot rows.
#pragma once

#include "../simd/store.h"
#include "prune.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Zeros in a run of bytes, line by line, as deferred stores.
class NontemporalZeros {
 public:
  NontemporalZeros(char* bytes, int64_t count, int64_t element) : element_(element) {
    const auto head = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(bytes) % kLine);
    next_ = bytes + min64(head, count);
    end_ = next_ + (bytes + count - next_) / kLine * kLine;
    memset(bytes, 0, next_ - bytes);
    memset(end_, 0, bytes + count - end_);
  }
  void write(int64_t elements) {
    const int64_t left = end_ - next_;
    for (char* last = next_ + min64(elements * element_, left); next_ < last; next_ += kLine)
      store_line_nontemporal(kZeros, next_);
  }
  void finish() { write(end_ - next_); }
  DeferredStores deferred() {
    return {[](void* lines, int64_t elements) {
              static_cast<NontemporalZeros*>(lines)->write(elements);
            },
            this};
  }

 private:
  alignas(kLine) static constexpr char kZeros[kLine] = {};
  int64_t element_;
  char *next_, *end_;
};

/// Zeros in a run of bytes. Out of line: inlined among much else, its pointer is read from the
/// stack at every step, which costs a tenth of a hard sample.
__attribute__((noinline)) static void clear_run(char* bytes, int64_t count, bool nontemporal) {
  if (!nontemporal || count < kLine) return (void)memset(bytes, 0, count);
  NontemporalZeros(bytes, count, 1).finish();
}

/// Copies a run of bytes.
__attribute__((noinline)) static void copy_run(const char* from, char* to, int64_t count,
                                               bool nontemporal) {
  if (!nontemporal || count < 2 * kLine) return (void)memcpy(to, from, count);
  const auto head = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(to) % kLine);
  memcpy(to, from, head);
  int64_t at = head;
  for (; at + kLine <= count; at += kLine) store_line_nontemporal(from + at, to + at);
  memcpy(to + at, from + at, count - at);
}

/// Calls f(offset, bytes, whether it is the only one) for each run of bytes that a matrix is.
template <typename F>
TG_STAGE void for_each_run(const Strided& matrix, int64_t rows, int64_t count, F&& f) {
  const int64_t size = element_size(matrix.type);
  const int64_t row_bytes = matrix.row_step * size, class_bytes = matrix.class_step * size;
  const bool spatial = matrix.row_step == 1 && matrix.class_step == rows;
  if (spatial || (matrix.class_step == 1 && (rows == 1 || matrix.row_step == count)))
    return f(0, rows * count * size, true);
  if (matrix.class_step == 1) {
    for (int64_t i = 0; i < rows; ++i) f(i * row_bytes, count * size, false);
    return;
  }
  const int64_t run = matrix.row_step == 1 ? rows : 1;
  for (int64_t k = 0; k < count; ++k)
    for (int64_t i = 0; i < rows; i += run) f(i * row_bytes + k * class_bytes, run * size, false);
}

/// Zeros in a matrix, in as few runs as they lie in.
static inline void clear_matrix(const Strided& to, int64_t rows, int64_t count, bool nontemporal) {
  auto* bytes = static_cast<char*>(to.data);
  for_each_run(to, rows, count, [&](int64_t at, int64_t run, bool whole) TG_INLINE {
    if (whole) return clear_run(bytes + at, run, nontemporal);
    memset(bytes + at, 0, run);
  });
}

/// The copy of a group's logits beside its hard sample, where it is wanted.
static inline void keep_logits(const PlannedParams& a, const Group& group) {
  if (group.one_hot.data == nullptr) return;
  const auto* from = static_cast<const char*>(group.input.data);
  auto* to = static_cast<char*>(group.one_hot.data);
  for_each_run(group.one_hot, group.rows, group.classes,
               [&](int64_t at, int64_t run, bool whole)
                   TG_INLINE { copy_run(from + at, to + at, run, whole && a.plan.nontemporal); });
}

/// Classes [begin, end) of row i of a matrix.
static inline void fill_classes(const Strided& to, int64_t i, int64_t begin, int64_t end,
                                float value) {
  dispatch_dtype(part_of(to, i, 0), [&](auto* row) {
    using Element = std::remove_pointer_t<decltype(row)>;
    for (int64_t k = begin; k < end; ++k) row[k * to.class_step] = narrow<Element>(value);
  });
}

/// The 1 of cleared row i if its class is among the group's, or NaN in all of them if the row has no
/// distribution. `to`: the output or the one-hot.
static inline void mark_choice(const Group& group, int64_t i, const Best& best, const Strided& to) {
  const int64_t k = best.index - group.begin;
  if (!best.drawn() || !math::valid_temperature(group.tau_of(i)))
    fill_classes(to, i, 0, group.classes, __builtin_nanf(""));
  else if (k >= 0 && k < group.classes)
    fill_classes(to, i, k, k + 1, 1.0f);
}

// Contiguous rows with nontemporal stores. A 1 that is stored after its line was written would read
// the line back: so lines are written with their ones.

constexpr int32_t kNoChoice = -1;  // of a row that is NaN all over

/// Short rows are built in `scratch`: whether a line has a one is a branch that no processor
/// predicts.
template <typename Element>
static void store_short_nontemporal(const int32_t* choice, int64_t rows, int64_t classes,
                                    Element* scratch, Element* to) {
  memset(scratch, 0, rows * classes * sizeof(Element));
  for (int64_t i = 0; i < rows; ++i) {
    Element* row = scratch + i * classes;
    if (choice[i] != kNoChoice)
      row[choice[i]] = narrow<Element>(1.0f);
    else
      for (int64_t k = 0; k < classes; ++k) row[k] = narrow<Element>(__builtin_nanf(""));
  }
  store_lines(
      to, rows * classes, true,
      [&](int64_t k, Element* line) TG_INLINE { memcpy(line, scratch + k, kLine); },
      [&](int64_t k) { return scratch[k]; });
}

/// Contiguous one-hot rows, written in order, lines with their ones, as their choices become known.
template <typename Element>
class NontemporalOneHots {
 public:
  NontemporalOneHots(Element* to, int64_t rows, int64_t classes, const int32_t* choice)
      : to_(to), choice_(choice), rows_(rows), classes_(classes) {
    const auto misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine);
    const int64_t count = rows * classes;
    next_ = misaligned == 0 ? 0 : (kLine - misaligned) / static_cast<int64_t>(sizeof(Element));
    tail_ = next_ + (count - next_) / kStep * kStep;
    memset(to, 0, next_ * sizeof(Element));
    memset(to + tail_, 0, (count - tail_) * sizeof(Element));
  }

  /// The choices of the first `rows` rows are known.
  void know(int64_t rows) { known_ = rows; }

  /// Writes known lines of `elements` elements.
  void write(int64_t elements) {
    const int64_t known = known_ * classes_ - kStep + 1, most = next_ + elements;
    const int64_t last = known < tail_ ? known : tail_, end = most < last ? most : last;
    while (next_ < end) {
      const int64_t one = next_one();
      clear_until(one < end ? one - (one - next_) % kStep : end);
      if (one < end) write_line_of_ones();
    }
  }

  /// Writes the rest.
  void finish() {
    write(tail_ - next_);
    for (; row_ < rows_; ++row_)
      if (choice_[row_] != kNoChoice) to_[row_ * classes_ + choice_[row_]] = narrow<Element>(1.0f);
  }

  DeferredStores deferred() {
    return {[](void* lines, int64_t elements) {
              static_cast<NontemporalOneHots*>(lines)->write(elements);
            },
            this};
  }

 private:
  static constexpr int64_t kStep = kLine / sizeof(Element);

  /// The first 1 that is known and not written.
  int64_t next_one() {
    for (; row_ < known_; ++row_) {
      const int64_t at = row_ * classes_ + choice_[row_];
      if (choice_[row_] == kNoChoice) continue;
      if (at >= next_) return at;
      to_[at] = narrow<Element>(1.0f);  // before the first line
    }
    return tail_;
  }

  void clear_until(int64_t end) {
    alignas(kLine) static constexpr char kZeros[kLine] = {};
    for (; next_ < end; next_ += kStep) store_line_nontemporal(kZeros, to_ + next_);
  }

  void write_line_of_ones() {
    alignas(kLine) Element line[kStep] = {};
    for (int64_t at = next_one(); at < next_ + kStep && row_ < known_; at = next_one()) {
      line[at - next_] = narrow<Element>(1.0f);
      ++row_;
    }
    store_line_nontemporal(line, to_ + next_);
    next_ += kStep;
  }

  Element* to_;
  const int32_t* choice_;
  int64_t rows_, classes_, known_ = 0, row_ = 0, next_, tail_;
};

/// NaN in the rows that have no distribution.
static inline void mark_undefined(const Group& group, const int32_t* choice, const Strided& to) {
  for (int64_t i = 0; i < group.rows; ++i)
    if (choice[i] == kNoChoice) fill_classes(to, i, 0, group.classes, __builtin_nanf(""));
}

/// One-hot rows of a group in its output or one-hot. `buffer`: scratch of the group's size.
template <typename T>
static void write_choices(const PlannedParams& a, const Group& group, const int32_t* choice,
                          T* buffer, const Strided& to) {
  const int64_t rows = group.rows, classes = group.classes;
  const bool in_lines = a.plan.one_hots_in_lines && to.packed(rows, classes);
  if (!in_lines) clear_matrix(to, rows, classes, a.plan.nontemporal);
  dispatch_dtype(to, [&](auto* data) {
    using Element = std::remove_pointer_t<decltype(data)>;
    if (in_lines && a.plan.short_one_hots)
      return store_short_nontemporal(choice, rows, classes, reinterpret_cast<Element*>(buffer),
                                     data);
    if (in_lines) {
      NontemporalOneHots<Element> lines(data, rows, classes, choice);
      lines.know(rows);
      return lines.finish();
    }
    for (int64_t i = 0; i < rows; ++i)
      if (choice[i] != kNoChoice)
        data[i * to.row_step + choice[i] * to.class_step] = narrow<Element>(1.0f);
  });
  if (!in_lines || !a.plan.short_one_hots) mark_undefined(group, choice, to);
}

}  // namespace torch_gumbel::cpu::TG_ISA
