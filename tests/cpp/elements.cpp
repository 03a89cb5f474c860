// SPDX-License-Identifier: Apache-2.0
#include "elements.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace torch_gumbel::testing {
namespace {

/// Digits after the leading bit, smallest exponent of a normal value, largest finite value.
struct Format {
  int digits;
  int least_exponent;
  double largest;
};

Format format_of(DType type) {
  if (type == DType::kFloat64) return {52, -1022, std::numeric_limits<double>::max()};
  if (type == DType::kFloat32) return {23, -126, std::numeric_limits<float>::max()};
  if (type == DType::kFloat16) return {10, -14, 65504};
  return {7, -126, 0x1.FEp127};
}

int exponent_of(const Format& format, double x) {
  return x == 0 ? format.least_exponent : std::max(std::ilogb(x), format.least_exponent);
}

uint16_t bits_of(DType type, double value) {
  const Format format = format_of(type);
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const int bias = 1 - format.least_exponent;
  const int infinite = (2 * bias + 1) << format.digits;
  if (std::isnan(value)) return sign | infinite | 1 << (format.digits - 1);
  if (std::isinf(value)) return sign | infinite;
  const int exponent = exponent_of(format, value);
  const int scaled = static_cast<int>(std::ldexp(std::fabs(value), format.digits - exponent));
  // A subnormal has no leading bit; a normal value's leading bit adds one to the exponent field.
  return sign | (((exponent - format.least_exponent) << format.digits) + scaled);
}

double value_of(DType type, uint16_t bits) {
  const Format format = format_of(type);
  const int magnitude = bits & 0x7FFF, field = magnitude >> format.digits;
  const int fraction = magnitude & ((1 << format.digits) - 1);
  const int bias = 1 - format.least_exponent;
  double value = 0;
  if (field == 2 * bias + 1)
    value = fraction == 0 ? INFINITY : NAN;
  else if (field == 0)
    value = std::ldexp(fraction, format.least_exponent - format.digits);
  else
    value = std::ldexp(fraction + (1 << format.digits), field - bias - format.digits);
  return bits & 0x8000 ? -value : value;
}

}  // namespace

int64_t size_of(DType type) {
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}

const char* name_of(DType type) {
  if (type == DType::kFloat64) return "float64";
  if (type == DType::kFloat32) return "float32";
  return type == DType::kFloat16 ? "float16" : "bfloat16";
}

double rounded(DType type, double x) {
  if (type == DType::kFloat64 || x == 0 || !std::isfinite(x)) return x;
  const Format format = format_of(type);
  const int shift = format.digits - exponent_of(format, x);
  const double nearest = std::ldexp(std::nearbyint(std::ldexp(x, shift)), -shift);
  return std::fabs(nearest) > format.largest ? std::copysign(INFINITY, x) : nearest;
}

double half_step(DType type, double x) {
  const Format format = format_of(type);
  return std::ldexp(0.5, exponent_of(format, x) - format.digits);
}

void store(DType type, double x, void* to) {
  const double value = rounded(type, x);
  const auto narrow = static_cast<float>(value);
  if (type == DType::kFloat64) std::memcpy(to, &value, sizeof value);
  if (type == DType::kFloat32) std::memcpy(to, &narrow, sizeof narrow);
  if (type == DType::kFloat64 || type == DType::kFloat32) return;
  const uint16_t bits = bits_of(type, value);
  std::memcpy(to, &bits, sizeof bits);
}

double load(DType type, const void* from) {
  double wide = 0;
  float single = 0;
  uint16_t bits = 0;
  std::memcpy(type == DType::kFloat64   ? static_cast<void*>(&wide)
              : type == DType::kFloat32 ? static_cast<void*>(&single)
                                        : static_cast<void*>(&bits),
              from, size_of(type));
  if (type == DType::kFloat64) return wide;
  return type == DType::kFloat32 ? single : value_of(type, bits);
}

}  // namespace torch_gumbel::testing
