// SPDX-License-Identifier: Apache-2.0
// One-hot backward of rows of at most kLanes classes, in registers: bitwise equal to the general form.
#pragma once

#include "estimators.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Whether such rows take this form: of one temperature, without a gradient at it.
template <typename T>
static inline bool is_small(const PlannedParams& a, const Group& group) {
  return kVectorized<T> && a.estimator != Estimator::kGumbelRao && group.classes <= kLanes &&
         group.uniform_tau() && a.row_value == nullptr;
}

#if defined(__AVX2__)

typedef Floats<Lanes<float>::kParts> SmallRow;

TG_STAGE SmallRow small_load(const float* from, int64_t count) {
  const auto lanes =
      count == kLanes ? Lanes<float>::load(from) : Lanes<float>::masked_load(from, count);
  return SmallRow::of([&](int p) TG_INLINE { return lanes.part[p]; });
}
TG_STAGE Lanes<float> lanes_of(const SmallRow& row, int64_t count, float rest) {
  Lanes<float> lanes;
  for (int p = 0; p < Lanes<float>::kParts; ++p) lanes.part[p] = row.part[p];
  if (count < kLanes) lanes.fill_tail(count, rest);
  return lanes;
}

/// Weights of softmax(x / tau) of a row, and their distribution.
struct SmallWeights {
  SmallRow weights;
  Distribution<float> of;
};

TG_STAGE SmallWeights small_weights(const SmallRow& d, const SmallRow& grad, int64_t count,
                                    math::Exponent<float> scale, float undefined) {
  const SmallRow weights = math::exp_scaled(d, scale);
  const float sum = sum_of_lanes(lanes_of(weights, count, 0)),
              dot = sum_of_lanes(lanes_of(weights * grad, count, 0));
  return {weights, distribution_of(WeightSums<float>{sum, dot}, undefined)};
}

/// Weights of gapped scores, the choice's 1 in the sums, but not in `weights`. `scratch`: kLanes.
TG_STAGE SmallWeights small_gapped(const SmallRow& d, const SmallRow& grad, int64_t count,
                                   float gap, int64_t choice, float g_choice,
                                   math::Exponent<float> scale, float undefined, float* scratch) {
  const SmallRow weights = math::exp_scaled(math::gapped_difference(d, SmallRow(gap)), scale);
  lanes_of(weights, kLanes, 0).store(scratch);
  const float more = 1.0f - scratch[choice];
  WeightSums<float> sums = {sum_of_lanes(lanes_of(weights, count, 0)),
                            sum_of_lanes(lanes_of(weights * grad, count, 0))};
  sums.sum += more, sums.dot += more * g_choice;
  return {weights, distribution_of(sums, undefined + scale.high * 0)};
}

/// A row's gradient to `to`, scratch, of which up to kLanes values past the row are overwritten.
template <Estimator estimator>
static inline void small_gradient(const float* x, const float* grad, int64_t count, int64_t choice,
                                  const Tempering<float>& at, float gap, float* to) {
  const SmallRow values = small_load(x, count), g = small_load(grad, count);
  auto largest = lanes_of(values, count, -__builtin_inff());
  max_of_runs<kLanes>(largest);
  const float max = largest.part[0][0], g_choice = grad[choice];
  const float undefined = (max - max) + (x[choice] - x[choice]);
  const SmallRow d = values - or_zero(max);
  constexpr bool kTempered = estimator != Estimator::kZgr, kGaps = estimator == Estimator::kGapped;
  const auto one = math::exponent_scale<float>(1.0);
  const SmallWeights q =
      kGaps ? small_gapped(d, g, count, gap, choice, g_choice, at.scale, undefined, to)
            : small_weights(d, g, count, kTempered ? at.scale : one, undefined);
  SmallRow result;
  float at_choice = 0;
  if constexpr (estimator == Estimator::kStraightThrough || kGaps) {
    result = q.weights * q.of.factor * (g - q.of.mean) * at.inverse;
  } else if constexpr (estimator == Estimator::kZgr) {
    result = math::zgr_gradient(q.weights * q.of.factor, g, g_choice);
    at_choice = math::zgr_gradient_of_choice(g_choice, q.of.mean) + undefined;
  } else {
    const SmallWeights p = small_weights(d, g, count, one, undefined);
    const float middle = (q.of.mean + g_choice) * 0.5f;
    result = math::reinmax_gradient(q.weights * q.of.factor, p.weights * p.of.factor, g, middle,
                                    p.of.mean);
    at_choice = g_choice - middle;
  }
  lanes_of(result, kLanes, 0).store(to);
  if constexpr (kGaps) to[choice] = q.of.factor * (g_choice - q.of.mean) * at.inverse;
  if constexpr (estimator == Estimator::kZgr) to[choice] = at_choice;
  if constexpr (estimator == Estimator::kReinMax) to[choice] += at_choice;
}

template <Estimator estimator>
static void small_gradients(const PlannedParams& a, const Group& group, const float* x,
                            const float* grads, float* result) {
  const int64_t classes = group.classes;
  const Tempering<float> at(group.tau);
  for (int64_t i = 0; i < group.rows; ++i) {
    const int64_t given = a.index[group.index + i];
    const int64_t choice = given >= 0 && given < classes ? given : 0;
    small_gradient<estimator>(x + i * classes, grads + i * classes, classes, choice, at,
                              static_cast<float>(a.gap), result + i * classes);
  }
}

static void small_group(const PlannedParams& a, const Group& group, const float* x,
                        const float* grads, float* result) {
  const bool zgr =
      a.estimator == Estimator::kZgr || (a.estimator == Estimator::kReinMax && group.tau == 1.0);
  if (zgr) return small_gradients<Estimator::kZgr>(a, group, x, grads, result);
  if (a.estimator == Estimator::kReinMax)
    return small_gradients<Estimator::kReinMax>(a, group, x, grads, result);
  if (a.estimator == Estimator::kGapped)
    return small_gradients<Estimator::kGapped>(a, group, x, grads, result);
  small_gradients<Estimator::kStraightThrough>(a, group, x, grads, result);
}

#endif

}  // namespace torch_gumbel::cpu::TG_ISA
