// SPDX-License-Identifier: Apache-2.0
// Rows whose classes lie apart, in memory and among the random words, while neighbouring rows lie
// together (`dim` is not the last one). They are kept class by class, [classes][rows], as they lie,
// and every step runs across rows. Gives the bits of the general form.
#pragma once

#include "scores.h"
#include "store.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Values of one class, where they lie or in `room`.
template <typename T>
static inline const T* load_column(const Strided& from, int64_t k, int64_t rows, T* room) {
  const Strided column = part_of(from, 0, k);
  if (from.type == kTypeOf<T> && from.row_step == 1) return static_cast<const T*>(column.data);
  with_elements(from.type, column.data, [&](auto* data) {
    if (from.row_step == 1) return load_run(data, rows, room);
    for (int64_t i = 0; i < rows; ++i) room[i] = static_cast<T>(widen(data[i * from.row_step]));
  });
  return room;
}

/// Asks for the values of a class: they lie too far from the last one's for a processor to guess.
static inline void fetch_column(const Strided& from, int64_t k, int64_t rows) {
  if (from.row_step != 1) return;
  const int64_t size = element_size(from.type);
  const auto* data = static_cast<const char*>(from.data) + k * from.class_step * size;
  for (int64_t at = 0; at < rows * size; at += kLine) __builtin_prefetch(data + at);
}

/// The classes of a group's output.
template <typename T>
class ColumnOutput {
 public:
  ColumnOutput(const Arguments& a, const Group& group)
      : to_(operand_matrix(a, group, Operand::kOutput, 0)), rows_(group.rows) {
    const bool lines = reinterpret_cast<uintptr_t>(to_.data) % kLine == 0 &&
                       whole_lines(rows_, to_.type) && whole_lines(to_.class_step, to_.type);
    past_caches_ = streams(a) && to_.row_step == 1 && lines;
  }

  /// Where a class's values may be made: in place, or in `room`.
  T* place(int64_t k, T* room) const {
    if (past_caches_ || to_.type != kTypeOf<T> || to_.row_step != 1) return room;
    return static_cast<T*>(const_cast<void*>(part_of(to_, 0, k).data));
  }

  /// Stores values that were made in place(k, ...).
  void put(const T* values, int64_t k) const {
    const Strided column = part_of(to_, 0, k);
    if (values == column.data) return;
    with_elements(to_.type, column.data, [&](auto* elements) {
      using Element = std::remove_const_t<std::remove_pointer_t<decltype(elements)>>;
      auto* data = const_cast<Element*>(elements);
      if (to_.row_step == 1)
        return store_scaled_run(values, rows_, Factor<T>{1}, data, past_caches_);
      for (int64_t i = 0; i < rows_; ++i) data[i * to_.row_step] = narrow<Element>(values[i]);
    });
  }

 private:
  Strided to_;
  int64_t rows_;
  bool past_caches_;
};

/// Words of classes [first_class, first_class + classes) of a group: for each class a run of words,
/// one per row.
class WordColumns {
 public:
  static constexpr int64_t kRoom = kTile + 256;

  /// How many classes fit.
  static int64_t fit(const Arguments& a, const Group& group) {
    return kRoom / (follow(a, group) ? group.rows : run_room(group.rows)) - 1;
  }

  WordColumns(const Arguments& a, const Group& group, int64_t first_class, int64_t classes,
              math::Plane plane = math::Plane::kWord)
      : key_(key_of(a, group.first)),
        step_(static_cast<uint64_t>(a.rows.step(Operand::kWord))),
        first_(static_cast<uint64_t>(group.first[Operand::kWord]) + first_class * step_),
        follow_(follow(a, group)),
        room_(follow_ ? group.rows : run_room(group.rows)) {
    const int64_t count = classes * group.rows;
    if (follow_)
      fill_words(key_, first_ / 4, (static_cast<int64_t>(first_ % 4) + count + 3) / 4, plane,
                 words_);
    else
      fill_runs(key_, first_, step_, classes, group.rows, plane, words_);
  }

  /// Words of one class, counted from first_class.
  const uint32_t* column(int64_t k) const {
    return words_ + k * room_ + (follow_ ? first_ : position(k)) % 4;
  }
  uint64_t position(int64_t k) const { return first_ + static_cast<uint64_t>(k) * step_; }
  uint32_t extension(int64_t k, int64_t i) const {
    return math::key_word(key_, position(k) + static_cast<uint64_t>(i), math::Plane::kExtension);
  }

 private:
  /// Whether the classes' runs follow each other.
  static bool follow(const Arguments& a, const Group& group) {
    return a.rows.step(Operand::kWord) == group.rows;
  }

  alignas(64) uint32_t words_[kRoom + kWordSlack];
  math::Key key_;
  uint64_t step_, first_;
  bool follow_;
  int64_t room_;
};

/// extend_exponentials, for columns.
__attribute__((noinline, cold)) static void extend_columns(const WordColumns& words,
                                                           int64_t classes, int64_t rows,
                                                           float* exponentials) {
  for (int64_t k = 0; k < classes; ++k)
    for (int64_t i = 0; i < rows; ++i)
      if (words.column(k)[i] < math::kExtendBelow)
        exponentials[k * rows + i] = math::exponential(words.column(k)[i], words.extension(k, i));
}

/// noise[k][i] of classes that fit in WordColumns, but for the last logarithm in float32, which
/// finished_noise takes.
static void column_noise(const Arguments& a, const Group& group, int64_t first_class,
                         int64_t classes, float* exponentials) {
  const WordColumns words(a, group, first_class, classes);
  const bool reads = a.input != nullptr;  // noise alone reads nothing
  const Strided logits = reads ? operand_matrix(a, group, Operand::kInput, 0) : Strided{};
  const int64_t rows = group.rows;
  uint32_t smallest = ~0u;
  for (int64_t k = 0; k < classes; ++k) {
    const uint32_t* column = words.column(k);
    if (reads) fetch_column(logits, first_class + k, rows);
    const uint32_t least =
        exponentials_of(column, rows, exponentials + k * rows, Ahead{}, WaitingLines{});
    smallest = least < smallest ? least : smallest;
  }
  if (smallest < math::kExtendBelow) extend_columns(words, classes, rows, exponentials);
}

static void column_noise(const Arguments& a, const Group& group, int64_t first_class,
                         int64_t classes, double* noise) {
  const WordColumns words(a, group, first_class, classes);
  const WordColumns extensions(a, group, first_class, classes, math::Plane::kExtension);
  for (int64_t k = 0; k < classes; ++k) {
    const uint32_t *column = words.column(k), *second = extensions.column(k);
    double* __restrict to = noise + k * group.rows;
    for (int64_t i = 0; i < group.rows; ++i) to[i] = math::gumbel64(column[i], second[i]);
  }
}

static inline float finished_noise(float exponential) {
  return math::gumbel_of_exponential(exponential);
}
static inline double finished_noise(double noise) { return noise; }

/// Calls f(k, noise of class k as column_noise leaves it) for classes [begin, end).
template <typename T, typename F>
static inline void for_each_noise_column(const Arguments& a, const Group& group, int64_t begin,
                                         int64_t end, F&& f) {
  alignas(64) T noise[WordColumns::kRoom];
  const int64_t step = WordColumns::fit(a, group);
  for (int64_t first = begin; first < end; first += step) {
    const int64_t classes = min64(step, end - first);
    column_noise(a, group, first, classes, noise);
    for (int64_t k = 0; k < classes; ++k) f(first + k, noise + k * group.rows);
  }
}

/// Scores of classes [begin, end), [classes][rows], and the largest of each row so far in `top`;
/// or, if only E is wanted, that, and the largest logits.
template <typename T>
static void load_score_columns(const Arguments& a, const Group& group, int64_t begin, int64_t end,
                               bool only_e, T* scores, T* top) {
  const Strided logits = operand_matrix(a, group, Operand::kInput, 0);
  const int64_t rows = group.rows;
  T room[kColumns];
  for_each_noise_column<T>(a, group, begin, end, [&](int64_t k, const T* noise) {
    const T* x = load_column(logits, k, rows, room);
    T* to = scores + (k - begin) * rows;
    if (only_e) {
      memcpy(to, noise, rows * sizeof(T));
      for (int64_t i = 0; i < rows; ++i) top[i] = x[i] > top[i] ? x[i] : top[i];
      return;
    }
    for (int64_t i = 0; i < rows; ++i) {
      to[i] = x[i] + finished_noise(noise[i]);
      top[i] = to[i] > top[i] ? to[i] : top[i];
    }
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
