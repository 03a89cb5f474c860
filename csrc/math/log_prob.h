// SPDX-License-Identifier: Apache-2.0
// Log-probability of a class, entropy, and their gradient, of p = softmax(x / T). With d_k = x_k -
// max, w_k = exp(d_k / T), S = sum_k w_k in [1, K], and m = sum_k p_k d_k <= 0:
//     log p_k = d_k / T - log S,    H = log S - m / T,
// neither of which cancels. With incoming gradients a at log p_c and b at H, and u_k = (d_k - m) / T:
//     at x_k: ([k = c] a - p_k (a + b u_k)) / T,    at T: (b sum_k p_k u_k^2 - a u_c) / T.
#pragma once

#include "rows.h"
#include "softmax.h"

namespace torch_gumbel {

/// From `input` (logits), `tau`, and `index` (one class per row). Values of rows are of the opmath
/// type, contiguous. The forward writes log_prob, entropy, max, sum, and mean; the backward reads
/// the last three and writes `output` and row_value (the gradient at T, or null).
///
/// A row without a distribution (NaN, +inf, no finite class, a bad temperature) is NaN in log_prob,
/// entropy, and gradients; without a finite class, its max is -inf and its sum 0, as of a shard of a
/// row. So is, forward, a row whose index is out of range; backward, no class of it is the chosen
/// one: another shard has it. A masked class has a log-probability of -inf, which has no gradient.
struct LogProbParams : KernelParams {
  void* log_prob = nullptr;             // [rows]
  void* entropy = nullptr;              // [rows]
  void* max = nullptr;                  // [rows]
  void* sum = nullptr;                  // [rows] S
  void* mean = nullptr;                 // [rows] m
  const void* grad_log_prob = nullptr;  // [rows], or null: 0
  const void* grad_entropy = nullptr;   // [rows], or null: 0
};

namespace math {

/// w d; 0 where w is, also at d = -inf.
template <typename T, typename F>
TG_HD F weighted_difference(F w, F d) {
  return w * larger(d, F(-kLargest<T>));
}

/// d / T, bounded below where every weight is 0, so that 0 times what is made of it is 0.
template <typename F, typename T>
TG_HD F scaled_difference(F d, T inverse) {
  return larger(d * F(inverse), F(T{-1024}));
}

/// S, m, and max of a row, in float64 on every device.
struct LogProbRow {
  double max, sum, mean, tau;

  TG_HD bool defined() const { return sum > 0 && sum <= kLargest<double>; }
  TG_HD double log_prob(double x) const { return (x - max) / tau - log_normal(sum); }
  TG_HD double entropy() const { return log_normal(sum) - mean / tau; }
};

/// Gradients of a row, of which max, S, and m are given: of (a, b) as above.
template <typename T>
struct LogProbGradient {
  T max;
  Exponent<T> scale;
  T inverse;
  T base, slope;  // at x_k: w_k (base + slope d_k / T)
  T own;          // and this of the chosen class
  T centre;       // m / T

  /// `x`: logit of the chosen class.
  TG_HD static LogProbGradient of(const LogProbRow& row, double x, double a, double b) {
    const double inverse = 1 / row.tau, share = inverse / row.sum, centre = row.mean * inverse;
    const double at_log_prob = x == -__builtin_inf() ? 0.0 : a;
    return {static_cast<T>(row.max),         exponent_scale<T>(row.tau),
            inverse_temperature<T>(row.tau), static_cast<T>((b * centre - at_log_prob) * share),
            static_cast<T>(-b * share),      static_cast<T>(at_log_prob * inverse),
            static_cast<T>(centre)};
  }

  /// At a class that is not the chosen one.
  template <typename F>
  TG_HD F at(F x) const {
    const F d = x - F(max);
    return exp_scaled(d, scale) * fma(F(slope), scaled_difference(d, inverse), F(base));
  }
  /// w_k u_k^2
  template <typename F>
  TG_HD F spread(F x) const {
    const F d = x - F(max), u = scaled_difference(d, inverse) - F(centre);
    return exp_scaled(d, scale) * u * u;
  }
};

/// The gradient at T; `spread`: the sum of w_k u_k^2 over the classes.
TG_HD double log_prob_gradient_at_tau(const LogProbRow& row, double spread, double x, double a,
                                      double b) {
  const double u = ((x - row.max) - row.mean) / row.tau;
  const double of_log_prob = x == -__builtin_inf() ? 0.0 : a * u;
  return (b * spread / row.sum - of_log_prob) / row.tau;
}

}  // namespace math
}  // namespace torch_gumbel
