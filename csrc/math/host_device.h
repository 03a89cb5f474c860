// SPDX-License-Identifier: Apache-2.0
// What the formulas need from a compiler, so that one source serves every CPU build and the GPU.
#pragma once

#include <stdint.h>

#include <type_traits>

// Always inlined on the CPU: the same header is compiled once per instruction set, and an
// out-of-line copy could be shared by the linker with a machine that cannot run it.
#ifdef __CUDACC__
#define TG_HD __host__ __device__ __forceinline__
#else
#define TG_HD inline __attribute__((always_inline))
#endif

namespace torch_gumbel::math {

template <typename To, typename From>
TG_HD To bit_cast(From from) {
  return __builtin_bit_cast(To, from);
}

/// a * b + c with one rounding, on every device. Contraction is off everywhere else: only
/// calls of fma are fused.
TG_HD float fma(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return fmaf(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

TG_HD double fma(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return ::fma(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

// Steps of the formulas that are not arithmetic. A backend may overload them for vectors: a formula
// over any type `F` of floats then gives the bits that it gives for a float.

TG_HD uint32_t bits_of(float x) { return bit_cast<uint32_t>(x); }
TG_HD float float_of(uint32_t bits) { return bit_cast<float>(bits); }

/// bits / 2^count rounded down, of a signed number.
TG_HD uint32_t signed_shift(uint32_t bits, int count) {
  return static_cast<uint32_t>(static_cast<int32_t>(bits) >> count);
}
/// A signed number, or 0 if it is negative.
TG_HD uint32_t max0(uint32_t bits) { return static_cast<int32_t>(bits) > 0 ? bits : 0; }

/// A signed number as a float. Of a random word w: w, or w - 2^32 when w >= 2^31.
TG_HD float signed_float(uint32_t bits) { return static_cast<float>(static_cast<int32_t>(bits)); }

/// A choice by the highest bit.
TG_HD float select_sign(uint32_t bits, float set, float clear) {
  return static_cast<int32_t>(bits) < 0 ? set : clear;
}
/// The larger of a and b, b where one of them is NaN.
TG_HD float larger(float a, float b) { return a > b ? a : b; }
TG_HD double larger(double a, double b) { return a > b ? a : b; }
/// value, or 0 where x < least.
TG_HD float zero_below(float least, float x, float value) { return x < least ? 0.0f : value; }

/// x with its sign turned where the highest bit of `bits` is set.
TG_HD float flip_sign(float x, uint32_t bits) {
  return float_of(bits_of(x) ^ (bits & 0x80000000u));
}
TG_HD double flip_sign(double x, uint32_t bits) {
  return bit_cast<double>(bit_cast<uint64_t>(x) ^ static_cast<uint64_t>(bits & 0x80000000u) << 32);
}
/// A choice by x's sign bit.
TG_HD float select_negative(float x, float set, float clear) {
  return select_sign(bits_of(x), set, clear);
}
TG_HD double select_negative(double x, double set, double clear) {
  return bit_cast<int64_t>(x) < 0 ? set : clear;
}
TG_HD double select_sign(uint32_t bits, double set, double clear) {
  return static_cast<int32_t>(bits) < 0 ? set : clear;
}
TG_HD double zero_below(float least, double x, double value) { return x < least ? 0.0 : value; }
/// -|x|
TG_HD float minus_magnitude(float x) {
#ifdef __CUDA_ARCH__
  return -fabsf(x);  // a modifier of the instruction that reads it
#else
  return float_of(bits_of(x) | 0x80000000u);
#endif
}
TG_HD double minus_magnitude(double x) { return x < 0 ? x : -x; }
/// |x|
TG_HD float magnitude(float x) {
#ifdef __CUDA_ARCH__
  return fabsf(x);
#else
  return float_of(bits_of(x) & 0x7FFFFFFFu);
#endif
}
/// x, or the bound that it is beyond; NaN stays NaN.
TG_HD float at_most(float most, float x) { return most < x ? most : x; }
TG_HD double at_most(double most, double x) { return most < x ? most : x; }
TG_HD float at_least(float least, float x) { return least > x ? least : x; }
TG_HD double at_least(double least, double x) { return least > x ? least : x; }

/// c0 + c1 x + c2 x^2 + ...
template <typename T>
TG_HD T horner(T, std::type_identity_t<T> c0) {
  return c0;
}

template <typename T, typename... Rest>
TG_HD T horner(T x, std::type_identity_t<T> c0, Rest... rest) {
  return fma(x, horner(x, rest...), c0);
}

}  // namespace torch_gumbel::math
