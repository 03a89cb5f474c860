// SPDX-License-Identifier: Apache-2.0 AND SunPro
// Random word -> standard Gumbel noise, equal in bits on every device.
//
// A word w stands for v = (w + 1/2) 2^-32 in (0, 1). exp1 = -log1p(-v) is a standard exponential
// and g = -log exp1 a standard Gumbel. The tail that wins an argmax is v -> 0, where floats are
// dense. A word below kExtendBelow (probability 2^-24) is extended by a second one: v = (w 2^32 +
// w2 + 1/2) 2^-64.
#pragma once

#include "host_device.h"

namespace torch_gumbel::math {

constexpr uint32_t kExtendBelow = 256;

// Coefficients: docs/fit_polynomials.py.

/// -log1p(-t), t in (0, 1/2]; relative error below 1.375 * 2^-24 (of which the polynomial: 2^-28).
template <typename F>
TG_HD F minus_log1p_minus(F t) {
  const F tail =
      horner(t, 0x1.00001ep-1f, 0x1.5542f6p-2f, 0x1.01e9dap-2f, 0x1.6830e8p-3f, 0x1.5c3ae6p-2f,
             -0x1.2f3e04p-1f, 0x1.f88f2ep+0f, -0x1.3cfc78p+1f, 0x1.be5254p+0f);
  return fma(t * t, tail, t);
}

/// x = 2^exponent (1 + f), f in [-1/3, 1/3].
template <typename F>
struct NearOne {
  F f;
  F exponent;
};

constexpr uint32_t kTwoThirds = 0x3F2AAAAB;  // the bits of 2/3

/// Exactly, for normal positive x.
template <typename F>
TG_HD NearOne<F> near_one(F x) {
  const auto bits = bits_of(x);
  const auto exponent = signed_shift(bits - kTwoThirds, 23);
  return {float_of(bits - exponent * (1u << 23)) - 1.0f, signed_float(exponent)};
}

/// log(x) for normal positive x; error below 1.4 * 2^-24 max(1, |log x|).
template <typename F>
TG_HD F log_normal(F x) {
  static_assert(!std::is_integral_v<F>);
  const auto [f, exponent] = near_one(x);
  const F tail = horner(f, -0x1.ffffb0p-2f, 0x1.555472p-2f, -0x1.001cc4p-2f, 0x1.9a04dep-3f,
                        -0x1.4f2c3cp-3f, 0x1.1bfe2ap-3f, -0x1.400852p-3f, 0x1.2ab85cp-3f);
  return fma(exponent, 0x1.62e430p-1f, fma(f * f, tail, f));
}

/// 1 - v = 2^-halvings (1 - t), t in (0, 1/2].
template <typename F>
struct SplitExponent {
  F t;
  F halvings;
};

/// Exactly, from a word and q = v, or v - 1 when w >= 2^31: so the word's highest bit is q's too.
template <typename Word, typename F>
TG_HD SplitExponent<F> split_exponent(Word, F q) {
  const auto bits = bits_of(q);
  const F mantissa = float_of((bits & 0x007FFFFFu) | 0x3F000000u);  // |q| = mantissa 2^-k
  const auto k = max0(-130u - signed_shift(bits, 23));              // the sign bit is -256
  return {select_sign(bits, 1.0f - mantissa, q), signed_float(k)};
}

/// exp1 of a word without extension: in [2^-33, 23], never 0, infinite, or NaN; relative error
/// below 1.25 * 2^-23. For w >= 2^31 it works from 1 - v, which is exact there, so the losing tail
/// is right too.
template <typename Word>
TG_HD auto exp1(Word word) {
  const auto q = fma(signed_float(word), 0x1p-32f, 0x1p-33f);
  const auto [t, halvings] = split_exponent(word, q);
  return fma(halvings, 0x1.62e430p-1f, minus_log1p_minus(t));
}

/// exp1 of an extended word (word < kExtendBelow): in [2^-65, 2^-24].
TG_HD float exp1(uint32_t word, uint32_t extension) {
  const uint64_t wide = static_cast<uint64_t>(word) << 32 | extension;
  return minus_log1p_minus(fma(static_cast<float>(wide), 0x1p-64f, 0x1p-65f));
}

/// g = -log e for e as `exp1` returns it: in [-3.14, 45.06].
template <typename F>
TG_HD F gumbel_of_exp1(F e) {
  return -log_normal(e);
}

/// Standard Gumbel noise of a word; `extension` counts only when word < kExtendBelow.
TG_HD float gumbel(uint32_t word, uint32_t extension) {
  return gumbel_of_exp1(word < kExtendBelow ? exp1(word, extension) : exp1(word));
}

/// log(2^exponent (1 + f)), f in [-0.293, 0.415], error below one ulp: the form and coefficients of
/// fdlibm's e_log.c (its notice: NOTICE).
TG_HD double log_reduced(double f, double exponent) {
  const double s = f / (2.0 + f);
  const double z = s * s;
  const double tail =
      z * horner(z, 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
                 2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
                 1.479819860511658591e-01);
  const double half_square = 0.5 * f * f;
  const double low = exponent * 1.90821492927058770002e-10 + s * (half_square + tail);
  return exponent * 6.93147180369123816490e-01 - ((half_square - low) - f);
}

/// log(x) for normal positive x, in float64.
TG_HD double log_normal(double x) {
  constexpr int64_t kSqrtHalf = 0x3FE6A09E667F3BCD;
  const auto bits = bit_cast<int64_t>(x);
  const int64_t exponent = (bits - kSqrtHalf) >> 52;
  const double mantissa =
      bit_cast<double>(bits - exponent * (int64_t{1} << 52));  // in [sqrt(1/2), sqrt(2))
  return log_reduced(mantissa - 1.0, static_cast<double>(static_cast<int32_t>(exponent)));
}

/// A 32-bit word as a double, exactly, by integer operations that every instruction set has in
/// vectors.
TG_HD double exact_double(uint32_t word) {
  return bit_cast<double>(0x4330000000000000u | word) - 0x1p52;
}

/// -log1p(-t), t in (0, 1/2], in float64.
TG_HD double minus_log1p_minus(double t) {
  const bool halve = t > 0.29;
  return -log_reduced(halve ? fma(-2.0, t, 1.0) : -t, halve ? -1.0 : 0.0);
}

/// min(v, 1 - v) of v = (w 2^32 + w2 + 1/2) 2^-64, in float64.
TG_HD double near64(uint32_t word, uint32_t extension) {
  const bool upper = static_cast<int32_t>(word) < 0;
  const double high = exact_double(upper ? ~word : word);
  const double low = exact_double(upper ? ~extension : extension);
  return fma(fma(high, 0x1p32, low), 0x1p-64, 0x1p-65);
}

/// exp1 in float64: always both words, v = (w 2^32 + w2 + 1/2) 2^-64. In [2^-65, 45].
TG_HD double exp1_64(uint32_t word, uint32_t extension) {
  const double near = near64(word, extension);
  const bool upper = static_cast<int32_t>(word) < 0;
  return upper ? -log_normal(near) : minus_log1p_minus(near);
}

/// float64 noise, computed in float64. In [-3.81, 45.06].
TG_HD double gumbel64(uint32_t word, uint32_t extension) {
  return -log_normal(exp1_64(word, extension));
}

}  // namespace torch_gumbel::math
