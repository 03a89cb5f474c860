// SPDX-License-Identifier: Apache-2.0
// Temperature softmax: scaling by 1 / tau, and an exponential for non-positive arguments.
#pragma once

#include "gumbel.h"
#include "host_device.h"

namespace torch_gumbel::math {

TG_HD bool valid_temperature(double tau) { return tau > 0 && tau <= 1.79769313486231570815e+308; }

/// A sampler's temperature of 0: the greedy argmax, without noise.
TG_HD bool without_noise(double temperature) { return temperature == 0; }

/// 1 / tau, both rounded to T: positive and finite for every valid tau (so that no mask of -inf
/// meets a 0), NaN for every other.
template <typename T>
TG_HD T inverse_temperature(double tau);

template <>
TG_HD float inverse_temperature<float>(double tau) {
  const float inverse = 1.0f / static_cast<float>(tau);
  const float finite = inverse > 0x1.fffffep+127f ? 0x1.fffffep+127f : inverse;
  const float positive = finite > 0 ? finite : 0x1p-149f;
  return valid_temperature(tau) ? positive : __builtin_nanf("");
}

template <>
TG_HD double inverse_temperature<double>(double tau) {
  const double inverse = 1.0 / tau;
  const double finite =
      inverse > 1.79769313486231570815e+308 ? 1.79769313486231570815e+308 : inverse;
  return valid_temperature(tau) ? finite : __builtin_nan("");
}

template <typename T>
constexpr T kLargest = sizeof(T) == sizeof(float) ? static_cast<T>(0x1.fffffep+127f)
                                                  : static_cast<T>(1.79769313486231570815e+308);

template <typename T>
constexpr T kMaxSamplingInverse =
    sizeof(T) == sizeof(float) ? static_cast<T>(0x1p64) : static_cast<T>(0x1p512);

/// The sampler's 1 / temperature: as above, but at most 2^64 (float64: 2^512). A lower temperature
/// decides no other way between logits that differ by 1e-17 or more, and logits of up to 2^64 keep
/// their order instead of overflowing: the limit is the argmax.
template <typename T>
TG_HD T sampling_inverse(T inverse) {
  return inverse > kMaxSamplingInverse<T> ? kMaxSamplingInverse<T> : inverse;
}
template <typename T>
TG_HD T sampling_inverse_of(double temperature) {
  return sampling_inverse(inverse_temperature<T>(temperature));
}

/// The sampler's scaled logit: logit * inverse, rounded once. A product that overflows keeps the
/// largest finite value, not +inf. What is not finite stays as it is: times an inverse that was
/// flushed to 0, a mask would be NaN.
template <typename T>
TG_HD T scaled_logit(T logit, T inverse) {
  const T product = logit * inverse;
  const T above = product > kLargest<T> ? kLargest<T> : product;
  const T bounded = above < -kLargest<T> ? -kLargest<T> : above;
  return logit - logit == 0 ? bounded : logit;
}

/// exp(d / tau) for d <= 0 (or NaN) is 2^(d * (high + low)): log2(e) / tau in two pieces, because
/// one rounded float would cost |d| 2^-24 / tau of relative error.
template <typename T>
struct Exponent {
  T high;
  T low;
};

template <typename T>
TG_HD Exponent<T> exponent_scale(double tau);

template <>
TG_HD Exponent<float> exponent_scale<float>(double tau) {
  if (!valid_temperature(tau)) return {__builtin_nanf(""), 0.0f};
  const double scale = 1.4426950408889634074 / tau;
  if (scale > 0x1p127) return {0x1p127f, 0.0f};
  if (scale < 0x1p-126) {
    const auto subnormal = static_cast<float>(scale);
    return {subnormal > 0 ? subnormal : 0x1p-149f, 0.0f};
  }
  const auto high = static_cast<float>(scale);
  return {high, static_cast<float>(scale - static_cast<double>(high))};
}

template <>
TG_HD Exponent<double> exponent_scale<double>(double tau) {
  return {inverse_temperature<double>(tau), 0.0};
}

/// The scale of a temperature of 1, in the type of a scale of F.
template <typename F>
TG_HD constexpr auto exponent_of_one() {
  if constexpr (std::is_same_v<F, double>)
    return Exponent<double>{1.0, 0.0};
  else
    return Exponent<float>{0x1.715476p+0f, 0x1.4ae0cp-26f};
}

/// The whole number nearest to x, |x| < 2^22, and its bits in the low end of a float's.
template <typename F, typename Bits>
struct Whole {
  F number;
  Bits bits;
};

template <typename F>
TG_HD auto nearest_whole(F x) {
  constexpr float kRoundToInteger = 0x1.8p23f;
  const F shifted = x + kRoundToInteger;
  return Whole<F, decltype(bits_of(shifted))>{F{shifted - kRoundToInteger}, bits_of(shifted)};
}

/// fraction * 2^n, n nearest to x, and 0 for x below -126, whatever n is there.
template <typename F, typename Bits>
TG_HD F ldexp(F fraction, Whole<F, Bits> n, F x) {
  // Unsigned, so that a NaN's bits may wrap: NaN times any power is NaN.
  const Bits biased = n.bits - (0x4B400000u - 127u);
  return zero_below(-126.0f, x, fraction * float_of(biased * (1u << 23)));
}

/// 2^(d (high + low)) for d high < 127; relative error about 2^-23 + |d high| 2^-46; below 2^-126
/// it is 0. NaN stays NaN.
/// `S`: what a temperature is given as, a float or an `F`.
template <typename F, typename S>
TG_HD F exp_scaled(F d, Exponent<S> scale) {
  const F high = scale.high, low = scale.low, x = d * high;
  const auto n = nearest_whole(x);
  const F r = fma(d, low, fma(d, high, -n.number));
  const F fraction = horner(r, 1.0f, 0x1.62e430p-1f, 0x1.ebfbdcp-3f, 0x1.c6af7cp-5f, 0x1.3b2de0p-7f,
                            0x1.5f082ep-10f, 0x1.416b50p-13f);
  return ldexp(fraction, n, x);
}

/// exp(d high) in float64; below exp(-708) it is 0. Relative error about 2^-52 + |d high| 2^-53.
/// NaN stays NaN.
TG_HD double exp_scaled(double d, Exponent<double> scale) {
  constexpr double kRoundToInteger = 0x1.8p52;
  const double x = d * scale.high;
  const double bounded = x < -709.0 ? -709.0 : x;
  const double shifted = fma(bounded, 1.4426950408889634074, kRoundToInteger);
  const double n = shifted - kRoundToInteger;
  const double r =
      fma(-n, 1.90821492927058770002e-10, fma(-n, 6.93147180369123816490e-01, bounded));
  const double fraction =
      horner(r, 1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
             1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800);
  const uint64_t biased = bit_cast<uint64_t>(shifted) - 0x4338000000000000u + 1023u;
  return x < -708.0 ? 0.0 : fraction * bit_cast<double>(biased << 52);
}

/// exp((x - max) / tau), x <= max, also where the difference of two finite numbers overflows: at a
/// temperature near the largest number it still counts.
template <typename T>
TG_HD T exp_of_difference(T x, T max, Exponent<T> scale) {
  const T d = x - max;
  if (!(d < -kLargest<T>) || !(x >= -kLargest<T>)) return exp_scaled(d, scale);
  constexpr T kDown = static_cast<T>(0.25), kUp = 4;
  return exp_scaled(x * kDown - max * kDown, Exponent<T>{scale.high * kUp, scale.low * kUp});
}

/// log y of a softmax value, 0 where y is 0 (so that 0 log 0 = 0); NaN stays NaN. A subnormal y is
/// read as about 2^-127, which changes y log y by less than 1e-36.
template <typename T>
TG_HD T log_probability(T y) {
  return y > 0 ? log_normal(y) : y;
}

}  // namespace torch_gumbel::math
