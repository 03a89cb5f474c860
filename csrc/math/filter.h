// SPDX-License-Identifier: Apache-2.0
// Filtered draws: which classes of a row top-k, top-p, and min-p keep, and the law of those.
//
// Masses are sums of integer weights, so that what is kept depends neither on the order of sums nor
// on the device.
#pragma once

#include "rows.h"
#include "softmax.h"

namespace torch_gumbel {

/// One value per row, or one for all rows (step 0); null: `number`, for all rows.
template <typename T>
struct PerRow {
  const T* values = nullptr;
  int64_t step = 0;
  T number;

  TG_HD T at(int64_t row) const { return values == nullptr ? number : values[row * step]; }
};

/// `row_value`: log-probabilities of the choices, or null. With an output the filtered logits are
/// written, and nothing is drawn.
struct FilterParams : KernelParams {
  PerRow<int64_t> top_k = {nullptr, 0, -1};  // -1, 0: off
  PerRow<double> top_p = {nullptr, 0, 1};    // 1: off
  PerRow<double> min_p = {nullptr, 0, 0};    // 0: off
  void* entropy = nullptr;                   // [rows], as row_value
};

/// Most classes of a row.
constexpr int64_t kMostFiltered = (int64_t{1} << 31) - 1024;

namespace math {

/// The filters of a row, one value each.
struct RowFilter {
  double temperature;
  int64_t top_k;
  double top_p, min_p;

  TG_HD bool valid() const {
    const bool tempered = valid_temperature(temperature) || without_noise(temperature);
    return tempered && top_k >= -1 && top_p > 0 && top_p <= 1 && min_p >= 0 && min_p <= 1;
  }
};

/// A weight in [0, 1] in units of 2^-31, rounded.
TG_HD uint32_t rounded_weight(float weight) {
  const float scaled = weight * 0x1p31f;
  const float whole = scaled < 0x1p23f ? scaled + 0x1p23f - 0x1p23f : scaled;
  return static_cast<uint32_t>(whole);
}
TG_HD uint32_t rounded_weight(double weight) {
  return static_cast<uint32_t>(weight * 0x1p31 + 0x1p52 - 0x1p52);
}

/// exp((x - max) / tau) as a rounded weight: in [0, 2^31], 0 for -inf. x, max not NaN, max finite.
template <typename T>
struct WeightScale {
  T max;
  Exponent<T> exponent;

  template <typename F>
  TG_HD auto weight(const F& x) const {
    return rounded_weight(exp_scaled(F(x - max), exponent));
  }
};

/// The smallest integer that is at least share * total, at least 1; total < 2^53.
TG_HD uint64_t target_of(double share, uint64_t total) {
  const double product = share * static_cast<double>(total);
  auto target = static_cast<uint64_t>(product);
  if (static_cast<double>(target) < product) ++target;
  return target > 0 ? target : 1;
}

template <typename T>
TG_HD T next_above(T x) {
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  if (x == 0 || !(x >= -kLargest<T>)) return x;
  const auto bits = bit_cast<Bits>(x);
  return bit_cast<T>(static_cast<Bits>(x > 0 ? bits + 1 : bits - 1));
}

/// The least logit that min-p keeps.
template <typename T>
TG_HD T min_p_bound(T max, double temperature, double min_p) {
  constexpr double kSmallest = 2.2250738585072014e-308;
  const double least =
      static_cast<double>(max) + temperature * log_normal(min_p > kSmallest ? min_p : kSmallest);
  const auto bound = static_cast<T>(least);
  return static_cast<double>(bound) < least ? next_above(bound) : bound;
}

/// The law of the classes that are kept. Of the weights relative to the first largest logit: their
/// sum but for that class's own, so that the logarithm of 1 + rest keeps its digits, and the sum of
/// their products with x - max.
struct FilteredLaw {
  double max, temperature, rest, products;

  TG_HD double log_prob(double x) const {
    const double value = (x - max) / temperature - log_normal(1.0 + rest);
    return value < 0 ? value : 0.0;
  }
  TG_HD double entropy() const {
    const double sum = 1.0 + rest;
    const double value = log_normal(sum) - products / (sum * temperature);
    return value > 0 ? value : 0.0;
  }
};

}  // namespace math
}  // namespace torch_gumbel
