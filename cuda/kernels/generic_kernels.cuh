// SPDX-License-Identifier: Apache-2.0
// Every op on rows of any layout and dtype, in two passes over each row.
#pragma once

#include "generic_rows.cuh"

namespace torch_gumbel::cuda {

template <typename T>
constexpr T kMinusInfinity = -static_cast<T>(__builtin_inf());

/// The effect of a new score on sums of exp((score - max) / tau): they are multiplied by `keep`,
/// and the score's own weight is `add`.
template <typename T>
struct Step {
  T keep;
  T add;
};

template <typename T>
__device__ __forceinline__ Step<T> take_score(T& max, T score, math::Exponent<T> scale) {
  if (score == kMinusInfinity<T>) return {T{1}, T{0}};  // else max - max is NaN
  const bool rises = score > max;
  const T weight = rises ? math::exp_of_difference(max, score, scale)
                         : math::exp_of_difference(score, max, scale);
  if (!rises) return {T{1}, weight};
  max = score;
  return {weight, T{1}};
}

/// The factor from a thread's sums relative to its own `max` to sums relative to the row's, `top`.
/// Both are -inf where there is no finite score, and max - top would be NaN.
template <typename T>
__device__ __forceinline__ T weight_of(T max, T top, math::Exponent<T> scale) {
  return max == top ? T{1} : math::exp_of_difference(max, top, scale);
}

template <typename T>
struct SoftState {
  T max;
  T sum;  // of exp((score - max) / tau); NaN if a score was
  T dot;  // of that times the incoming gradient, if there is one
};

/// Calls visit(k, score) for every class of this thread.
template <typename T, bool kWithGrad, typename Visit>
__device__ __forceinline__ SoftState<T> soft_state(const KernelParams& a, const GenericRow& row,
                                                   math::Exponent<T> scale, T (&scratch)[kThreads],
                                                   Visit visit) {
  T max = kMinusInfinity<T>;
  KahanSum<T> sum, dot;
  for_each_score<T>(a, row, T{1}, [&](int64_t k, T score) {
    visit(k, score);
    const Step<T> step = take_score(max, score, scale);
    sum.scale(step.keep);
    sum.add(step.add);
    if (!kWithGrad) return;
    dot.scale(step.keep);
    dot.add(step.add * load_grad<T>(a, row.row, k));
  });
  const T top = row_max(row.thread, max, scratch);
  const T weight = weight_of(max, top, scale);
  const T total = row_sum(row.thread, sum.sum * weight, scratch);
  return {top, total, kWithGrad ? row_sum(row.thread, dot.sum * weight, scratch) : T{0}};
}

template <typename T, bool kWithGrad>
__device__ __forceinline__ SoftState<T> soft_state(const KernelParams& a, const GenericRow& row,
                                                   math::Exponent<T> scale,
                                                   T (&scratch)[kThreads]) {
  return soft_state<T, kWithGrad>(a, row, scale, scratch, [](int64_t, T) {});
}

template <typename T>
__device__ __forceinline__ T probability(T score, const SoftState<T>& state,
                                         math::Exponent<T> scale) {
  return math::exp_of_difference(score, state.max, scale) / state.sum;
}

/// NaN stays NaN; -inf for a row of -inf, whose sum is 0.
template <typename T>
__device__ __forceinline__ T generic_log_sum_exp(const SoftState<T>& state, double tau) {
  const double top = static_cast<double>(state.max) * math::inverse_temperature<double>(tau);
  return static_cast<T>(top + static_cast<double>(math::log_probability(state.sum)));
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    soft_generic_kernel(const __grid_constant__ Problem p) {
  __shared__ T scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    const double tau = tau_of(p.a, row.row);
    const math::Exponent<T> scale = math::exponent_scale<T>(tau);
    const SoftState<T> state = soft_state<T, false>(p.a, row, scale, scratch);
    for_each_score<T>(p.a, row, T{1}, [&](int64_t k, T score) {
      store_output(p.a, p.a.output, row.row, k, probability(score, state, scale));
    });
    if (p.a.row_value != nullptr && row.writes_row_value())
      static_cast<T*>(p.a.row_value)[row.index] = generic_log_sum_exp(state, tau);
  });
}

/// What the gradient of one class needs of its row.
template <typename T>
struct RowGradient {
  T dot;      // sum_k y_k grad_k
  T inverse;  // 1 / tau
};

/// Writes the gradient of one class and adds its term of the gradient at tau.
template <typename T>
__device__ __forceinline__ void write_gradient(const KernelParams& a, const GenericRow& row,
                                               int64_t k, T y, const RowGradient<T>& of_row,
                                               KahanSum<T>& at_tau) {
  const T gradient = y * (load_grad<T>(a, row.row, k) - of_row.dot) * of_row.inverse;
  store_output(a, a.output, row.row, k, gradient);
  at_tau.add(-gradient * math::log_probability(y));
}

/// `row_value` is the same for all threads, so all of them reach the reduction or none does.
template <typename T>
__device__ __forceinline__ void write_tau_gradient(const KernelParams& a, const GenericRow& row,
                                                   T at_tau, T (&scratch)[kThreads]) {
  if (a.row_value == nullptr) return;
  const T total = row_sum(row.thread, at_tau, scratch);
  if (row.writes_row_value()) static_cast<T*>(a.row_value)[row.index] = total;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    backward_generic_kernel(const __grid_constant__ Problem p) {
  __shared__ T scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    KahanSum<T> dot;
    for_each_class(row, [&](int64_t k) {
      dot.add(load_input<T>(p.a, row.row, k) * load_grad<T>(p.a, row.row, k));
    });
    const RowGradient<T> of_row = {row_sum(row.thread, dot.sum, scratch),
                                   math::inverse_temperature<T>(tau_of(p.a, row.row))};
    KahanSum<T> at_tau;
    for_each_class(row, [&](int64_t k) {
      write_gradient(p.a, row, k, load_input<T>(p.a, row.row, k), of_row, at_tau);
    });
    write_tau_gradient(p.a, row, at_tau.sum, scratch);
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    hard_backward_generic_kernel(const __grid_constant__ Problem p) {
  __shared__ T scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    const double tau = tau_of(p.a, row.row);
    const math::Exponent<T> scale = math::exponent_scale<T>(tau);
    const SoftState<T> state = soft_state<T, true>(p.a, row, scale, scratch);
    const RowGradient<T> of_row = {state.dot / state.sum, math::inverse_temperature<T>(tau)};
    KahanSum<T> at_tau;
    for_each_score<T>(p.a, row, T{1}, [&](int64_t k, T score) {
      write_gradient(p.a, row, k, probability(score, state, scale), of_row, at_tau);
    });
    write_tau_gradient(p.a, row, at_tau.sum, scratch);
  });
}

/// The best class so far; NaN wins over every score.
template <typename T>
struct GenericBest {
  T score;
  int64_t index;
};

template <typename T>
__device__ __forceinline__ GenericBest<T> better_of(const GenericBest<T>& x,
                                                    const GenericBest<T>& y) {
  if (x.score != x.score) return x;
  if (y.score != y.score || y.score > x.score) return y;
  return y.score == x.score && y.index < x.index ? y : x;
}

/// Index 0 with a NaN or -inf score if the row is undefined. `greedy`: without noise.
template <typename T>
__device__ __forceinline__ GenericBest<T> best_of(const KernelParams& a, const GenericRow& row,
                                                  T factor, bool greedy,
                                                  GenericBest<T> (&scratch)[kThreads]) {
  GenericBest<T> best = {kMinusInfinity<T>, 0};
  const auto offer = [&](int64_t k, T score) { best = better_of(best, GenericBest<T>{score, k}); };
  if (greedy)
    for_each_greedy_score<T>(a, row, offer);
  else
    for_each_score<T>(a, row, factor, offer);
  best = reduce_row(row.thread, best, scratch, better_of<T>);
  return best.score > kMinusInfinity<T> ? best : GenericBest<T>{best.score, 0};
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    argmax_generic_kernel(const __grid_constant__ Problem p) {
  __shared__ GenericBest<T> scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    const double temperature = tau_of(p.a, row.row);
    const T factor = math::sampling_inverse_of<T>(temperature);
    const GenericBest<T> best =
        best_of(p.a, row, factor, math::without_noise(temperature), scratch);
    if (!row.writes_row_value()) return;
    p.a.index[row.index] = best.index;
    if (p.a.row_value != nullptr) static_cast<T*>(p.a.row_value)[row.index] = best.score;
  });
}

/// The value of the classes other than the best: 0 or, in an undefined row, NaN.
template <typename T>
__device__ __forceinline__ T rest_of(const GenericBest<T>& best, double tau) {
  const bool defined = best.score > kMinusInfinity<T> && math::valid_temperature(tau);
  return defined ? T{0} : static_cast<T>(__builtin_nan(""));
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    hard_generic_kernel(const __grid_constant__ Problem p) {
  __shared__ GenericBest<T> scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    const GenericBest<T> best = best_of(p.a, row, T{1}, false, scratch);
    const T rest = rest_of(best, tau_of(p.a, row.row));
    for_each_class(row, [&](int64_t k) {
      store_output(p.a, p.a.output, row.row, k, k == best.index ? rest + T{1} : rest);
    });
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    hard_soft_generic_kernel(const __grid_constant__ Problem p) {
  __shared__ T scratch[kThreads];
  __shared__ GenericBest<T> best_scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    const double tau = tau_of(p.a, row.row);
    const math::Exponent<T> scale = math::exponent_scale<T>(tau);
    GenericBest<T> best = {kMinusInfinity<T>, 0};
    const SoftState<T> state = soft_state<T, false>(
        p.a, row, scale, scratch,
        [&](int64_t k, T score) { best = better_of(best, GenericBest<T>{score, k}); });
    best = reduce_row(row.thread, best, best_scratch, better_of<T>);
    const T rest = rest_of(best, tau);
    for_each_score<T>(p.a, row, T{1}, [&](int64_t k, T score) {
      store_output(p.a, p.a.output, row.row, k, probability(score, state, scale));
      store_output(p.a, p.a.one_hot, row.row, k, k == best.index ? rest + T{1} : rest);
    });
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    noise_generic_kernel(const __grid_constant__ Problem p) {
  for_each_row(p, [&](const GenericRow& row) {
    for_each_noise<T>(
        p.a, row, [&](int64_t k, T noise) { store_output(p.a, p.a.output, row.row, k, noise); });
  });
}

}  // namespace torch_gumbel::cuda
