// SPDX-License-Identifier: Apache-2.0
// Backward: d loss / d logits = y (grad - sum y grad) / tau, and d loss / d tau = -sum (d loss / d
// logits) log y, with y saved (soft samples) or made again from logits and key (hard samples).
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

/// The same gradients, where nothing else is wanted; `gradients` may be y. `of` makes y of what is
/// there.
template <typename T, typename Of = AsItIs>
static inline void make_gradients(const T* y, const T* grad, int64_t count, T dot, T inverse_tau,
                                  T* gradients, Of&& of = {}) {
  for (int64_t k = 0; k < count; ++k) gradients[k] = of(y[k]) * (grad[k] - dot) * inverse_tau;
}

/// The same, from memory that may end there to memory.
template <typename T, typename Of = AsItIs>
static void store_gradients(const T* y, const T* grad, int64_t count, T dot, T inverse_tau,
                            const Strided& to, bool streams, Of&& of = {}) {
  const auto value = [&](int64_t k) { return of(y[k]) * (grad[k] - dot) * inverse_tau; };
  with_elements(to.type, to.data, [&](auto* elements) {
    using Element = std::remove_const_t<std::remove_pointer_t<decltype(elements)>>;
    constexpr int kStep = kLine / sizeof(Element), kWidth = kVectorBytes / sizeof(T);
    auto* data = const_cast<Element*>(elements);
    const auto one = [&](int64_t k) { return narrow<Element>(value(k)); };
    store_lines(
        data, count, streams,
        [&](int64_t k, Element* line) TG_INLINE {
          if constexpr (std::is_same_v<Element, T>)
            for (int j = k; j < k + kStep; j += kWidth)
              store_register(
                  of(load_register(y + j)) * (load_register(grad + j) - dot) * inverse_tau,
                  line + j - k);
          else
            for (int j = 0; j < kStep; ++j) line[j] = one(k + j);
        },
        one);
  });
}

/// Gradients of one row held in memory or in scratch: directly to `to`, or by way of `room`, which
/// may be y.
template <typename T>
static void differentiate_row(const Arguments& a, int64_t row, const T* y, const T* grad, T dot,
                              double tau, const Strided& to, bool direct, bool past_caches,
                              T* room) {
  const int64_t classes = a.rows.classes;
  const T inverse = math::inverse_temperature<T>(tau);
  if (direct) return store_gradients(y, grad, classes, dot, inverse, to, past_caches);
  if (a.row_value == nullptr) return make_gradients(y, grad, classes, dot, inverse, room);
  T tau_gradient = 0;
  for (int64_t begin = 0; begin < classes; begin += kTile)
    tau_gradient += differentiate(room + begin, y + begin, grad + begin,
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

/// Sums of rows that fit a register: see(first row of kSideRows, their sums by lane).
template <int width, typename T, typename See>
TG_STAGE void sum_narrow_rows(const T* values, int64_t rows, int64_t classes, See&& see) {
  alignas(64) T padded[kPadded];
  pad_rows<width>(values, rows, classes, padded);
  for (int64_t i = 0; i < rows; i += kSideRows<T>)
    see(i, Side<T, width>::load(padded + i * width).sum(static_cast<int>(classes)));
}

/// Rows of at most kSideRows classes and one temperature; only their sums are taken side by side.
/// Straight to `direct`, or to `room`, which may be y.
template <typename T>
static void differentiate_narrow(const Arguments& a, const Group& group, const T* y, const T* grads,
                                 double tau, T* direct, T* room) {
  constexpr int64_t kStep = kLine / sizeof(T), kWide = kVectorBytes / sizeof(T);
  const int64_t classes = a.rows.classes;
  const T inverse = math::inverse_temperature<T>(tau);
  auto* tau_gradients = static_cast<T*>(a.row_value);
  alignas(64) T made[kPadded], dots[kPadded], sums[kPadded];
  for_each_padded_block<T>(group.rows, classes, [&](auto width, int64_t begin, int64_t rows) {
    constexpr int kWidth = decltype(width)::value;
    const RowsOfLanes<T, kWidth> row_of_lane(classes);
    const int64_t count = rows * classes;
    const T *value = y + begin * classes, *grad = grads + begin * classes;
    for (int64_t k = 0; k < count; ++k) made[k] = value[k] * grad[k];
    sum_narrow_rows<kWidth>(made, rows, classes, [&](int64_t i, Register<T> dot) TG_INLINE {
      row_of_lane.spread(dot, dots + i * classes);
    });
    const auto gradient = [&](auto v, auto g, auto dot)
                              TG_INLINE { return v * (g - dot) * inverse; };
    store_lines(
        direct != nullptr ? direct + begin * classes : made, count, direct != nullptr && streams(a),
        [&](int64_t k, T* line) TG_INLINE {
          for (int64_t j = k; j < k + kStep; j += kWide)
            store_register(gradient(load_register(value + j), load_register(grad + j),
                                    load_register(dots + j)),
                           line + j - k);
        },
        [&](int64_t k) { return gradient(value[k], grad[k], dots[k]); });
    if (tau_gradients != nullptr) {
      for (int64_t k = 0; k < count; ++k) dots[k] = made[k] * math::log_probability(value[k]);
      sum_narrow_rows<kWidth>(dots, rows, classes, [&](int64_t i, Register<T> sum) TG_INLINE {
        store_register(0 - sum, sums + i);  // never -0, as sums of tiles are not
      });
      for (int64_t i = 0; i < rows; ++i)
        tau_gradients[group.index + begin + i] = sums[side_of<T, kWidth>(i)];
    }
    if (direct == nullptr) memcpy(room + begin * classes, made, count * sizeof(T));
  });
}

/// Whether gradients at the logits go straight to memory.
static inline bool stores_directly(const Arguments& a, const Strided& output, bool past_caches) {
  const bool few_ends = whole_lines(a.rows.classes, output.type) || a.rows.classes > kTile;
  return a.row_value == nullptr && output.class_step == 1 && (few_ends || !past_caches);
}

/// Backward of a group whose y is at hand. `room` may be y. `past_caches`: whether to write so; it
/// pays where other work comes between writes: arithmetic, or the reads of a long row.
template <typename T>
static void differentiate_group(const Arguments& a, const Group& group, const T* y, T* room,
                                T* grad_room, bool past_caches) {
  const int64_t classes = a.rows.classes;
  const Strided output = operand_matrix(a, group, Operand::kOutput, 0);
  const T* grads =
      values_of(operand_matrix(a, group, Operand::kGrad, 0), group.rows, classes, grad_room);
  const bool uniform = uniform_tau(a, group);
  double tau = tau_at(a, group.first);
  if (uniform && classes <= kSideRows<T>) {
    T* direct = a.row_value != nullptr ? nullptr : packed_values<T>(output, group.rows, classes);
    differentiate_narrow(a, group, y, grads, tau, direct, room);
    if (direct == nullptr) store_group(room, group.rows, classes, output, past_caches);
    return;
  }
  const bool direct = stores_directly(a, output, past_caches);
  for (int64_t i = 0; i < group.rows; ++i) {
    const T *row_y = y + i * classes, *grad = grads + i * classes;
    if (!uniform) tau = tau_at(a, row_of(group, i));
    differentiate_row(a, group.index + i, row_y, grad, dot_of_row(row_y, grad, classes), tau,
                      part_of(output, i, 0), direct, past_caches, room + i * classes);
  }
  if (!direct) store_group(room, group.rows, classes, output, past_caches);
}

template <typename T>
static void backward_group(const Arguments& a, const Group& group, T* room, T* grad_room) {
  const int64_t classes = a.rows.classes;
  const T* y = values_of(operand_matrix(a, group, Operand::kInput, 0), group.rows, classes, room);
  const bool lines = classes >= kShortRow && whole_lines(classes, a.output_type);
  differentiate_group(a, group, y, room, grad_room, streams(a) && (lines || classes > kTile));
}

/// Gradients of a row of one tile whose probabilities are exponentials times `factor`: directly to
/// `to`, or in place. The probabilities are not stored between: the bits are those of stored ones.
template <typename T>
static void differentiate_exponentials(T* exponentials, const T* grad, int64_t classes,
                                       Factor<T> factor, T inverse_tau, const Strided& to,
                                       bool direct, bool past_caches) {
  with_product(factor, [&](auto product) TG_INLINE {
    const T dot = T{0} + dot_of(exponentials, grad, classes, product);
    if (direct)
      store_gradients(exponentials, grad, classes, dot, inverse_tau, to, past_caches, product);
    else
      make_gradients(exponentials, grad, classes, dot, inverse_tau, exponentials, product);
  });
}

/// hard_backward_group of rows of one tile and one temperature, without a gradient at it.
template <typename T>
static void differentiate_scores(const Arguments& a, const Group& group, T* scores, T* grad_room) {
  const int64_t classes = a.rows.classes;
  const Strided output = operand_matrix(a, group, Operand::kOutput, 0);
  const Strided grad = operand_matrix(a, group, Operand::kGrad, 0);
  const T* grads = values_of(grad, group.rows, classes, grad_room);
  const T inverse = math::inverse_temperature<T>(tau_at(a, group.first));
  const bool direct = stores_directly(a, output, streams(a));
  soften_rows(
      a, group, scores, [](auto...) {},
      [&](int64_t i, int64_t, int64_t, const Factor<T>& factor) {
        differentiate_exponentials(scores + i * classes, grads + i * classes, classes, factor,
                                   inverse, part_of(output, i, 0), direct, streams(a));
      });
  if (!direct) store_group(scores, group.rows, classes, output, streams(a));
}

template <typename T>
static void hard_backward_group(const Arguments& a, const Group& group, T* scores, T* grad_room) {
  const bool one_tile = a.rows.classes > kSideRows<T> && a.rows.classes <= kTile;
  const bool lines = a.rows.classes * element_size(a.output_type) >= kLine;
  if (one_tile && (lines || streams(a)) && a.row_value == nullptr && uniform_tau(a, group))
    return differentiate_scores(a, group, scores, grad_room);
  soften_group(a, group, scores);
  differentiate_group(a, group, scores, scores, grad_room, streams(a));
}

// Long rows, tile by tile. Not by quotients: without its noise in the exponential, the dot product
// of a row with one class left would be no more than nearly that class's gradient.

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
                                      int64_t count, TileStat& stat, T* scores, void* kept) {
  alignas(64) T grad_room[kTile];
  soft_reduce_tile(a, row, begin, count, stat, false, scores, kept);
  const T* waiting = waiting_tile<T>(a, row.first, begin, kept);
  stat.dot = dot_of(waiting != nullptr ? waiting : scores,
                    grads_of(a, row, begin, count, grad_room), count);
}

template <typename T>
static void write_gradient_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                                const T* y, T dot, TileStat& stat, T* room) {
  alignas(64) T grad_room[kTile + kLanes];
  const T inverse = math::inverse_temperature<T>(tau_at(a, row.first));
  const T* grad = grads_of(a, row, begin, count, grad_room);
  const Strided output = operand_matrix(a, row, Operand::kOutput, begin);
  if (a.row_value == nullptr && output.class_step == 1)
    return store_gradients(y, grad, count, dot, inverse, output, streams(a));
  stat.tau = differentiate(room, y, grad, count, dot, inverse);
  store_matrix(room, 1, count, output);
}

/// Whether the lines that tiles share are written once, with the tile that they begin in.
static inline bool writes_lines(const Arguments& a) {
  return a.row_value == nullptr && streams(a) && a.rows.step(Operand::kOutput) == 1;
}

template <typename T>
static void backward_finish_tile(const Arguments& a, const Group& row, int64_t begin, int64_t count,
                                 T dot, TileStat& stat, T* room) {
  if (writes_lines(a)) {
    const int64_t end = next_line(a, row, begin + count);
    begin = next_line(a, row, begin), count = end - begin;
  }
  const T* y = values_of(operand_matrix(a, row, Operand::kInput, begin), 1, count, room);
  write_gradient_tile(a, row, begin, count, y, dot, stat, room);
}

/// `dot`: of y and grad over the whole row. `next`: the next tile's factor.
template <typename T>
static void hard_backward_finish_tile(const Arguments& a, const Group& row, int64_t begin,
                                      int64_t count, Factor<T> factor, Factor<T> next, T dot,
                                      TileStat& stat, T* scores, void* kept) {
  if (kept == nullptr || !writes_lines(a)) {
    const T* exponentials = exponentials_of_tile(a, row, begin, count, false, scores, kept);
    for (int64_t k = 0; k < count; ++k) scores[k] = factor.of(exponentials[k]);
    return write_gradient_tile(a, row, begin, count, scores, dot, stat, scores);
  }
  const auto* exponentials = static_cast<const T*>(kept);
  const int64_t first = next_line(a, row, begin), end = next_line(a, row, begin + count);
  int64_t k = first;
  for (; k < begin + count; ++k) scores[k - first] = factor.of(exponentials[k]);
  for (; k < end; ++k) scores[k - first] = next.of(exponentials[k]);
  write_gradient_tile(a, row, first, end - first, scores, dot, stat, scores);
}

}  // namespace torch_gumbel::cpu::TG_ISA
