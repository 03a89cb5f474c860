// SPDX-License-Identifier: Apache-2.0
// Relative entropy of rows, KL(q || prior) = sum_k q_k (log q_k - log prior_k), from logits or from
// probabilities, and its gradient. One read of the rows forward; one read and one write backward.
#pragma once

#include "../kl_params.h"
#include "softmax.h"

namespace torch_gumbel::cpu::TG_ISA {

/// log p of any p > 0, subnormal ones as well; 0 gives a finite number.
static inline float log_positive(float p) {
  const bool small = p < 0x1p-126f;
  return math::log_normal(small ? p * 0x1p24f : p) - (small ? 0x1.0a2b24p+4f : 0.0f);
}
static inline double log_positive(double p) {
  const bool small = p < 0x1p-1022;
  return math::log_normal(small ? p * 0x1p53 : p) - (small ? 0x1.25e4f7b2737fap+5 : 0.0);
}

/// Calls f(logarithm of the prior at k), 0 where there is none. Separate loops, because a masked
/// load from null, which a compiler makes of a condition inside a loop, is slow.
template <typename T, typename F>
TG_STAGE void with_prior(const T* log_prior, F&& f) {
  if (log_prior == nullptr)
    f([](int64_t) __attribute__((always_inline)) { return T{0}; });
  else
    f([log_prior](int64_t k) __attribute__((always_inline)) { return log_prior[k]; });
}

/// A tile's share of a row: with x the logits (or log p), relative to `max`,
///     sum = sum_k e_k,  dot = sum_k e_k (x_k - max - log prior_k),  e_k = exp(x_k - max).
template <typename T>
static RowSum<T> kl_of_logits(const T* x, const T* log_prior, int64_t count) {
  alignas(64) T weights[kTile + kLanes], terms[kTile + kLanes];
  const T max = max_of_memory(x, count), reference = or_zero(max);
  const auto scale = math::exponent_scale<T>(1.0);
  with_prior(
      log_prior, [&](auto prior) __attribute__((always_inline)) {
        for (int64_t k = 0; k < count; ++k) {
          const T d = x[k] - reference, weight = math::exp_scaled(d, scale);
          weights[k] = weight;
          terms[k] = weight > 0 ? weight * (d - prior(k)) : T{0};  // 0 log 0 = 0
        }
      });
  return {max, sum_of(weights, count), sum_of(terms, count)};
}

/// Probabilities above it, or below its inverse, are summed as multiples of a unit of their size:
/// else sums overflow, or terms lose bits.
template <typename T>
constexpr T kFarProbability =
    sizeof(T) == sizeof(float) ? static_cast<T>(0x1p96) : static_cast<T>(0x1p960);

/// A power of two near such probabilities, and its logarithm.
template <typename T>
struct Unit {
  T value;
  T log;
};

template <typename T>
static Unit<T> unit_of(T largest_probability) {
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  constexpr T kUnit = kSingle ? static_cast<T>(0x1p120) : static_cast<T>(0x1p1000);
  constexpr T kLog = static_cast<T>((kSingle ? 120 : 1000) * 0.69314718055994531);
  constexpr T kFar = kFarProbability<T>;
  if (largest_probability > kFar) return {kUnit, kLog};
  if (largest_probability < 1 / kFar && largest_probability > 0) return {1 / kUnit, -kLog};
  return {T{1}, T{0}};
}

/// kl_of_logits over probabilities, relative to their unit.
template <typename T>
static RowSum<T> kl_of_probs(const T* given, const T* log_prior, int64_t count) {
  alignas(64) T weights[kTile + kLanes], terms[kTile + kLanes], multiples[kTile];
  const Unit<T> unit = unit_of(max_of_memory(given, count));
  const T* p = given;
  if (unit.value != 1) {
    for (int64_t k = 0; k < count; ++k) multiples[k] = given[k] * (1 / unit.value);
    p = multiples;
  }
  with_prior(
      log_prior, [&](auto prior) __attribute__((always_inline)) {
        for (int64_t k = 0; k < count; ++k) {
          weights[k] = p[k] >= 0 ? p[k] : static_cast<T>(__builtin_nan(""));
          terms[k] = p[k] > 0 ? p[k] * (log_positive(p[k]) - prior(k)) : T{0};
        }
      });
  return {unit.log, sum_of(weights, count), sum_of(terms, count)};
}

/// Running sums over the tiles of a row.
struct KlSum {
  double max = -__builtin_inf(), sum = 0, dot = 0;

  /// Adds a tile.
  void add(double tile_max, double tile_sum, double tile_dot) {
    if (tile_sum == 0) return;
    if (sum == 0) {
      max = tile_max, sum = tile_sum, dot = tile_dot;
      return;
    }
    const double top = tile_max > max ? tile_max : max;
    const double old_down = max - top, new_down = tile_max - top;
    const double old_weight = weight(old_down), new_weight = weight(new_down);
    dot = weighted(old_weight, dot + old_down * sum) +
          weighted(new_weight, tile_dot + new_down * tile_sum);
    sum = old_weight * sum + new_weight * tile_sum;
    max = top;
  }

 private:
  static double weight(double down) {
    return math::exp_scaled(down, math::exponent_scale<double>(1.0));
  }
  /// Nothing of an infinite divergence whose weight is 0.
  static double weighted(double weight, double value) { return weight == 0 ? 0 : weight * value; }
};

/// Logarithms of the prior for row i of a tile; null: the uniform one, taken last.
template <typename T>
static const T* prior_of(const Group& tile, int64_t i, T* buffer) {
  if (tile.grad.data == nullptr) return nullptr;
  return values_of(part_of(tile.grad, i, 0), 1, tile.classes, buffer);
}

/// What is taken from log q where the prior is uniform.
template <typename T>
static T log_uniform(const KlParams& a) {
  return a.log_prior == nullptr ? -math::log_normal(static_cast<T>(a.rows.classes)) : T{0};
}

/// exp(x) of any |x| < 708.
static inline double exp_of(double x) {
  const double below = math::exp_scaled(x < 0 ? x : -x, math::exponent_scale<double>(1.0));
  return x < 0 ? below : 1 / below;
}

template <typename T>
static void write_kl(const KlParams& a, int64_t row, const KlSum& total) {
  const double log_sum = math::log_normal(total.sum);
  const double kl = total.dot / total.sum - log_sum - log_uniform<double>(a);
  const double saved_log_sum = a.from_probs ? total.max + log_sum : log_sum;
  const bool defined = total.sum > 0 && total.sum < __builtin_inf();
  const T value = static_cast<T>(defined ? kl : __builtin_nan(""));
  static_cast<T*>(a.kl)[row] = value < 0 ? T{0} : value;  // never negative, but for rounding
  const double base = a.from_probs ? total.sum * exp_of(total.max) : total.max;
  static_cast<T*>(a.base)[row] = static_cast<T>(base);
  static_cast<T*>(a.log_sum)[row] = static_cast<T>(defined ? saved_log_sum : __builtin_nan(""));
}

/// Gradients of one tile of a row.
template <typename T>
struct KlGradient {
  T scale;     // the incoming gradient (from probabilities: over their sum, times `last`)
  T last = 1;  // a factor that is taken last, where the sum is small
  T base;      // log q = x - base - log_sum
  T log_sum;
  T centre;  // KL, and the uniform log prior

  KlGradient(const KlParams& a, int64_t row)
      : scale(static_cast<const T*>(a.grad)[row]),
        base(static_cast<const T*>(a.base)[row]),
        log_sum(static_cast<const T*>(a.log_sum)[row]),
        centre(static_cast<const T*>(a.kl)[row] + log_uniform<T>(a)) {
    if (!a.from_probs) return;
    constexpr T kFar = kFarProbability<T>;
    if (base < 1 / kFar) base *= kFar, last = kFar;
    const bool overflowed = base - base != 0;
    scale = overflowed ? static_cast<T>(scale * exp_of(-log_sum)) : scale / base;
  }

  void of_logits(const T* x, const T* log_prior, int64_t count, T* to) const {
    const auto one = math::exponent_scale<T>(1.0);
    with_prior(
        log_prior, [&](auto prior) __attribute__((always_inline)) {
          for (int64_t k = 0; k < count; ++k) {
            const T log_q = x[k] - base - log_sum, q = math::exp_scaled(log_q, one);
            to[k] = q == 0 ? T{0} : scale * q * (log_q - prior(k) - centre);
          }
        });
  }
  void of_probs(const T* p, const T* log_prior, int64_t count, T* to) const {
    with_prior(
        log_prior, [&](auto prior) __attribute__((always_inline)) {
          for (int64_t k = 0; k < count; ++k) {
            const T log_q = log_positive(p[k]) - log_sum;
            const T rest = p[k] == 0 ? T{0} : static_cast<T>(__builtin_nan(""));
            to[k] = p[k] > 0 ? scale * (log_q - prior(k) - centre) * last : rest;
          }
        });
  }
};

/// Calls f(tile, its values, [rows][classes]) for every tile of every group.
template <typename T, typename F>
static void for_each_kl_tile(const KlParams& a, int64_t begin, int64_t end, T* scratch, F&& f) {
  KernelParams operands;
  operands.rows = a.rows;
  operands.input = a.values, operands.input_type = a.type;
  operands.grad = a.log_prior, operands.grad_type = kTypeOf<T>;  // Operand::kLogPrior
  operands.output = a.output, operands.output_type = a.type;
  for_each_group(operands, begin, end, a.plan.rows_per_group, [&](const Group& group) {
    for (int64_t k = 0; k < group.classes; k += kTile) {
      const Group tile = classes_of(group, k, min64(kTile, group.classes - k));
      f(tile, values_of(tile, tile.input, scratch));
    }
  });
}

template <typename T>
static void kl_forward(const KlParams& a, int64_t begin, int64_t end, T* scratch) {
  alignas(64) T prior_buffer[kTile];
  KlSum sums[kKlRows];
  for_each_kl_tile(a, begin, end, scratch, [&](const Group& tile, const T* values) {
    for (int64_t i = 0; i < tile.rows; ++i) {
      const int64_t count = tile.classes;
      const T *x = values + i * count, *prior = prior_of(tile, i, prior_buffer);
      const RowSum<T> sum =
          a.from_probs ? kl_of_probs(x, prior, count) : kl_of_logits(x, prior, count);
      if (tile.begin == 0) sums[i] = {};
      sums[i].add(sum.max, sum.sum, sum.dot);
      if (tile.begin + count == a.rows.classes) write_kl<T>(a, tile.index + i, sums[i]);
    }
  });
}

template <typename T>
static void kl_backward(const KlParams& a, int64_t begin, int64_t end, T* scratch) {
  alignas(64) T prior_buffer[kTile];
  T* gradients = scratch + a.plan.scratch_bytes / 2 / static_cast<int64_t>(sizeof(T));
  for_each_kl_tile(a, begin, end, scratch, [&](const Group& tile, const T* values) {
    const int64_t count = tile.classes;
    const bool direct = tile.output.class_step == 1 && tile.output.type == kTypeOf<T>;
    for (int64_t i = 0; i < tile.rows; ++i) {
      const KlGradient<T> gradient(a, tile.index + i);
      const T* prior = prior_of(tile, i, prior_buffer);
      T* to = gradients + i * count;
      if (direct) to = static_cast<T*>(part_of(tile.output, i, 0).data);
      a.from_probs ? gradient.of_probs(values + i * count, prior, count, to)
                   : gradient.of_logits(values + i * count, prior, count, to);
    }
    if (!direct) store_matrix(gradients, tile.rows, count, tile.output);
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
