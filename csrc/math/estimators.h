// SPDX-License-Identifier: Apache-2.0
// Estimators of the gradient at the logits x of a one-hot sample with its 1 at class D, from the
// gradient g at the sample. Notation: p = softmax(x), q = softmax(x / tau), J(y) g = y (g - y.g).
//
//     straight-through  J(q) g / tau
//     gapped            the same of scores x whose choice is moved up to their maximum M, the
//                       others down to at most M - gap (constants of the derivative)
//     zgr               (p (g - g_D) + e_D (g_D - p.g)) / 2
//     reinmax           2 J((q + e_D) / 2) g - J(p) g / 2; at tau = 1 equal to zgr
//     gumbel-rao        J(y) g / tau with y = softmax(s / tau), the mean over draws of scores s = x +
//                       noise given that D is their maximum
//
// "gumbel" and "decoupled" are made of the soft sample of the same noise, by other ops.
#pragma once

#include "rows.h"
#include "softmax.h"

namespace torch_gumbel::math {

/// A gapped score relative to the row's maximum, of x - max = d <= 0, gap >= 0; NaN stays NaN. That
/// of the choice is 0.
template <typename F>
TG_HD F gapped_difference(F d, F gap) {
  return -larger(gap, -d);
}

/// zgr at a class other than D; g_choice: g_D. `S`: what a value of the row is given as.
template <typename F, typename S>
TG_HD F zgr_gradient(F p, F g, S g_choice) {
  return p * (g - g_choice) * 0.5f;
}
/// zgr at D; mean: p.g.
template <typename F>
TG_HD F zgr_gradient_of_choice(F g_choice, F mean) {
  return (g_choice - mean) * 0.5f;
}

/// reinmax at a class; middle: (q.g + g_D) / 2, mean: p.g. Of D, g_D - middle is added.
template <typename F, typename S>
TG_HD F reinmax_gradient(F q, F p, F g, S middle, S mean) {
  return q * (g - middle) - p * (g - mean) * 0.5f;
}

// Scores given their choice: with E standard exponentials, one per class,
//     s_D - s_k = log(1 + E_k / a_k), a_k = E_D p_k, k != D.
// It needs no exp(x), and 0 as E_D makes it right at D as well.

/// Weight exp(s_k - s_D) of a class, in [0, 1].
template <typename F>
TG_HD F conditional_weight(F exp1, F a) {
  return a / (a + exp1);
}
/// Its logarithm; log_a may be far below the least number: -inf gives -inf.
template <typename F>
TG_HD F conditional_log_weight(F exp1, F a, F log_a) {
  return log_a - log_normal(a + exp1);
}

/// The words of draw m: their counter word c2. That of their extensions is one more.
TG_HD Plane plane_of_draw(int32_t draw) {
  return static_cast<Plane>(2 * static_cast<uint32_t>(draw) + 2);
}

}  // namespace torch_gumbel::math
