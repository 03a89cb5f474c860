// SPDX-License-Identifier: Apache-2.0
// Numbers 0 .. count - 1 in one of the orders.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "model.h"

namespace cuda_model {

inline std::vector<unsigned> shuffled(Order order, uint64_t seed, unsigned count) {
  std::vector<unsigned> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0u);
  if (order == Order::kReverse) std::reverse(numbers.begin(), numbers.end());
  if (order == Order::kShuffled)
    std::shuffle(numbers.begin(), numbers.end(), std::minstd_rand(seed));
  return numbers;
}

}  // namespace cuda_model
