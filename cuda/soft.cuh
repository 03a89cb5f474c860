// SPDX-License-Identifier: Apache-2.0
// Soft sample: y = softmax((logits + noise) / tau), with sums kept relative to the largest score so
// far, so that one pass finds both and a second one writes.
#pragma once

#include "../csrc/math/softmax.h"
#include "row_noise.cuh"

namespace torch_gumbel::cuda {

/// What a new score does to sums of exp((score - max) / tau): they are multiplied by `keep`, and
/// the score itself weighs `add`.
template <typename T>
struct Step {
  T keep;
  T add;
};

template <typename T>
__device__ __forceinline__ Step<T> take_score(T& max, T score, math::Exponent<T> scale) {
  if (score == -static_cast<T>(__builtin_inf())) return {T{1}, T{0}};  // else max - max is NaN
  const bool rises = score > max;
  const T weight = math::exp_scaled(rises ? max - score : score - max, scale);
  if (!rises) return {T{1}, weight};
  max = score;
  return {weight, T{1}};
}

/// Turns a thread's sums relative to its own `max` into sums relative to the row's, `top`. Both are
/// -inf where there is no finite score, and max - top would be NaN.
template <typename T>
__device__ __forceinline__ T weight_of(T max, T top, math::Exponent<T> scale) {
  return max == top ? T{1} : math::exp_scaled(max - top, scale);
}

template <typename T>
struct SoftState {
  T max;
  T sum;  // of exp((score - max) / tau); NaN if a score was
};

template <typename T>
__device__ __forceinline__ SoftState<T> soft_state(const Arguments& a, const Row& row,
                                                   math::Exponent<T> scale, T (&scratch)[kWarps]) {
  T max = -static_cast<T>(__builtin_inf());
  LongSum<T> sum;
  for_each_score<T>(a, row, T{1}, [&](int64_t, T score) {
    const Step<T> step = take_score(max, score, scale);
    sum.scale(step.keep);
    sum.add(step.add);
  });
  const T top = block_max(max, scratch);
  return {top, block_sum(sum.sum * weight_of(max, top, scale), scratch)};
}

template <typename T>
__device__ __forceinline__ T probability(T score, const SoftState<T>& state,
                                         math::Exponent<T> scale) {
  return math::exp_scaled(score - state.max, scale) / state.sum;
}

/// NaN stays NaN; -inf for a row of -inf, whose sum is 0.
template <typename T>
__device__ __forceinline__ T log_sum_exp(const SoftState<T>& state, double tau) {
  const double top = static_cast<double>(state.max) * math::inverse_temperature<double>(tau);
  return static_cast<T>(top + static_cast<double>(math::log_probability(state.sum)));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    soft_forward_kernel(const __grid_constant__ Arguments a) {
  __shared__ T scratch[kWarps];
  for_each_row(a.rows, [&](int64_t index, const Row& row) {
    const double tau = tau_of(a, row);
    const math::Exponent<T> scale = math::exponent_scale<T>(tau);
    const SoftState<T> state = soft_state(a, row, scale, scratch);
    for_each_score<T>(a, row, T{1}, [&](int64_t k, T score) {
      store_output(a, row, k, probability(score, state, scale));
    });
    if (a.row_value != nullptr && threadIdx.x == 0)
      static_cast<T*>(a.row_value)[index] = log_sum_exp(state, tau);
  });
}

}  // namespace torch_gumbel::cuda
