// SPDX-License-Identifier: Apache-2.0
// Single precision functions of CUDA: the rounded ones exactly, the approximate ones with an error
// up to the maximum in the CUDA programming guide ("Mathematical Functions", "Intrinsic
// Functions"). Which part of it an argument gets is a hash of the argument: always the same, in any
// order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "bits.h"

namespace cuda_model {

/// Unit in the last place of a float near x.
inline double ulp(double x) {
  constexpr uint64_t kExponent = 0x7FF0000000000000;
  const double power = std::bit_cast<double>(std::bit_cast<uint64_t>(x) & kExponent);
  return std::max(power, 0x1p-126) * 0x1p-23;
}

/// A float within `error` of the exact value, rounding included.
inline float within(double exact, double error, uint32_t argument) {
  if (!std::isfinite(exact) || exact == 0) return static_cast<float>(exact);
  const uint32_t hash = (argument ^ argument >> 15) * 0x9E3779B9u;
  const double share = static_cast<double>(static_cast<int32_t>(hash ^ hash >> 13)) * 0x1p-31;
  const double rounding = 0.5 * ulp(std::fabs(exact) + error);
  return static_cast<float>(exact + share * std::max(0.0, error - rounding));
}

inline bool near_one(float x) { return x >= 0.5f && x <= 2.0f; }

}  // namespace cuda_model

/// Maximum error 2 + floor(|1.173 x|) ulp.
inline float __expf(float x) {
  const double exact = std::exp(static_cast<double>(x));
  const double ulps = 2 + std::floor(std::fabs(1.173 * static_cast<double>(x)));
  return cuda_model::within(exact, ulps * cuda_model::ulp(exact), __float_as_uint(x));
}

/// Maximum error 2^-21.41 in [1/2, 2], 3 ulp elsewhere.
inline float __logf(float x) {
  const double exact = std::log(static_cast<double>(x));
  const double error = cuda_model::near_one(x) ? std::exp2(-21.41) : 3 * cuda_model::ulp(exact);
  return cuda_model::within(exact, error, __float_as_uint(x));
}

/// Maximum error 2^-22 in [1/2, 2], 2 ulp elsewhere.
inline float __log2f(float x) {
  const double exact = std::log2(static_cast<double>(x));
  const double error = cuda_model::near_one(x) ? 0x1p-22 : 2 * cuda_model::ulp(exact);
  return cuda_model::within(exact, error, __float_as_uint(x));
}

/// Maximum error 2 ulp; 0 where |y| is above 2^126.
inline float __fdividef(float x, float y) {
  if (std::fabs(y) > 0x1p126f) return std::isinf(x) ? NAN : 0.0f * x;
  const double exact = static_cast<double>(x) / static_cast<double>(y);
  return cuda_model::within(exact, 2 * cuda_model::ulp(exact),
                            __float_as_uint(x) + 31 * __float_as_uint(y));
}

namespace cuda_model {

/// ex2.approx.ftz.f32 and lg2.approx.ftz.f32, with the errors of the PTX manual: 2^-22 of the
/// value, for logarithms in [1/2, 2] 2^-22.
inline float exp2_of_device(float x) {
  const double exact = std::exp2(static_cast<double>(x));
  return within(exact, 0x1p-22 * exact, __float_as_uint(x));
}
inline float log2_of_device(float x) {
  const double exact = std::log2(static_cast<double>(x));
  const double error = near_one(x) ? 0x1p-22 : 0x1p-22 * std::fabs(exact);
  return within(exact, error, __float_as_uint(x));
}

}  // namespace cuda_model

// What kernels call where no device code is made.
#define exp2f cuda_model::exp2_of_device
#define log2f cuda_model::log2_of_device

inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline double __fma_rn(double x, double y, double z) { return __builtin_fma(x, y, z); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
