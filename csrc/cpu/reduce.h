// SPDX-License-Identifier: Apache-2.0
// Reductions over one tile of a row, in one fixed order: element k goes to lane k % kLanes, the
// lanes are then halved.
#pragma once

#include "isa.h"

namespace torch_gumbel::cpu::TG_ISA {

template <typename T>
static inline T halve_lanes(const Lanes<T>& lanes) {
  T s[kLanes];
  memcpy(s, lanes.part, sizeof s);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int j = 0; j < width; ++j) s[j] += s[j + width];
  return s[0];
}

/// The last count < kLanes values, zeros behind them.
template <typename T>
static inline Lanes<T> load_some(const T* from, int64_t count) {
  T padded[kLanes] = {};
  for (int64_t j = 0; j < count; ++j) padded[j] = from[j];
  return Lanes<T>::load(padded);
}

template <typename T>
static inline T sum_of(const T* values, int64_t count) {
  auto sum = Lanes<T>::all(0);
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) sum.add(Lanes<T>::load(values + k));
  if (k < count) sum.add(load_some(values + k, count - k));
  return halve_lanes(sum);
}

/// sum_k a[k] b[k]
template <typename T>
static inline T dot_of(const T* a, const T* b, int64_t count) {
  auto sum = Lanes<T>::all(0);
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes)
    sum.add_product(Lanes<T>::load(a + k), Lanes<T>::load(b + k));
  if (k < count) sum.add_product(load_some(a + k, count - k), load_some(b + k, count - k));
  return halve_lanes(sum);
}

/// The largest value, NaN passed over; -inf if there is none.
template <typename T>
static inline T max_of(const T* values, int64_t count) {
  T largest = -static_cast<T>(__builtin_inf());
  int64_t k = 0;
  if (count >= kLanes) {
    auto lanes = Lanes<T>::all(largest);
    for (; k + kLanes <= count; k += kLanes) lanes.keep_larger(Lanes<T>::load(values + k));
    T each[kLanes];
    memcpy(each, lanes.part, sizeof each);
    for (int j = 0; j < kLanes; ++j) largest = each[j] > largest ? each[j] : largest;
  }
  for (; k < count; ++k) largest = values[k] > largest ? values[k] : largest;
  return largest;
}

}  // namespace torch_gumbel::cpu::TG_ISA
