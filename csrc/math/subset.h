// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot of a row of scores r (perturbed logits): k rounds of
//     a = softmax(r / T),    y += a,    r += log(1 - a).
// At most one class has more than half of a round, c, the largest. Elsewhere a <= 1/2, and
// log(1 - a) is exact to rounding; of c, 1 - a_c = B / (1 + B) with B = sum over the others of
// exp((r - r_c) / T), which does not cancel, and whose logarithm is formed from the others' own
// largest where B itself would be 0.
//
// Backward, from the last round to the first, R the gradient at the round's new r, g that at y:
//     P = g - R / (1 - a), at c: g;    s = sum a P;
//     at r / T: a (P - s), and through log(1 - a_c): -a_c R_c at c, b_k a_c R_c elsewhere,
// b = exp((r - r_c) / T) / B the softmax over the others. With weights w = b (0 at c) and `rest` =
// 1 - a_c, a = w rest; in a round without such a class, w = a and rest = 1.
#pragma once

#include "rows.h"
#include "softmax.h"

namespace torch_gumbel {

/// From `input` (scores, of the opmath type) and `tau`: forward, `output`; backward, from `grad`,
/// `output` (the gradient at the scores) and row_value (that at T, or null).
///
/// A row with fewer than k finite scores, NaN, or +inf, or with a bad temperature, is NaN.
struct SubsetParams : KernelParams {
  int64_t k = 0;
};

namespace math {

/// Rounds that kernels run: a backward keeps the weights of all of them.
constexpr int64_t kMostRounds = 64;

/// log(1 - a) for a in [0, 1/2].
template <typename F>
TG_HD F log_rest(F a) {
  return -minus_log1p_minus(a);
}

/// log(1 - a_c), from log B.
TG_HD double log_rest_of_largest(double log_others) {
  return log_others - log_normal(1 + exp_scaled(log_others, Exponent<double>{1, 0}));
}

/// What a round gives back, of a row.
template <typename T>
struct SubsetGradient {
  T rest, pull;  // pull: a_c R_c
  T inverse;     // 1 / T
  T mean;        // s

  /// P
  template <typename F>
  TG_HD static F at_share(F grad, F at_next, F weight, T rest) {
    return grad - at_next / (F(T{1}) - weight * F(rest));
  }
  /// At r / T.
  template <typename F>
  TG_HD F at(F weight, F at_share) const {
    return weight * fma(F(rest), at_share - F(mean), F(pull));
  }
};

}  // namespace math
}  // namespace torch_gumbel
