// SPDX-License-Identifier: Apache-2.0
// Hard samples: the one-hot of each row's choice.
#pragma once

#include "choose.h"
#include "store.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Zeros in a run of bytes. Out of line: inlined among much else, its pointer is read from the stack
/// at every step, which costs a tenth of a hard sample.
__attribute__((noinline)) static void clear_run(char* bytes, int64_t count, bool streams) {
  if (!streams || count < kLine) return (void)memset(bytes, 0, count);
  alignas(kLine) const char line[kLine] = {};
  const int64_t head = (kLine - reinterpret_cast<uintptr_t>(bytes) % kLine) % kLine;
  const int64_t end = head + (count - head) / kLine * kLine;
  memset(bytes, 0, head);
  for (int64_t at = head; at < end; at += kLine) stream_line(line, bytes + at);
  memset(bytes + end, 0, count - end);
}

/// Zeros in classes [begin, begin + count) of a group's rows, in as few runs as they lie in.
static inline void clear_output(const Arguments& a, const Group& group, int64_t begin,
                                int64_t count) {
  const Strided to = operand_matrix(a, group, Operand::kOutput, begin);
  auto* bytes = static_cast<char*>(const_cast<void*>(to.data));
  const int64_t size = element_size(to.type);
  const int64_t row_bytes = to.row_step * size, class_bytes = to.class_step * size;
  const bool across = to.row_step == 1 && to.class_step == group.rows;
  if (across || (to.class_step == 1 && (group.rows == 1 || to.row_step == count))) {
    clear_run(bytes, group.rows * count * size, streams(a));
  } else if (to.class_step == 1) {
    for (int64_t i = 0; i < group.rows; ++i) memset(bytes + i * row_bytes, 0, count * size);
  } else {
    const int64_t run = to.row_step == 1 ? group.rows : 1;
    for (int64_t k = 0; k < count; ++k)
      for (int64_t i = 0; i < group.rows; i += run)
        memset(bytes + i * row_bytes + k * class_bytes, 0, run * size);
  }
}

static inline void write_output(const Arguments& a, const Group& group, int64_t i,
                                int64_t class_index, float value) {
  const int64_t at = group.first[Operand::kOutput] + i * group.step_of(Operand::kOutput) +
                     class_index * a.rows.step(Operand::kOutput);
  with_elements(a.output_type, a.output, [&](auto* elements) {
    using Element = std::remove_const_t<std::remove_pointer_t<decltype(elements)>>;
    const_cast<Element*>(elements)[at] = narrow<Element>(value);
  });
}

/// The 1 of cleared row i among classes [begin, begin + count), or NaN in all of them if the row
/// has no distribution.
static inline void mark_choice(const Arguments& a, const Group& group, int64_t i, int64_t begin,
                               int64_t count, const Best& best) {
  // A row's offsets cost more than a narrow row does: only where its temperature is its own.
  const double tau = a.tau == nullptr ? a.host_tau : tau_at(a, row_of(group, i));
  if (best.drawn() && math::valid_temperature(tau)) {
    if (best.index >= begin && best.index < begin + count)
      write_output(a, group, i, best.index, 1.0f);
  } else {
    for (int64_t k = begin; k < begin + count; ++k)
      write_output(a, group, i, k, __builtin_nanf(""));
  }
}

/// The one-hot of a choice; NaN all over for a row that has none.
template <typename T>
static inline void write_one_hot(const Best& best, int64_t classes, T* to) {
  for (int64_t k = 0; k < classes; ++k)
    to[k] = !best.drawn() ? static_cast<T>(__builtin_nan("")) : k == best.index ? T{1} : T{0};
}

/// One-hot rows side by side.
template <int width, typename T>
TG_STAGE void one_hot_side(const T* place, int classes, T* padded) {
  Side<T, width> side;
  const auto at = load_register(place);
  for (int k = 0; k < classes; ++k) {
    const auto column = Register<T>{} + static_cast<T>(k);
    store_register(at == column ? Register<T>{} + T{1} : Register<T>{}, side.at(k));
  }
  side.store(padded);
}

/// hard_group of rows of at most kSideRows classes and one valid temperature.
template <typename T>
static void hard_narrow(const Arguments& a, const Group& group, T* scores) {
  const int64_t classes = a.rows.classes;
  const Strided output = operand_matrix(a, group, Operand::kOutput, 0);
  T* direct = streams(a) ? nullptr : packed_values<T>(output, group.rows, classes);
  T* to = direct != nullptr ? direct : scores;
  load_scores(a, group, 0, classes, scores);
  alignas(64) T padded[kPadded];
  choose_narrow_rows(scores, group.rows, classes,
                     [&](auto width, int64_t begin, int64_t rows, const T* place, const T* top) {
                       constexpr int kWidth = decltype(width)::value;
                       T* block = to + begin * classes;
                       if (top == nullptr) {
                         for (int64_t i = 0; i < rows; ++i)
                           write_one_hot(best_of_scores(scores + (begin + i) * classes, classes, 0),
                                         classes, block + i * classes);
                         return;
                       }
                       for (int64_t i = 0; i < rows; i += kSideRows<T>)
                         one_hot_side<kWidth>(place + i, static_cast<int>(classes),
                                              padded + i * kWidth);
                       pack_rows<kWidth>(padded, rows, classes, block);
                     });
  if (to == scores) store_group(scores, group.rows, classes, output, streams(a));
}

// Rows that lie end to end and go past the caches. A 1 that is stored after its line was streamed
// waits until the line comes back: so lines are streamed with their ones.

constexpr int32_t kNoChoice = -1;  // of a row that is NaN all over

/// Short rows are made in `made`: lines with and without ones follow each other as they like, which
/// no processor predicts.
template <typename Element>
static void stream_short(const int32_t* choice, int64_t rows, int64_t classes, Element* made,
                         Element* to) {
  memset(made, 0, rows * classes * sizeof(Element));
  for (int64_t i = 0; i < rows; ++i) {
    Element* row = made + i * classes;
    if (choice[i] != kNoChoice)
      row[choice[i]] = narrow<Element>(1.0f);
    else
      for (int64_t k = 0; k < classes; ++k) row[k] = narrow<Element>(__builtin_nanf(""));
  }
  store_lines(
      to, rows * classes, true,
      [&](int64_t k, Element* line) TG_INLINE { memcpy(line, made + k, kLine); },
      [&](int64_t k) { return made[k]; });
}

template <typename Element>
static void stream_ones(const int32_t* choice, int64_t rows, int64_t classes, Element* to) {
  constexpr int64_t kStep = kLine / sizeof(Element);
  alignas(kLine) static constexpr char kZeros[kLine] = {};
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine);
  const int64_t head = past == 0 ? 0 : (kLine - past) / static_cast<int64_t>(sizeof(Element));
  const int64_t count = rows * classes, tail = head + (count - head) / kStep * kStep;
  const auto one = narrow<Element>(1.0f);
  memset(to, 0, head * sizeof(Element));
  memset(to + tail, 0, (count - tail) * sizeof(Element));
  int64_t k = head;
  for (int64_t i = 0; i < rows; ++i) {
    if (choice[i] == kNoChoice) continue;
    const int64_t at = i * classes + choice[i];
    for (; k + kStep <= at && k < tail; k += kStep) stream_line(kZeros, to + k);
    if (at < k || at >= tail) {  // at an end, or in one line with the row before
      to[at] = one;
      continue;
    }
    alignas(kLine) Element line[kStep];
    for (int64_t j = 0; j < kStep; ++j) line[j] = j == at - k ? one : Element{};
    stream_line(line, to + k);
    k += kStep;
  }
  for (; k < tail; k += kStep) stream_line(kZeros, to + k);
}

template <typename T>
static void stream_hard(const Arguments& a, const Group& group, const Strided& output, T* scores) {
  constexpr int64_t kShort = 256;
  const int64_t classes = a.rows.classes;
  int32_t choice[kTile];
  bool all = true;
  choose_group(a, group, false, scores, [&](int64_t i, const Best& best) {
    const double tau = a.tau == nullptr ? a.host_tau : tau_at(a, row_of(group, i));
    const bool drawn = best.drawn() && math::valid_temperature(tau);
    choice[i] = drawn ? static_cast<int32_t>(best.index) : kNoChoice;
    all &= drawn;
  });
  with_elements(output.type, output.data, [&](auto* elements) {
    using Element = std::remove_const_t<std::remove_pointer_t<decltype(elements)>>;
    auto* to = const_cast<Element*>(elements);
    if (classes < kShort)
      return stream_short(choice, group.rows, classes, reinterpret_cast<Element*>(scores), to);
    stream_ones(choice, group.rows, classes, to);
    for (int64_t i = 0; !all && i < group.rows; ++i)
      if (choice[i] == kNoChoice) mark_choice(a, group, i, 0, classes, {});
  });
}

template <typename T>
static void hard_group(const Arguments& a, const Group& group, T* scores) {
  const int64_t classes = a.rows.classes;
  if (classes <= kSideRows<T> && uniform_tau(a, group) &&
      math::valid_temperature(tau_at(a, group.first)))
    return hard_narrow(a, group, scores);
  const Strided output = operand_matrix(a, group, Operand::kOutput, 0);
  const bool fits = element_size(output.type) <= static_cast<int64_t>(sizeof(T));
  if (streams(a) && fits && output.packed(group.rows, classes))
    return stream_hard(a, group, output, scores);
  clear_output(a, group, 0, classes);
  choose_group(a, group, false, scores,
               [&](int64_t i, const Best& best) { mark_choice(a, group, i, 0, classes, best); });
}

}  // namespace torch_gumbel::cpu::TG_ISA
