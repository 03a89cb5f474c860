// SPDX-License-Identifier: Apache-2.0
// The backward of a one-hot sample by any estimator (csrc/math/estimators.h), on rows of any layout
// and dtype: the estimator is a number, and Gumbel-Rao a kernel of its own.
#pragma once

#include "../../csrc/math/estimators.h"
#include "generic_kernels.cuh"

namespace torch_gumbel::cuda {

/// The choice of a row, and what its gradient has of it.
template <typename T>
struct ChosenRow {
  int64_t choice;
  double tau;
  T max;        // of the logits
  T grad;       // at the choice
  T undefined;  // NaN in a row that has no distribution, else 0
};

template <typename T>
__device__ __forceinline__ ChosenRow<T> chosen_row(const KernelParams& a, const GenericRow& row,
                                                   T (&scratch)[kThreads]) {
  T max = kMinusInfinity<T>;
  for_each_class(row, [&](int64_t k) { max = max_number(max, load_input<T>(a, row.row, k)); });
  max = row_max(row.thread, max, scratch);
  const int64_t given = row.exists ? a.index[row.index] : 0;
  const int64_t choice = given >= 0 && given < row.classes ? given : 0;
  const T x = load_input<T>(a, row.row, choice);
  return {choice, tau_of(a, row.row), max, load_grad<T>(a, row.row, choice), (max - max) + (x - x)};
}

/// A softmax: weights times `factor`, and the mean of the gradient.
template <typename T>
struct RowDistribution {
  T factor, mean;
};

/// weight(k) of every class of this thread.
template <typename T, typename Weight>
__device__ __forceinline__ RowDistribution<T> distribution_of(const KernelParams& a,
                                                              const GenericRow& row, T undefined,
                                                              T (&scratch)[kThreads],
                                                              Weight weight) {
  KahanSum<T> sum, dot;
  for_each_class(row, [&](int64_t k) {
    const T w = weight(k);
    sum.add(w);
    dot.add(w * load_grad<T>(a, row.row, k));
  });
  const T factor = T{1} / row_sum(row.thread, sum.sum, scratch) + undefined;
  return {factor, row_sum(row.thread, dot.sum, scratch) * factor};
}

template <typename T>
__device__ __forceinline__ void write_gradient(const KernelParams& a, const GenericRow& row,
                                               int64_t k, T gradient) {
  store_output(a, a.output, row.row, k, gradient);
}

/// zgr, or reinmax.
template <typename T>
__device__ __forceinline__ void write_two_point_gradient(const KernelParams& a,
                                                         const GenericRow& row,
                                                         const ChosenRow<T>& of, bool zgr,
                                                         T (&scratch)[kThreads]) {
  const auto one = math::exponent_scale<T>(1.0), scale = math::exponent_scale<T>(of.tau);
  const auto weight_at = [&](int64_t k, math::Exponent<T> at) {
    return math::exp_scaled(load_input<T>(a, row.row, k) - of.max, at);
  };
  const auto p =
      distribution_of(a, row, of.undefined, scratch, [&](int64_t k) { return weight_at(k, one); });
  const auto write_zgr = [&](int64_t k) {
    const T other =
        math::zgr_gradient(weight_at(k, one) * p.factor, load_grad<T>(a, row.row, k), of.grad);
    const T chosen = math::zgr_gradient_of_choice(of.grad, p.mean) + of.undefined;
    write_gradient(a, row, k, k == of.choice ? chosen : other);
  };
  if (zgr) return for_each_class(row, write_zgr);
  const auto q = distribution_of(a, row, of.undefined, scratch,
                                 [&](int64_t k) { return weight_at(k, scale); });
  const T middle = (q.mean + of.grad) * T{0.5};
  for_each_class(row, [&](int64_t k) {
    if (of.tau == 1.0) return write_zgr(k);
    const T gradient =
        math::reinmax_gradient(weight_at(k, scale) * q.factor, weight_at(k, one) * p.factor,
                               load_grad<T>(a, row.row, k), middle, p.mean);
    write_gradient(a, row, k, k == of.choice ? gradient + (of.grad - middle) : gradient);
  });
}

/// straight-through, or gapped.
template <typename T>
__device__ __forceinline__ void write_soft_gradient(const KernelParams& a, const GenericRow& row,
                                                    const ChosenRow<T>& of, bool gapped,
                                                    T (&scratch)[kThreads]) {
  const auto scale = math::exponent_scale<T>(of.tau);
  const auto weight = [&](int64_t k) {
    const T d = load_input<T>(a, row.row, k) - of.max;
    if (!gapped) return math::exp_scaled(d, scale);
    return math::exp_scaled(
        k == of.choice ? T{0} : math::gapped_difference(d, static_cast<T>(a.gap)), scale);
  };
  const auto y = distribution_of(a, row, of.undefined, scratch, weight);
  const RowGradient<T> of_row = {y.mean, math::inverse_temperature<T>(of.tau)};
  KahanSum<T> at_tau;
  for_each_class(
      row, [&](int64_t k) { write_gradient(a, row, k, weight(k) * y.factor, of_row, at_tau); });
  write_tau_gradient(a, row, at_tau.sum, scratch);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    one_hot_backward_generic_kernel(const __grid_constant__ Problem p) {
  __shared__ T scratch[kThreads];
  const Estimator estimator = p.a.estimator;
  for_each_row(p, [&](const GenericRow& row) {
    const ChosenRow<T> of = chosen_row(p.a, row, scratch);
    // A block's rows may differ in temperature: all of them take the same barriers.
    if (estimator == Estimator::kZgr || estimator == Estimator::kReinMax)
      write_two_point_gradient(p.a, row, of, estimator == Estimator::kZgr, scratch);
    else
      write_soft_gradient(p.a, row, of, estimator == Estimator::kGapped, scratch);
  });
}

// Gumbel-Rao. Of each draw, one pass over a row's classes gives the sums, and the next one adds its
// gradient to the output, which is no half type. Draws side by side would lie in local memory, or
// in unrolled code that makes as many random words.

__device__ __forceinline__ float conditional_exp1(uint32_t word, uint32_t extension, float) {
  return word < math::kExtendBelow ? math::exp1(word, extension) : math::exp1(word);
}
__device__ __forceinline__ double conditional_exp1(uint32_t word, uint32_t extension, double) {
  return math::exp1_64(word, extension);
}

/// E of a position in a draw.
template <typename T>
__device__ __forceinline__ T exp1_at(math::Key key, uint64_t position, math::Plane plane) {
  const uint32_t word = math::key_word(key, position, plane);
  const uint32_t more =
      needs_extension<T>(word) ? math::key_word(key, position, math::extension_of(plane)) : 0;
  return conditional_exp1(word, more, T{});
}

/// A row in a draw: E_D, and the log of E_D / (sum of exp(x - max)).
template <typename T>
struct DrawnRow {
  math::Plane plane;
  T chosen, base;
};

/// The weight of a class given the choice; p: its probability.
template <typename T>
__device__ __forceinline__ T weight_given(const ChosenRow<T>& of, const DrawnRow<T>& draw,
                                          math::Exponent<T> scale, T exp1, T p, T d) {
  const T a = draw.chosen * p;
  if (of.tau == 1.0) return math::conditional_weight(exp1, a);
  const T root = math::conditional_weight(exp1, a);
  if (of.tau == 0.5) return root * root;
  return math::exp_scaled(math::conditional_log_weight(exp1, a, d + draw.base), scale);
}

template <typename T>
struct RaoRow {
  const KernelParams& a;
  const GenericRow& row;
  ChosenRow<T> of;
  RowDistribution<T> p;  // softmax of the logits
  math::Key key;
  math::Exponent<T> one, scale;  // of temperatures 1 and tau

  __device__ __forceinline__ uint64_t position(int64_t k) const {
    return static_cast<uint64_t>(row.row[Operand::kWord]) +
           static_cast<uint64_t>(k) * static_cast<uint64_t>(a.rows.step(Operand::kWord));
  }
  __device__ __forceinline__ DrawnRow<T> draw(int32_t number) const {
    const math::Plane plane = math::plane_of_draw(number);
    const T chosen = exp1_at<T>(key, position(of.choice), plane);
    return {plane, chosen, math::log_normal(chosen) + math::log_normal(p.factor)};
  }
  __device__ __forceinline__ T weight(const DrawnRow<T>& draw, int64_t k) const {
    if (k == of.choice) return T{1};
    const T d = load_input<T>(a, row.row, k) - of.max;
    const T probability = math::exp_scaled(d, one) * p.factor;
    return weight_given(of, draw, scale, exp1_at<T>(key, position(k), draw.plane), probability, d);
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    gumbel_rao_generic_kernel(const __grid_constant__ Problem p) {
  __shared__ T scratch[kThreads];
  for_each_row(p, [&](const GenericRow& row) {
    const ChosenRow<T> of = chosen_row(p.a, row, scratch);
    const auto one = math::exponent_scale<T>(1.0);
    const auto softmax = distribution_of(p.a, row, of.undefined, scratch, [&](int64_t k) {
      return math::exp_scaled(load_input<T>(p.a, row.row, k) - of.max, one);
    });
    const RaoRow<T> rao = {
        p.a, row, of, softmax, key_of(p.a, row.row), one, math::exponent_scale<T>(of.tau)};
    const T inverse = math::inverse_temperature<T>(of.tau);
    const T share = T{1} / static_cast<T>(p.a.draws);
    KahanSum<T> at_tau;
#pragma unroll 1
    for (int32_t m = 0; m < p.a.draws; ++m) {
      const DrawnRow<T> draw = rao.draw(m);
      const auto y = distribution_of(p.a, row, of.undefined, scratch,
                                     [&](int64_t k) { return rao.weight(draw, k); });
      for_each_class(row, [&](int64_t k) {
        const T probability = rao.weight(draw, k) * y.factor;
        const T gradient = probability * (load_grad<T>(p.a, row.row, k) - y.mean) * inverse * share;
        at_tau.add(-gradient * math::log_probability(probability));
        const int64_t at = row.row[Operand::kOutput] + k * p.a.rows.step(Operand::kOutput);
        const T before = m > 0 ? load_generic<T>(p.a.output, p.a.output_type, at) : T{0};
        store_output(p.a, p.a.output, row.row, k, before + gradient);
      });
    }
    write_tau_gradient(p.a, row, at_tau.sum, scratch);
  });
}

}  // namespace torch_gumbel::cuda
