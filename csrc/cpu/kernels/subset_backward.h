// SPDX-License-Identifier: Apache-2.0
// The gradient of relaxed k-hot samples (csrc/math/subset.h): a row's rounds again, then back.
#pragma once

#include "../../math/log_prob.h"
#include "subset.h"

namespace torch_gumbel::cpu::TG_ISA {

/// A row's gradients in the backward: at the scores after a round, and P of csrc/math/subset.h.
template <typename T>
struct SubsetGradients {
  T *at_scores, *shares, *buffer;
  int64_t classes;
  T inverse;
  double at_tau = 0;

  /// Takes the gradient from behind a round to before it.
  void pass(const SubsetRound<T>& round, const T* weights, const T* scores, const T* grad) {
    const T of_largest = round.largest < 0 ? T{0} : grad[round.largest];
    const T pull = round.largest < 0 ? T{0} : round.a * at_scores[round.largest];
    double mean = static_cast<double>(round.a * of_largest);
    for_each_tile(classes, [&](int64_t k, int64_t count) {
      mean += static_cast<double>(round.rest) * sum_shares(round, weights + k, grad + k, k, count);
    });
    const math::SubsetGradient<T> gradient = {round.rest, pull, inverse, static_cast<T>(mean)};
    for_each_tile(classes, [&](int64_t k, int64_t count) {
      if (scores == nullptr)
        add(gradient, weights + k, k, count);
      else
        at_tau -= add_with_tau(gradient, weights + k, scores + k, round.max, k, count);
    });
    if (round.largest >= 0)
      at_scores[round.largest] += (round.a * (of_largest - static_cast<T>(mean)) - pull) * inverse;
  }

 private:
  T sum_shares(const SubsetRound<T>& round, const T* weights, const T* grad, int64_t first,
               int64_t count) {
    T *next = at_scores + first, *to = shares + first;
    const T rest = round.rest;
    return make_and_sum(buffer, 0, count, [&](auto at) TG_INLINE {
      const auto w = at.load(weights);
      const auto share = math::SubsetGradient<T>::at_share(at.load(grad), at.load(next), w, rest);
      at.store(share, to);
      return w * share;
    });
  }
  void add(const math::SubsetGradient<T>& gradient, const T* weights, int64_t first,
           int64_t count) {
    T *to = at_scores + first, *from = shares + first;
    for_each_vec<T>(0, count, [&](auto at) TG_INLINE {
      const auto step = gradient.at(at.load(weights), at.load(from));
      at.store(at.load(to) + step * gradient.inverse, to);
    });
  }
  T add_with_tau(const math::SubsetGradient<T>& gradient, const T* weights, const T* scores, T max,
                 int64_t first, int64_t count) {
    T *to = at_scores + first, *from = shares + first;
    return make_and_sum(buffer, 0, count, [&](auto at) TG_INLINE {
      const auto step = gradient.at(at.load(weights), at.load(from));
      at.store(at.load(to) + step * gradient.inverse, to);
      return math::weighted_difference<T>(step, at.load(scores) - max);
    });
  }
};

/// Buffers of the backward in scratch.
template <typename T>
struct SubsetScratch {
  T *values, *grads, *results, *r, *e, *at_scores, *shares, *weights, *scores;

  SubsetScratch(const SubsetCall& a, T* from) {
    const int64_t pitch = a.pitch(), matrix = a.plan.rows_per_group * pitch;
    values = from, grads = values + matrix, results = grads + matrix;
    r = results + matrix, e = r + pitch, at_scores = e + pitch, shares = at_scores + pitch;
    weights = shares + pitch;
    scores = a.row_value == nullptr ? nullptr : weights + a.k * pitch;
  }
};

/// The gradient of one row, to `to`; returns that at the temperature.
template <typename T>
static double differentiate_subset(const SubsetCall& a, const SubsetScratch<T>& in, double tau,
                                   const T* x, const T* grad, T* to) {
  const int64_t classes = a.rows.classes, pitch = a.pitch();
  SubsetRound<T> rounds[math::kMostRounds];
  SubsetRow<T> row(in.r, in.e, classes, tau);
  if (!begin_row(row, x, a.k)) {
    for (int64_t c = 0; c < classes; ++c) to[c] = static_cast<T>(__builtin_nan(""));
    return __builtin_nan("");
  }
  const KeptRounds<T> kept = {rounds, in.weights, in.scores, pitch};
  run_rounds(row, a.k, in.shares, &kept);
  SubsetGradients<T> gradients = {to, in.shares, in.e, classes, math::inverse_temperature<T>(tau)};
  for (int64_t c = 0; c < classes; ++c) to[c] = 0;
  for (int64_t j = a.k - 1; j >= 0; --j)
    gradients.pass(rounds[j], in.weights + j * pitch,
                   in.scores == nullptr ? nullptr : in.scores + j * pitch, grad);
  return gradients.at_tau / tau / tau;
}

template <typename T>
static void subset_backward(const SubsetCall& a, int64_t begin, int64_t end, T* scratch) {
  const int64_t classes = a.rows.classes;
  const SubsetScratch<T> in(a, scratch);
  for_each_group(a, begin, end, a.plan.rows_per_group, [&](const Group& group) {
    const T* x = values_of(group, group.input, in.values);
    const T* grad = values_of(group, group.grad, in.grads);
    for (int64_t i = 0; i < group.rows; ++i) {
      const double at_tau = differentiate_subset(a, in, group.tau_of(i), x + i * classes,
                                                 grad + i * classes, in.at_scores);
      memcpy(in.results + i * classes, in.at_scores, classes * sizeof(T));
      if (a.row_value != nullptr)
        static_cast<T*>(a.row_value)[group.index + i] = static_cast<T>(at_tau);
    }
    store_group(in.results, group.rows, classes, group.output, false);
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
