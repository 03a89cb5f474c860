// SPDX-License-Identifier: Apache-2.0
// Backward: d loss / d logits = y (grad - sum y grad) / tau, and d loss / d tau = -sum (d loss / d
// logits) log y, with y saved (soft samples) or recomputed from logits and key (hard samples).
#pragma once

#include "soft.h"

namespace torch_gumbel::cpu::TG_ISA {

/// gradients = y (grad - dot) / tau. Returns this tile's share of d loss / d tau.
template <typename T>
static inline T differentiate(T* gradients, const T* y, const T* grad, int64_t count, T dot,
                              T inverse_tau) {
  alignas(64) T terms[kTile + kLanes];
  for (int64_t k = 0; k < count; ++k) {
    const T gradient = y[k] * (grad[k] - dot) * inverse_tau;
    terms[k] = gradient * math::log_probability(y[k]);
    gradients[k] = gradient;
  }
  return -sum_of(terms, count);
}

/// The same gradients, where nothing else is wanted; `gradients` may be y. `of` gives y from what
/// is stored.
template <typename T, typename Of = Identity>
static inline void make_gradients(const T* y, const T* grad, int64_t count, T dot, T inverse_tau,
                                  T* gradients, Of&& of = {}) {
  for (int64_t k = 0; k < count; ++k) gradients[k] = of(y[k]) * (grad[k] - dot) * inverse_tau;
}

/// The same, from memory that may end there to memory.
template <typename T, typename Of = Identity>
static void store_gradients(const T* y, const T* grad, int64_t count, T dot, T inverse_tau,
                            const Strided& to, bool nontemporal, Of&& of = {}) {
  dispatch_dtype(to, [=](auto* data) {
    store_values<T>(data, count, nontemporal, [=](auto load, int64_t k) TG_INLINE {
      return of(load(y + k)) * (load(grad + k) - dot) * inverse_tau;
    });
  });
}

/// Gradients of one row held in memory or in scratch: directly to `to`, or in `buffer`, which may
/// be y.
template <typename T>
static void differentiate_row(const PlannedParams& a, int64_t row, const T* y, const T* grad, T dot,
                              T inverse, const Strided& to, bool direct, bool nontemporal,
                              T* buffer) {
  const int64_t classes = a.rows.classes;
  if (direct) return store_gradients(y, grad, classes, dot, inverse, to, nontemporal);
  if (a.row_value == nullptr) return make_gradients(y, grad, classes, dot, inverse, buffer);
  T tau_gradient = 0;
  for (int64_t begin = 0; begin < classes; begin += kTile)
    tau_gradient += differentiate(buffer + begin, y + begin, grad + begin,
                                  min64(kTile, classes - begin), dot, inverse);
  static_cast<T*>(a.row_value)[row] = tau_gradient;
}

template <typename T>
static inline T dot_of_row(const T* y, const T* grad, int64_t classes) {
  T dot = 0;
  for (int64_t begin = 0; begin < classes; begin += kTile)
    dot += dot_of(y + begin, grad + begin, min64(kTile, classes - begin));
  return dot;
}

/// Sums of rows that fit a vector: visit(first row of kVecRows, their sums by lane).
template <int width, typename T, typename Visitor>
TG_STAGE void sum_small_rows(const T* values, int64_t rows, int64_t classes, Visitor&& visit) {
  alignas(64) T padded[kPadded];
  pad_rows<width>(values, rows, classes, padded);
  for (int64_t i = 0; i < rows; i += kVecRows<T>)
    visit(i, Transposed<T, width>::load(padded + i * width).sum(static_cast<int>(classes)));
}

/// Rows of at most kVecRows classes and one temperature; only their sums are computed transposed.
/// Directly to `direct`, or to `buffer`, which may be y.
template <typename T>
static void differentiate_small(const PlannedParams& a, const Group& group, const T* y,
                                const T* grads, T* direct, T* buffer) {
  constexpr int64_t kStep = kLine / sizeof(T), kWide = kVectorBytes / sizeof(T);
  const int64_t classes = group.classes;
  const T inverse = math::inverse_temperature<T>(group.tau);
  auto* tau_gradients = static_cast<T*>(a.row_value);
  alignas(64) T products[kPadded], dots[kPadded], sums[kPadded];
  for_each_padded_block<T>(group.rows, classes, [&](auto width, int64_t begin, int64_t rows) {
    constexpr int kWidth = decltype(width)::value;
    const RowBroadcast<T, kWidth> row_values(classes);
    const int64_t count = rows * classes;
    const T *value = y + begin * classes, *grad = grads + begin * classes;
    for (int64_t k = 0; k < count; ++k) products[k] = value[k] * grad[k];
    sum_small_rows<kWidth>(products, rows, classes, [&](int64_t i, Vec<T> dot) TG_INLINE {
      row_values.broadcast(dot, dots + i * classes);
    });
    const auto gradient = [&](auto v, auto g, auto dot)
                              TG_INLINE { return v * (g - dot) * inverse; };
    store_lines(
        direct != nullptr ? direct + begin * classes : products, count,
        direct != nullptr && a.plan.nontemporal,
        [&](int64_t k, T* line) TG_INLINE {
          for (int64_t j = k; j < k + kStep; j += kWide)
            storeu(gradient(loadu(value + j), loadu(grad + j), loadu(dots + j)), line + j - k);
        },
        [&](int64_t k) { return gradient(value[k], grad[k], dots[k]); });
    if (tau_gradients != nullptr) {
      for (int64_t k = 0; k < count; ++k) dots[k] = products[k] * math::log_probability(value[k]);
      sum_small_rows<kWidth>(dots, rows, classes, [&](int64_t i, Vec<T> sum) TG_INLINE {
        storeu(0 - sum, sums + i);  // never -0, as sums of tiles are not
      });
      for (int64_t i = 0; i < rows; ++i)
        tau_gradients[group.index + begin + i] = sums[transposed_index<T, kWidth>(i)];
    }
    if (direct == nullptr) memcpy(buffer + begin * classes, products, count * sizeof(T));
  });
}

/// Backward of a group from y. `buffer` may be y.
template <typename T>
static void differentiate_group(const PlannedParams& a, const Group& group, const T* y, T* buffer,
                                T* grad_buffer) {
  const bool nontemporal = a.plan.nontemporal_gradients, direct = a.plan.direct_gradients;
  const int64_t classes = group.classes;
  const Strided output = group.output;
  const T* grads = values_of(group, group.grad, grad_buffer);
  if (group.uniform_tau() && classes <= kVecRows<T>) {
    T* to = a.row_value != nullptr ? nullptr : packed_values<T>(output, group.rows, classes);
    differentiate_small(a, group, y, grads, to, buffer);
    if (to == nullptr) store_group(buffer, group.rows, classes, output, nontemporal);
    return;
  }
  const bool uniform = group.uniform_tau();
  T inverse = math::inverse_temperature<T>(group.tau);
  for (int64_t i = 0; i < group.rows; ++i) {
    const T *row_y = y + i * classes, *grad = grads + i * classes;
    if (!uniform) inverse = math::inverse_temperature<T>(group.tau_of(i));
    differentiate_row(a, group.index + i, row_y, grad, dot_of_row(row_y, grad, classes), inverse,
                      part_of(output, i, 0), direct, nontemporal, buffer + i * classes);
  }
  if (!direct) store_group(buffer, group.rows, classes, output, nontemporal);
}

template <typename T>
static void backward_group(const PlannedParams& a, const Group& group, T* buffer, T* grad_buffer) {
  differentiate_group(a, group, values_of(group, group.input, buffer), buffer, grad_buffer);
}

/// Gradients of a row of one tile whose probabilities are weights times `factor`: directly to `to`,
/// or in place. The probabilities are not stored in between; bitwise equal to gradients from stored
/// ones.
template <typename T>
static void differentiate_weights(T* weights, const T* grad, int64_t classes, Factor<T> factor,
                                  T inverse_tau, const Strided& to, bool direct, bool nontemporal) {
  with_product(factor, [&](auto product) TG_INLINE {
    const T dot = T{0} + dot_of(weights, grad, classes, product);
    if (direct)
      store_gradients(weights, grad, classes, dot, inverse_tau, to, nontemporal, product);
    else
      make_gradients(weights, grad, classes, dot, inverse_tau, weights, product);
  });
}

/// hard_backward_group of rows of one tile and one temperature, without a gradient at it.
template <typename T>
static void differentiate_scores(const PlannedParams& a, const Group& group, T* scores,
                                 T* grad_buffer) {
  const int64_t classes = group.classes;
  const Strided output = group.output;
  const T* grads = values_of(group, group.grad, grad_buffer);
  const T inverse = math::inverse_temperature<T>(group.tau);
  const bool direct = a.plan.direct_gradients;
  softmax_rows(
      a, group, scores, [](auto...) {},
      [&](int64_t i, int64_t, int64_t, const Factor<T>& factor) {
        differentiate_weights(scores + i * classes, grads + i * classes, classes, factor, inverse,
                              part_of(output, i, 0), direct, a.plan.nontemporal);
      });
  if (!direct) store_group(scores, group.rows, classes, output, a.plan.nontemporal);
}

template <typename T>
static void hard_backward_group(const PlannedParams& a, const Group& group, T* scores,
                                T* grad_buffer) {
  if (a.plan.gradients_of_weights && group.classes > kVecRows<T> && group.uniform_tau())
    return differentiate_scores(a, group, scores, grad_buffer);
  softmax_group(a, group, scores);
  differentiate_group(a, group, scores, scores, grad_buffer);
}

}  // namespace torch_gumbel::cpu::TG_ISA
