// SPDX-License-Identifier: Apache-2.0
// Backward: d loss / d logits = y (grad - sum y grad) / tau, and d loss / d tau = -sum (d loss / d
// logits) log y, with y saved (soft samples) or made again from logits and key (hard samples).
#pragma once

#include "soft.h"

namespace torch_gumbel::cpu::TG_ISA {

/// values: y -> gradient at the logits. Returns this tile's share of d loss / d tau if it is
/// wanted, else 0.
template <typename T>
static inline T differentiate(T* gradients, const T* y, const T* grad, int64_t count, T dot,
                              T inverse_tau, bool want_tau) {
  if (!want_tau) {
    for (int64_t k = 0; k < count; ++k) gradients[k] = y[k] * (grad[k] - dot) * inverse_tau;
    return 0;
  }
  alignas(64) T terms[kTile];
  for (int64_t k = 0; k < count; ++k) {
    const T gradient = y[k] * (grad[k] - dot) * inverse_tau;
    terms[k] = gradient * math::log_probability(y[k]);
    gradients[k] = gradient;
  }
  return -sum_of(terms, count);
}

/// differentiate over the tiles of one row held in scratch.
template <typename T>
static void differentiate_row(const Arguments& a, int64_t row, T* gradients, const T* y,
                              const T* grad, T dot, double tau) {
  const int64_t classes = a.rows.classes;
  const T inverse = math::inverse_temperature<T>(tau);
  T tau_gradient = 0;
  for (int64_t begin = 0; begin < classes; begin += kTile)
    tau_gradient +=
        differentiate(gradients + begin, y + begin, grad + begin, min64(kTile, classes - begin),
                      dot, inverse, a.row_value != nullptr);
  if (a.row_value != nullptr) static_cast<T*>(a.row_value)[row] = tau_gradient;
}

template <typename T>
static inline T dot_of_row(const T* y, const T* grad, int64_t classes) {
  T dot = 0;
  for (int64_t begin = 0; begin < classes; begin += kTile)
    dot += dot_of(y + begin, grad + begin, min64(kTile, classes - begin));
  return dot;
}

/// Rows of at most kLanes classes and one temperature.
template <typename T>
static void differentiate_narrow(const Arguments& a, const Group& group, const T* y, const T* grads,
                                 double tau, T* gradients) {
  const int64_t classes = a.rows.classes;
  const T inverse = math::inverse_temperature<T>(tau);
  auto* tau_gradients = static_cast<T*>(a.row_value);
  for (int64_t begin = 0; begin < group.rows; begin += kBlockRows) {
    const int64_t count = min64(kBlockRows, group.rows - begin), offset = begin * classes;
    const Columns<T> block_y(y + offset, count, classes),
        block_grad(grads + offset, count, classes);
    Columns<T> block = block_y;
    T sum[kBlockRows];
    for (int k = 0; k < classes; ++k)
      for (int r = 0; r < kBlockRows; ++r) block.at[k][r] *= block_grad.at[k][r];
    block.sum(sum);
    for (int k = 0; k < classes; ++k)
      for (int r = 0; r < kBlockRows; ++r)
        block.at[k][r] = block_y.at[k][r] * (block_grad.at[k][r] - sum[r]) * inverse;
    block.store(gradients + offset, count);
    if (tau_gradients == nullptr) continue;
    for (int k = 0; k < classes; ++k)
      for (int r = 0; r < kBlockRows; ++r)
        block.at[k][r] *= math::log_probability(block_y.at[k][r]);
    block.sum(sum);
    for (int r = 0; r < count; ++r) tau_gradients[group.index + begin + r] = -sum[r];
  }
}

/// Backward of a group whose y is at hand.
template <typename T>
static void differentiate_group(const Arguments& a, const Group& group, const T* y, T* gradients,
                                T* grad_room) {
  const int64_t classes = a.rows.classes;
  const T* grads =
      values_of(operand_matrix(a, group, Operand::kGrad, 0), group.rows, classes, grad_room);
  const bool uniform = uniform_tau(a, group);
  double tau = tau_at(a, group.first);
  if (uniform && classes <= kLanes) {
    differentiate_narrow(a, group, y, grads, tau, gradients);
  } else {
    for (int64_t i = 0; i < group.rows; ++i) {
      const T *row_y = y + i * classes, *grad = grads + i * classes;
      if (!uniform) tau = tau_at(a, row_of(group, i));
      differentiate_row(a, group.index + i, gradients + i * classes, row_y, grad,
                        dot_of_row(row_y, grad, classes), tau);
    }
  }
  store_matrix(gradients, group.rows, classes, operand_matrix(a, group, Operand::kOutput, 0));
}

template <typename T>
static void backward_group(const Arguments& a, const Group& group, T* room, T* grad_room) {
  const int64_t classes = a.rows.classes;
  const T* y = values_of(operand_matrix(a, group, Operand::kInput, 0), group.rows, classes, room);
  differentiate_group(a, group, y, room, grad_room);
}

template <typename T>
static void hard_backward_group(const Arguments& a, const Group& group, T* scores, T* grad_room) {
  load_scores(a, group, 0, a.rows.classes, scores);
  soften_group(a, group, scores, [](int64_t, const RowSum<T>&, double) {});
  differentiate_group(a, group, scores, scores, grad_room);
}

// Long rows, tile by tile.

template <typename T>
static inline const T* grads_of(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                                T* room) {
  return values_of(operand_matrix(a, row, Operand::kGrad, begin), 1, count, room);
}

template <typename T>
static void backward_reduce_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                                 TileStat& stat, T* room) {
  alignas(64) T grad_room[kTile];
  const T* y = values_of(operand_matrix(a, row, Operand::kInput, begin), 1, count, room);
  stat.dot = dot_of(y, grads_of(a, row, begin, count, grad_room), count);
}

template <typename T>
static void hard_backward_reduce_tile(const Arguments& a, const Group& row, int64_t begin,
                                      int64_t count, TileStat& stat, T* scores) {
  alignas(64) T grad_room[kTile];
  soft_reduce_tile(a, row, begin, count, stat, scores);
  stat.dot = dot_of(scores, grads_of(a, row, begin, count, grad_room), count);
}

template <typename T>
static void write_gradient_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                                const T* y, T dot, TileStat& stat, T* room) {
  alignas(64) T grad_room[kTile];
  const T inverse = math::inverse_temperature<T>(tau_at(a, row.first));
  stat.tau = differentiate(room, y, grads_of(a, row, begin, count, grad_room), count, dot, inverse,
                           a.row_value != nullptr);
  store_matrix(room, 1, count, operand_matrix(a, row, Operand::kOutput, begin));
}

template <typename T>
static void backward_finish_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                                 T dot, TileStat& stat, T* room) {
  const T* y = values_of(operand_matrix(a, row, Operand::kInput, begin), 1, count, room);
  write_gradient_tile(a, row, begin, count, y, dot, stat, room);
}

}  // namespace torch_gumbel::cpu::TG_ISA
