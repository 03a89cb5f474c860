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

}  // namespace torch_gumbel::cpu::TG_ISA
