// SPDX-License-Identifier: Apache-2.0
// Where a row's first maximum is.
#pragma once

#include "reduce.h"

namespace torch_gumbel::cpu::TG_ISA {

/// The first of `count` values that is at least `top`, 0 if none is.
static inline int64_t first_reaching(const float* values, int64_t count, float top) {
  constexpr int64_t kStep = 4 * kLanes;
  int64_t k = 0;
  for (; k + kStep <= count; k += kStep) {
    auto largest = Lanes<float>::load(values + k);
    for (int64_t j = kLanes; j < kStep; j += kLanes)
      largest.keep_larger(Lanes<float>::load(values + k + j));
    if (lanes_at_least(largest, top) != 0) break;
  }
  for (; k + kLanes <= count; k += kLanes) {
    const uint32_t reached = lanes_at_least(Lanes<float>::load(values + k), top);
    if (reached != 0) return k + __builtin_ctz(reached);
  }
  if (k == count) return 0;
  const auto rest = Lanes<float>::load_some(values + k, count - k);
  const uint32_t reached = lanes_at_least(rest, top) & ((1u << (count - k)) - 1);
  return reached != 0 ? k + __builtin_ctz(reached) : 0;
}
static inline int64_t first_reaching(const double* values, int64_t count, double top) {
  for (int64_t k = 0; k < count; ++k)
    if (values[k] >= top) return k;
  return 0;
}

/// The largest of `count` values, and the first that is.
template <typename T>
struct Maximum {
  T value;
  int64_t index;
};

/// first_maximum of count <= parts * kLanes values, without a branch on what they hold, which no
/// processor predicts.
template <int parts>
TG_STAGE Maximum<float> first_maximum_of_few(const float* values, int64_t count) {
  Lanes<float> lanes[parts];
  for (int p = 0; p < parts; ++p) lanes[p] = Lanes<float>::load(values + p * kLanes);
  lanes[parts - 1].keep_first(count - (parts - 1) * kLanes, -__builtin_inff());
  auto largest = Lanes<float>::all(-__builtin_inff());
  for (int p = 0; p < parts; ++p) largest.keep_larger(lanes[p]);
  largest_of_runs<kLanes>(largest);
  uint64_t reached = 0;
  for (int p = 0; p < parts; ++p)
    reached |= uint64_t{lanes_at_least(lanes[p], largest)} << (p * kLanes);
  return {largest.part[0][0], reached != 0 ? __builtin_ctzll(reached) : 0};
}

/// The largest value of scratch, as max_of gives it, and the first that is; 0 if all are NaN.
template <typename T>
static inline Maximum<T> first_maximum(const T* values, int64_t count) {
  if constexpr (std::is_same_v<T, float>) {
    static_assert(2 * kLanes <= 64, "a bit for each value");
    if (count <= kLanes) return first_maximum_of_few<1>(values, count);
    if (count <= 2 * kLanes) return first_maximum_of_few<2>(values, count);
  }
  const T top = max_of(values, count);
  return {top, first_reaching(values, count, top)};
}

}  // namespace torch_gumbel::cpu::TG_ISA
