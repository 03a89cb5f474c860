// SPDX-License-Identifier: Apache-2.0
// Log-probability of a class and entropy of every row, and their gradient (csrc/math/log_prob.h), on
// rows of any layout and dtype.
#pragma once

#include "../device/log_prob_problem.h"
#include "generic_kernels.cuh"

namespace torch_gumbel::cuda {

/// The chosen class of a row, -1 for one out of range, and its logit.
struct ChosenClass {
  int64_t index;
  double x;
};

template <typename T>
__device__ __forceinline__ ChosenClass chosen_class(const KernelParams& a, const GenericRow& row) {
  const int64_t index = row.exists ? a.index[row.index] : -1;
  if (index < 0 || index >= row.classes) return {-1, 0.0};
  return {index, static_cast<double>(load_input<T>(a, row.row, index))};
}

template <typename T>
__device__ __forceinline__ void write_log_prob(const LogProbProblem& p, const GenericRow& row,
                                               const math::LogProbRow& of) {
  const ChosenClass chosen = chosen_class<T>(p.a, row);
  const bool inside = chosen.index >= 0, defined = inside && of.defined();
  const auto write = [&](void* to, bool right, double value) {
    static_cast<T*>(to)[row.index] = static_cast<T>(right ? value : __builtin_nan(""));
  };
  write(p.log_prob, defined, of.log_prob(chosen.x));
  write(p.entropy, defined, of.entropy());
  write(p.max, inside, of.max);
  write(p.sum, inside, of.sum);
  write(p.mean, inside, of.mean);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    log_prob_generic_kernel(const __grid_constant__ LogProbProblem p) {
  __shared__ T scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    const double tau = tau_of(p.a, row.row);
    const math::Exponent<T> scale = math::exponent_scale<T>(tau);
    T max = kMinusInfinity<T>;
    for_each_class(row, [&](int64_t k) { max = max_number(max, load_input<T>(p.a, row.row, k)); });
    max = row_max(row.thread, max, scratch);
    const T reference = max > kMinusInfinity<T> ? max : T{0};
    KahanSum<T> sum, dot;
    for_each_class(row, [&](int64_t k) {
      const T d = load_input<T>(p.a, row.row, k) - reference, w = math::exp_scaled(d, scale);
      sum.add(w);
      dot.add(math::weighted_difference<T>(w, d));
    });
    const double total = row_sum(row.thread, sum.sum, scratch);
    const double mean = row_sum(row.thread, dot.sum, scratch) / total;
    if (row.writes_row_value()) write_log_prob<T>(p, row, {max, total, mean, tau});
  });
}

/// Value of a row; null: 0.
template <typename T>
__device__ __forceinline__ double value_of_row(const void* values, const GenericRow& row) {
  if (values == nullptr || !row.exists) return 0.0;
  return static_cast<double>(static_cast<const T*>(values)[row.index]);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    log_prob_backward_generic_kernel(const __grid_constant__ LogProbProblem p) {
  __shared__ T scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    const math::LogProbRow of = {value_of_row<T>(p.max, row), value_of_row<T>(p.sum, row),
                                 value_of_row<T>(p.mean, row), tau_of(p.a, row.row)};
    const ChosenClass chosen = chosen_class<T>(p.a, row);
    const double at_log_prob = value_of_row<T>(p.grad_log_prob, row);
    const double at_entropy = value_of_row<T>(p.grad_entropy, row);
    const auto gradient = math::LogProbGradient<T>::of(of, math::LogProbScale<T>::of(of.tau),
                                                       chosen.x, at_log_prob, at_entropy);
    KahanSum<T> spread;
    for_each_class(row, [&](int64_t k) {
      const T x = load_input<T>(p.a, row.row, k), rest = gradient.at(x);
      store_output(p.a, p.a.output, row.row, k, k == chosen.index ? rest + gradient.own : rest);
      if (p.a.row_value != nullptr) spread.add(gradient.spread(x));
    });
    if (p.a.row_value == nullptr) return;
    const double total = row_sum(row.thread, spread.sum, scratch);
    if (!row.writes_row_value()) return;
    const double at_choice = chosen.index < 0 ? 0.0 : at_log_prob;
    static_cast<T*>(p.a.row_value)[row.index] =
        static_cast<T>(math::log_prob_gradient_at_tau(of, total, chosen.x, at_choice, at_entropy));
  });
}

}  // namespace torch_gumbel::cuda
