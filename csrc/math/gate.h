// SPDX-License-Identifier: Apache-2.0 AND SunPro
// Gates: y = sigmoid((logit + L) / tau) with logistic noise L = log v - log(1 - v) of one word, its
// 0-or-1 form, and its stretched and clamped form (hard concrete).
#pragma once

#include "rows.h"
#include "softmax.h"

namespace torch_gumbel {

/// kSample: output, and `one_hot` if not null: what its backward needs (see GateParams). kBackward:
/// from that. kRecompute: from logits and key, of gates that are not stretched.
enum class GateOp { kSample, kBackward, kRecompute };

/// An element is a row of one class.
///
/// What the backward needs, where it is not recomputed: of float32 and float64 the sample before it
/// becomes 0 or 1; of half types, in which 1 - y would be lost, y or, above 1/2, y - 1 of the gate
/// that is not stretched, and 0 where the stretched one is clamped.
struct GateParams : KernelParams {
  bool hard = false;         // 0 or 1
  double threshold = 0.0;    // hard: logit of the threshold
  double lower = 0.0;        // stretched to [lower, upper], lower <= 0 and upper >= 1, and clamped
  double upper = 1.0;        // to [0, 1]
  bool nontemporal = false;  // CPU: stores of the output
};

namespace math {

/// A random number v by its distances from 0 and 1.
template <typename F, typename Bits>
struct Sides {
  F near;      // min(v, 1 - v), in (0, 1/2]
  F far;       // 1 - near
  Bits upper;  // highest bit: v >= 1/2
};

/// Whether a word is extended by a second one: both tails of a logistic count. In words that are
/// `near` 2^32 < 256.
TG_HD bool is_extended_gate(uint32_t word) { return word + kExtendBelow < 2 * kExtendBelow; }

/// v = (w + 1/2) 2^-32, of a word without extension.
template <typename Word>
TG_HD auto sides_of(Word word) {
  const auto near = magnitude(fma(signed_float(word), 0x1p-32f, 0x1p-33f));
  using F = std::remove_cv_t<decltype(near)>;
  return Sides<F, Word>{near, F(1.0f) - near, word};
}

/// v = (w 2^32 + w2 + 1/2) 2^-64.
TG_HD Sides<float, uint32_t> sides_of(uint32_t word, uint32_t extension) {
  const bool upper = static_cast<int32_t>(word) < 0;
  const uint64_t wide =
      static_cast<uint64_t>(upper ? ~word : word) << 32 | (upper ? ~extension : extension);
  const float near = fma(static_cast<float>(wide), 0x1p-64f, 0x1p-65f);
  return {near, 1.0f - near, word};
}
TG_HD Sides<double, uint32_t> sides64_of(uint32_t word, uint32_t extension) {
  const double near = near64(word, extension);
  return {near, 1.0 - near, word};
}

/// The logistic noise, |L| < 45.06; error below 2^-22 max(1, |L|).
template <typename F, typename Bits>
TG_HD F logistic(const Sides<F, Bits>& v) {
  return flip_sign(log_normal(v.near) + minus_log1p_minus(v.near), v.upper);
}

/// 1 if logit + L > 0, else 0, NaN for NaN: decided by the sign of v e^logit - (1 - v), without a
/// logarithm, and so equal in bits on every device.
template <typename F, typename Bits>
TG_HD F hard_gate(F logit, const Sides<F, Bits>& v) {
  constexpr auto kOne = exponent_of_one<F>();
  // Beyond 60 the noise cannot decide.
  const F x = at_most(F(60.0f), flip_sign(logit, v.upper)), odds = exp_scaled(x, kOne);
  // In the lower half negative where near odds > far, in the upper half where near odds <= far.
  const F sign = flip_sign(fma(-v.near, odds, v.far), v.upper);
  return fma(odds, F(0.0f), select_negative(sign, F(1.0f), F(0.0f)));  // NaN of NaN
}

/// y : 1 - y
template <typename F>
struct GateOdds {
  F open;
  F closed;
};

/// Of score = logit + L.
template <typename F, typename S>
TG_HD GateOdds<F> gate_odds(F score, Exponent<S> scale) {
  const F e = exp_scaled(minus_magnitude(score), scale);
  return {select_negative(score, e, F(1.0f)), select_negative(score, F(1.0f), e)};
}

/// At a temperature of 1, without a logarithm: v : (1 - v) e^-logit.
template <typename F, typename Bits>
TG_HD GateOdds<F> gate_odds(F logit, const Sides<F, Bits>& v) {
  const F open = select_sign(v.upper, v.far, v.near), closed = select_sign(v.upper, v.near, v.far);
  const F e = exp_scaled(minus_magnitude(logit), exponent_of_one<F>());
  return {select_negative(logit, open * e, open), select_negative(logit, closed, closed * e)};
}

template <typename F>
TG_HD F share_of(const GateOdds<F>& odds) {
  return odds.open / (odds.open + odds.closed);
}

/// y, or what is kept of half types: y or y - 1.
template <typename F>
struct NearGate {
  F y;
  F kept;
};

template <typename F>
TG_HD NearGate<F> near_gate(const GateOdds<F>& odds) {
  const F difference = odds.open - odds.closed;
  const F less = select_negative(difference, odds.open, odds.closed);
  const F near = less / (odds.open + odds.closed);
  return {select_negative(difference, near, F(1.0f) - near),
          select_negative(difference, near, -near)};
}

/// The stretch to [lower, lower + width].
template <typename T>
struct Stretch {
  T lower;
  T width;
};

template <typename F, typename T>
TG_HD F clamped_gate(F y, Stretch<T> stretch) {
  const F z = fma(y, F(stretch.width), F(stretch.lower));
  return at_most(F(1.0f), at_least(F(0.0f), z));
}

/// `value`, or 0 where y stretched is clamped.
template <typename F, typename T>
TG_HD F zero_if_clamped(F y, Stretch<T> stretch, F value) {
  const F z = fma(y, F(stretch.width), F(stretch.lower));
  return zero_below(0x1p-126f, at_most(z, F(1.0f) - z), value);
}

/// What does not vary from element to element, but for the temperature.
template <typename T>
struct GateSettings {
  Exponent<T> scale;  // of the temperature
  T shift;            // hard: taken from the logit
  Stretch<T> stretch;
  bool hard, stretched, near, at_one;

  /// `tau`: of an element, or of all of them.
  TG_HD static GateSettings of(const GateParams& a, double tau) {
    const bool stretched = a.lower != 0 || a.upper != 1;
    const bool half = a.output_type == DType::kFloat16 || a.output_type == DType::kBFloat16;
    return {exponent_scale<T>(tau),
            shift_of(a.threshold, tau),
            {static_cast<T>(a.lower), static_cast<T>(a.upper - a.lower)},
            a.hard,
            stretched,
            half,
            a.tau == nullptr && a.host_tau == 1 && !stretched};
  }

  /// tau logit(threshold), NaN for a bad temperature.
  TG_HD static T shift_of(double threshold, double tau) {
    const double shift = tau * threshold;
    const T above = shift > kLargest<T> ? kLargest<T> : static_cast<T>(shift);
    const T finite = shift < -kLargest<T> ? -kLargest<T> : above;
    return valid_temperature(tau) ? finite : static_cast<T>(__builtin_nan(""));
  }
};

template <typename T>
struct GateValue {
  T output;
  T kept;
};

/// A gate, and what is kept for its backward.
template <typename T, typename Bits>
TG_HD GateValue<T> gate_value(T logit, const Sides<T, Bits>& v, const GateSettings<T>& s) {
  const GateOdds<T> odds = s.at_one ? gate_odds(logit, v) : gate_odds(logit + logistic(v), s.scale);
  NearGate<T> gate = s.near ? near_gate(odds) : NearGate<T>{share_of(odds), T{0}};
  const T y = s.stretched ? clamped_gate(gate.y, s.stretch) : gate.y;
  if (s.near && s.stretched) gate.kept = zero_if_clamped(gate.y, s.stretch, gate.kept);
  return {s.hard ? hard_gate(logit - s.shift, v) : y, s.near ? gate.kept : y};
}

/// d loss / d logit, and d loss / d tau of one element.
template <typename T>
struct GateGradient {
  T logit;
  T tau;
};

/// From the sample, stretched or not: with a = z - lower and b = upper - z, y (1 - y) = a b / width^2.
/// `factor`: 1 / (tau width).
template <typename T>
TG_HD GateGradient<T> gate_gradient(T z, T grad, T factor, Stretch<T> stretch) {
  const T a = z - stretch.lower, b = stretch.width - a;
  const bool inside = z > 0 && z < 1;
  const T slope = a * b, logit = grad * ((inside || z != z ? slope : T{0}) * factor);
  return {logit, -logit * (log_probability(a) - log_probability(b))};
}

/// The same of half types; `factor`: width / tau.
template <typename T>
TG_HD GateGradient<T> near_gate_gradient(T kept, T grad, T factor) {
  const T near = kept < 0 ? -kept : kept;
  const T logit = grad * (near * (1 - near) * factor);
  const T log_odds = log_probability(near) + minus_log1p_minus(near);
  return {logit, kept < 0 ? logit * log_odds : -logit * log_odds};
}

/// The same from the score, logit + L, of a gate that is not stretched; `factor`: 1 / tau.
template <typename T>
TG_HD GateGradient<T> gate_gradient_of_score(T score, T grad, T factor, Exponent<T> scale) {
  const GateOdds<T> odds = gate_odds(score, scale);
  const T sum = odds.open + odds.closed;
  const T share = odds.open * odds.closed / (sum * sum), logit = grad * (share * factor);
  return {logit, share == 0 ? T{0} : -logit * (score * factor)};
}

/// The factor of these.
template <typename T>
TG_HD T gate_factor(GateOp op, const GateParams& a, double tau) {
  const T inverse = inverse_temperature<T>(tau), width = static_cast<T>(a.upper - a.lower);
  if (op == GateOp::kRecompute) return inverse;
  const bool half = a.input_type == DType::kFloat16 || a.input_type == DType::kBFloat16;
  return half ? inverse * width : inverse / width;
}

}  // namespace math
}  // namespace torch_gumbel
