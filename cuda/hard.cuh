// SPDX-License-Identifier: Apache-2.0
// Hard sample: the class of the first largest score, as an index or as a one-hot row.
#pragma once

#include "../csrc/math/softmax.h"
#include "row_noise.cuh"

namespace torch_gumbel::cuda {

/// The best class so far; NaN beats every score, so that it reaches the end.
template <typename T>
struct Best {
  T score;
  int64_t index;
};

template <typename T>
__device__ __forceinline__ Best<T> exchange(const Best<T>& best, int lane_mask) {
  // long long: the 64-bit integer that shuffles are declared for everywhere
  const auto index = static_cast<long long>(best.index);
  return {exchange(best.score, lane_mask), static_cast<int64_t>(exchange(index, lane_mask))};
}

template <typename T>
__device__ __forceinline__ Best<T> better_of(const Best<T>& x, const Best<T>& y) {
  if (x.score != x.score) return x;
  if (y.score != y.score || y.score > x.score) return y;
  return y.score == x.score && y.index < x.index ? y : x;
}

/// Index 0 with a NaN or -inf score if the row is undefined. `plain`: without noise.
template <typename T>
__device__ __forceinline__ Best<T> best_of(const Arguments& a, const Row& row, T factor, bool plain,
                                           Best<T> (&scratch)[kWarps]) {
  constexpr T kLowest = -static_cast<T>(__builtin_inf());
  Best<T> best = {kLowest, 0};
  const auto offer = [&](int64_t k, T score) { best = better_of(best, Best<T>{score, k}); };
  if (plain)
    for_each_plain_score<T>(a, row, offer);
  else
    for_each_score<T>(a, row, factor, offer);
  best = block_reduce(best, scratch, better_of<T>);
  return best.score > kLowest ? best : Best<T>{best.score, 0};
}

template <typename T>
__global__ void __launch_bounds__(kThreads) argmax_kernel(const __grid_constant__ Arguments a) {
  __shared__ Best<T> scratch[kWarps];
  for_each_row(a.rows, [&](int64_t index, const Row& row) {
    const double temperature = tau_of(a, row);
    const Best<T> best = best_of(a, row, math::inverse_temperature<T>(temperature),
                                 math::without_noise(temperature), scratch);
    if (threadIdx.x != 0) return;
    a.index[index] = best.index;
    if (a.row_value != nullptr) static_cast<T*>(a.row_value)[index] = best.score;
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    hard_forward_kernel(const __grid_constant__ Arguments a) {
  __shared__ Best<T> scratch[kWarps];
  for_each_row(a.rows, [&](int64_t, const Row& row) {
    const Best<T> best = best_of(a, row, T{1}, false, scratch);
    const bool defined =
        best.score > -static_cast<T>(__builtin_inf()) && math::valid_temperature(tau_of(a, row));
    for_each_class(a.rows, [&](int64_t k) {
      const T one_hot = k == best.index ? T{1} : T{0};
      store_output(a, row, k, defined ? one_hot : static_cast<T>(__builtin_nan("")));
    });
  });
}

}  // namespace torch_gumbel::cuda
