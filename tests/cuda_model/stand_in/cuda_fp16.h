// SPDX-License-Identifier: Apache-2.0
// float16: conversions to and from float, to the nearest value, ties to even.
#pragma once

#include <bit>
#include <cstdint>

#include "vectors.h"

struct __half {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline float __half2float(__half half) {
  const uint32_t sign = uint32_t{half.bits} >> 15 << 31, magnitude = half.bits & 0x7FFFu;
  if (magnitude < 0x400)  // zero or subnormal: multiples of 2^-24
    return std::bit_cast<float>(std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f) |
                                sign);
  const uint32_t exponent_shift = magnitude < 0x7C00 ? 112u << 23 : 224u << 23;
  return std::bit_cast<float>(((magnitude << 13) + exponent_shift) | sign);
}

inline __half __float2half(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7FFFFFFFu;
  const auto sign = static_cast<uint16_t>(bits >> 31 << 15);
  if (magnitude > 0x7F800000) return {0x7FFF};
  if (magnitude >= 0x477FF000) return {static_cast<uint16_t>(sign | 0x7C00)};  // 65520 and above
  if (magnitude < 0x38800000) {  // below 2^-14: adding 1/2 rounds to a multiple of 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000))};
  }
  const uint32_t rounded = magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1);
  return {static_cast<uint16_t>(sign | rounded >> 13)};
}

inline __half __float2half_rn(float x) { return __float2half(x); }
inline __half2 __float22half2_rn(float2 v) { return {__float2half(v.x), __float2half(v.y)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half(x), __float2half(y)}; }
inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
inline float __low2float(__half2 v) { return __half2float(v.x); }
inline float __high2float(__half2 v) { return __half2float(v.y); }
