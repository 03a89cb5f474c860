// SPDX-License-Identifier: Apache-2.0
// Gradients at the logits, y (grad - sum_k y_k grad_k) / tau, and at tau.
#pragma once

#include "soft.cuh"

namespace torch_gumbel::cuda {

/// What one class needs to know of its row.
template <typename T>
struct RowGradient {
  T dot;      // sum_k y_k grad_k
  T inverse;  // 1 / tau
};

/// Writes the gradient of one class and adds its share of the gradient at tau.
template <typename T>
__device__ __forceinline__ void write_gradient(const Arguments& a, const Row& row, int64_t k, T y,
                                               const RowGradient<T>& of_row, LongSum<T>& at_tau) {
  const T gradient = y * (load_grad<T>(a, row, k) - of_row.dot) * of_row.inverse;
  store_output(a, row, k, gradient);
  at_tau.add(-gradient * math::log_probability(y));
}

/// `row_value` is the same for all threads, so all of them reach the reduction or none does.
template <typename T>
__device__ __forceinline__ void write_tau_gradient(const Arguments& a, int64_t index, T at_tau,
                                                   T (&scratch)[kWarps]) {
  if (a.row_value == nullptr) return;
  const T total = block_sum(at_tau, scratch);
  if (threadIdx.x == 0) static_cast<T*>(a.row_value)[index] = total;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) backward_kernel(const __grid_constant__ Arguments a) {
  __shared__ T scratch[kWarps];
  for_each_row(a.rows, [&](int64_t index, const Row& row) {
    LongSum<T> dot;
    for_each_class(a.rows,
                   [&](int64_t k) { dot.add(load_input<T>(a, row, k) * load_grad<T>(a, row, k)); });
    const RowGradient<T> of_row = {block_sum(dot.sum, scratch),
                                   math::inverse_temperature<T>(tau_of(a, row))};
    LongSum<T> at_tau;
    for_each_class(a.rows, [&](int64_t k) {
      write_gradient(a, row, k, load_input<T>(a, row, k), of_row, at_tau);
    });
    write_tau_gradient(a, index, at_tau.sum, scratch);
  });
}

template <typename T>
struct DotState {
  SoftState<T> soft;
  T dot;  // sum_k exp((score_k - max) / tau) grad_k
};

/// soft_state() together with the dot product.
template <typename T>
__device__ __forceinline__ DotState<T> dot_state(const Arguments& a, const Row& row,
                                                 math::Exponent<T> scale, T (&scratch)[kWarps]) {
  T max = -static_cast<T>(__builtin_inf());
  LongSum<T> sum, dot;
  for_each_score<T>(a, row, T{1}, [&](int64_t k, T score) {
    const Step<T> step = take_score(max, score, scale);
    sum.scale(step.keep);
    sum.add(step.add);
    dot.scale(step.keep);
    dot.add(step.add * load_grad<T>(a, row, k));
  });
  const T top = block_max(max, scratch);
  const T weight = weight_of(max, top, scale);
  const T total = block_sum(sum.sum * weight, scratch);
  return {{top, total}, block_sum(dot.sum * weight, scratch)};
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    hard_backward_kernel(const __grid_constant__ Arguments a) {
  __shared__ T scratch[kWarps];
  for_each_row(a.rows, [&](int64_t index, const Row& row) {
    const double tau = tau_of(a, row);
    const math::Exponent<T> scale = math::exponent_scale<T>(tau);
    const auto [soft, dot] = dot_state(a, row, scale, scratch);
    const RowGradient<T> of_row = {dot / soft.sum, math::inverse_temperature<T>(tau)};
    LongSum<T> at_tau;
    for_each_score<T>(a, row, T{1}, [&](int64_t k, T score) {
      write_gradient(a, row, k, probability(score, soft, scale), of_row, at_tau);
    });
    write_tau_gradient(a, index, at_tau.sum, scratch);
  });
}

}  // namespace torch_gumbel::cuda
