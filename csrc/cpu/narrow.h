// SPDX-License-Identifier: Apache-2.0
// Rows of at most kLanes classes: kBlockRows of them side by side, so that every loop runs across
// rows. Gives the bits of the general form, whose lane k holds element k of such a row.
#pragma once

#include "reduce.h"

namespace torch_gumbel::cpu::TG_ISA {

constexpr int kBlockRows = 64;

/// Up to kBlockRows narrow rows, class by class.
template <typename T>
struct Columns {
  T at[kLanes][kBlockRows];
  int classes;

  Columns(const T* rows, int64_t count, int64_t row_classes)
      : classes(static_cast<int>(row_classes)) {
    for (int k = 0; k < classes; ++k) {
      for (int r = 0; r < count; ++r) at[k][r] = rows[r * row_classes + k];
      for (int r = static_cast<int>(count); r < kBlockRows; ++r) at[k][r] = 0;
    }
  }

  void store(T* rows, int64_t count) const {
    for (int r = 0; r < count; ++r)
      for (int k = 0; k < classes; ++k) rows[r * classes + k] = at[k][r];
  }

  void max(T* largest) const {
    const T lowest = -static_cast<T>(__builtin_inf());
    for (int r = 0; r < kBlockRows; ++r) largest[r] = lowest;
    for (int k = 0; k < classes; ++k)
      for (int r = 0; r < kBlockRows; ++r)
        largest[r] = at[k][r] > largest[r] ? at[k][r] : largest[r];
  }

  /// The fixed tree of halve_lanes; absent lanes would add 0.
  void sum(T* total) const {
    T partial[kLanes / 2][kBlockRows];
    for (int j = 0; j < kLanes / 2 && j < classes; ++j)
      for (int r = 0; r < kBlockRows; ++r)
        partial[j][r] = j + kLanes / 2 < classes ? at[j][r] + at[j + kLanes / 2][r] : at[j][r];
    for (int width = kLanes / 4; width > 0; width /= 2)
      for (int j = 0; j < width && j + width < classes; ++j)
        for (int r = 0; r < kBlockRows; ++r) partial[j][r] += partial[j + width][r];
    for (int r = 0; r < kBlockRows; ++r) total[r] = partial[0][r];
  }
};

}  // namespace torch_gumbel::cpu::TG_ISA
