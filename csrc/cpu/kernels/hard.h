// SPDX-License-Identifier: Apache-2.0
// Hard samples: the one-hot of each row's choice.
#pragma once

#include "argmax.h"
#include "one_hot.h"

namespace torch_gumbel::cpu::TG_ISA {

/// The one-hot of a choice; NaN all over for a row that has none.
template <typename T>
static inline void write_one_hot(const Best& best, int64_t classes, T* to) {
  for (int64_t k = 0; k < classes; ++k)
    to[k] = !best.drawn() ? static_cast<T>(__builtin_nan("")) : k == best.index ? T{1} : T{0};
}

/// The class beside a row's one-hot, where it is wanted.
static inline void keep_choice(const PlannedParams& a, int64_t row, int64_t choice) {
  if (a.index != nullptr) a.index[row] = choice;
}

/// One-hots of transposed rows.
template <int width, typename T>
TG_STAGE void one_hot_transposed(const T* index, int classes, T* padded) {
  Transposed<T, width> transposed;
  const auto at = loadu(index);
  for (int k = 0; k < classes; ++k) {
    const auto class_index = Vec<T>{} + static_cast<T>(k);
    storeu(at == class_index ? Vec<T>{} + T{1} : Vec<T>{}, transposed.at(k));
  }
  transposed.store(padded);
}

/// hard_group of rows of at most kVecRows classes and one valid temperature.
template <typename T>
static void hard_small(const PlannedParams& a, const Group& group, T* scores) {
  const int64_t classes = group.classes;
  const Strided output = group.output;
  T* direct = a.plan.nontemporal ? nullptr : packed_values<T>(output, group.rows, classes);
  T* to = direct != nullptr ? direct : scores;
  load_scores(group, scores);
  keep_logits(a, group);
  alignas(64) T padded[kPadded];
  search_small_rows(
      scores, group.rows, classes,
      [&](auto width, int64_t begin, int64_t rows, const T* index, const T* top) {
        constexpr int kWidth = decltype(width)::value;
        T* block = to + begin * classes;
        if (top == nullptr) {
          for (int64_t i = 0; i < rows; ++i) {
            const Best best = best_of_scores(scores + (begin + i) * classes, classes, 0);
            write_one_hot(best, classes, block + i * classes);
            keep_choice(a, group.index + begin + i, best.drawn() ? best.index : 0);
          }
          return;
        }
        for (int64_t i = 0; a.index != nullptr && i < rows; ++i)
          keep_choice(a, group.index + begin + i,
                      static_cast<int64_t>(index[transposed_index<T, kWidth>(i)]));
        for (int64_t i = 0; i < rows; i += kVecRows<T>)
          one_hot_transposed<kWidth>(index + i, static_cast<int>(classes), padded + i * kWidth);
        pack_rows<kWidth>(padded, rows, classes, block);
      });
  if (to == scores) store_group(scores, group.rows, classes, output, a.plan.nontemporal);
}

template <typename T>
static void hard_group(const PlannedParams& a, const Group& group, T* scores) {
  if (group.classes <= kVecRows<T> && group.uniform_tau() && math::valid_temperature(group.tau))
    return hard_small(a, group, scores);
  int32_t choice[kTile];
  search_group(a, group, false, scores, [&](int64_t i, const Best& best) {
    const bool drawn = best.drawn() && math::valid_temperature(group.tau_of(i));
    choice[i] = drawn ? static_cast<int32_t>(best.index) : kNoChoice;
    keep_choice(a, group.index + i, drawn ? best.index : 0);
  });
  keep_logits(a, group);
  write_choices(a, group, choice, scores, group.output);
}

}  // namespace torch_gumbel::cpu::TG_ISA
