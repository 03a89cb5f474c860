// SPDX-License-Identifier: Apache-2.0
// Gradients of spatial rows.
#pragma once

#include "backward.h"
#include "spatial_softmax.h"

namespace torch_gumbel::cpu::TG_ISA {

constexpr int64_t kPrefetchDistance = 8;  // classes

/// Gradients of spatial rows from their y: each_y(t, f) calls f(k, y) for the classes of tile t.
template <typename T, typename EachY>
static void differentiate_spatial(const PlannedParams& a, const Group& group, const T* inverse_taus,
                                  EachY&& each_y) {
  const int64_t rows = group.rows, tiles = tiles_of(group.classes);
  const Strided& grads = group.grad;
  const SpatialOutput<T> output(a, group);
  auto* tau_gradients = static_cast<T*>(a.row_value);
  alignas(64) T dot[kMaxSpatialRows] = {}, tau_gradient[kMaxSpatialRows] = {},
                buffer[kMaxSpatialRows], to_buffer[kMaxSpatialRows];
  for (int64_t t = 0; t < tiles; ++t) {
    SpatialSum<T> sum(rows);
    each_y(t, [&](int64_t k, const T* y) {
      prefetch_class(grads, k + kPrefetchDistance, rows);
      const T* grad = load_class(grads, k, rows, buffer);
      T* __restrict lane = sum.lane(k - t * kTile);
      for (int64_t i = 0; i < rows; ++i) lane[i] += y[i] * grad[i];
    });
    const T* total = sum.total();
    for (int64_t i = 0; i < rows; ++i) dot[i] += total[i];
  }
  for (int64_t t = 0; t < tiles; ++t) {
    SpatialSum<T> sum(rows);
    each_y(t, [&](int64_t k, const T* y) {
      const T* grad = load_class(grads, k, rows, buffer);
      T* to = output.buffer_for(k, to_buffer);
      for (int64_t i = 0; i < rows; ++i) to[i] = y[i] * (grad[i] - dot[i]) * inverse_taus[i];
      if (tau_gradients != nullptr) {
        T* __restrict lane = sum.lane(k - t * kTile);
        for (int64_t i = 0; i < rows; ++i) lane[i] += to[i] * math::log_probability(y[i]);
      }
      output.put(to, k);
    });
    const T* total = sum.total();
    for (int64_t i = 0; i < rows; ++i) tau_gradient[i] += -total[i];
  }
  if (tau_gradients != nullptr) memcpy(tau_gradients + group.index, tau_gradient, rows * sizeof(T));
}

template <typename T>
static void backward_spatial(const PlannedParams& a, const Group& group) {
  const Strided& input = group.input;
  const Temperatures<T> taus(group);
  alignas(64) T buffer[kMaxSpatialRows];
  differentiate_spatial<T>(a, group, taus.inverse, [&](int64_t t, auto&& f) {
    const int64_t end = min64((t + 1) * kTile, group.classes);
    for (int64_t k = t * kTile; k < end; ++k) {
      prefetch_class(input, k + kPrefetchDistance, group.rows);
      f(k, load_class(input, k, group.rows, buffer));
    }
  });
}

template <typename T>
static void hard_backward_spatial(const PlannedParams& a, const Group& group, T* scratch) {
  SpatialSoftmax soft(a, group, scratch, [](int64_t, const RowSum<T>&) {});
  alignas(64) T y[kMaxSpatialRows];
  differentiate_spatial<T>(a, group, soft.inverse_taus(), [&](int64_t t, auto&& f) {
    soft.for_each_class(t, [&](int64_t k, auto&& probability) {
      for (int64_t i = 0; i < group.rows; ++i) y[i] = probability(i);
      f(k, y);
    });
  });
  if (!a.plan.holds_rows) return;  // long rows have no quotients here
  redo_quotients<T>(a, group, [&](const Group& row) {
    hard_backward_group(a, row, scratch, scratch + row.classes + kScratchSlack);
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
