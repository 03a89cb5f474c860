// SPDX-License-Identifier: Apache-2.0
// The first maximum of a row.
#pragma once

#include "../simd/reduce.h"

namespace torch_gumbel::cpu::TG_ISA {

/// The first of `count` values that is at least `top`, 0 if none is.
static inline int64_t first_at_least(const float* values, int64_t count, float top) {
  constexpr int64_t kStep = 4 * kLanes;
  int64_t k = 0;
  for (; k + kStep <= count; k += kStep) {
    auto largest = Lanes<float>::load(values + k);
    for (int64_t j = kLanes; j < kStep; j += kLanes)
      largest.keep_maximum(Lanes<float>::load(values + k + j));
    if (lanes_at_least(largest, top) != 0) break;
  }
  for (; k + kLanes <= count; k += kLanes) {
    const uint32_t mask = lanes_at_least(Lanes<float>::load(values + k), top);
    if (mask != 0) return k + __builtin_ctz(mask);
  }
  if (k == count) return 0;
  const auto rest = Lanes<float>::masked_load(values + k, count - k);
  const uint32_t mask = lanes_at_least(rest, top) & ((1u << (count - k)) - 1);
  return mask != 0 ? k + __builtin_ctz(mask) : 0;
}
static inline int64_t first_at_least(const double* values, int64_t count, double top) {
  for (int64_t k = 0; k < count; ++k)
    if (values[k] >= top) return k;
  return 0;
}

/// The largest of `count` values, and its first index.
template <typename T>
struct MaxWithIndex {
  T value;
  int64_t index;
};

/// first_maximum of count <= parts * kLanes values, without a data-dependent branch, which no
/// processor predicts.
template <int parts>
TG_STAGE MaxWithIndex<float> first_maximum_in_vectors(const float* values, int64_t count) {
  Lanes<float> lanes[parts];
  for (int p = 0; p < parts; ++p) lanes[p] = Lanes<float>::load(values + p * kLanes);
  lanes[parts - 1].fill_tail(count - (parts - 1) * kLanes, -__builtin_inff());
  auto largest = Lanes<float>::all(-__builtin_inff());
  for (int p = 0; p < parts; ++p) largest.keep_maximum(lanes[p]);
  max_of_runs<kLanes>(largest);
  uint64_t mask = 0;
  for (int p = 0; p < parts; ++p)
    mask |= uint64_t{lanes_at_least(lanes[p], largest)} << (p * kLanes);
  return {largest.part[0][0], mask != 0 ? __builtin_ctzll(mask) : 0};
}

/// The largest value of scratch, as max_of gives it, and its first index; 0 if all are NaN.
template <typename T>
static inline MaxWithIndex<T> first_maximum(const T* values, int64_t count) {
  if constexpr (std::is_same_v<T, float>) {
    static_assert(2 * kLanes <= 64, "a bit for each value");
    if (count <= kLanes) return first_maximum_in_vectors<1>(values, count);
    if (count <= 2 * kLanes) return first_maximum_in_vectors<2>(values, count);
  }
  const T top = max_of(values, count);
  return {top, first_at_least(values, count, top)};
}

}  // namespace torch_gumbel::cpu::TG_ISA
