// SPDX-License-Identifier: Apache-2.0
// Gumbel-Rao: a group's gradients as means over draws of the scores given the choice, made from the
// key again; and the backward of one-hot samples by any estimator.
#pragma once

#include "one_hot_small.h"

namespace torch_gumbel::cpu::TG_ISA {

/// E of one position.
template <typename T>
static inline T conditional_exp1(math::Key key, uint64_t position, math::Plane plane) {
  const math::Plane more = math::extension_of(plane);
  const uint32_t word = math::key_word(key, position, plane);
  if constexpr (sizeof(T) == sizeof(double))
    return math::exp1_64(word, math::key_word(key, position, more));
  else
    return word < math::kExtendBelow ? math::exp1(word, math::key_word(key, position, more))
                                     : math::exp1(word);
}

/// E of classes [begin, begin + count) of rows [first, first + rows), at most a tile of them.
template <typename T>
static void fill_conditional_exp1(const GroupWords& words, int64_t first, int64_t rows,
                                  int64_t begin, int64_t count, math::Plane plane, T* exp1) {
  if constexpr (std::is_same_v<T, float>)
    if (words.class_step == 1 || count == 1) {
      const bool together = rows == 1 || (words.keys == nullptr && words.row_step == count);
      const int64_t runs = together ? 1 : rows, length = together ? rows * count : count;
      for (int64_t i = 0; i < runs; ++i)
        fill_exp1(words.key_of(first + i), words.position(first + i, begin), length,
                  exp1 + i * length, {}, plane);
      return;
    }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < count; ++k)
      exp1[i * count + k] =
          conditional_exp1<T>(words.key_of(first + i), words.position(first + i, begin + k), plane);
}

/// What a draw needs of its row: `p` probabilities, `log_p` their logarithms relative to log_sum.
template <typename T>
struct RaoRow {
  OneHotRow<T> of;
  const T* p;
  T log_sum;
  T at_tau = 0;  // sum over draws of d loss / d tau
};

/// Weights of one tile given E, where E at the choice is 0, and their sums. `chosen`: E_D.
template <typename T>
static inline WeightSums<T> weigh_draw(const RaoRow<T>& row, int64_t k, int64_t count, T chosen,
                                       const T* exp1, T* weights) {
  const T *p = row.p + k, *x = row.of.x + k, *grad = row.of.grad + k;
  const double tau = row.of.at.tau;
  const auto ratio = [=](auto at) TG_INLINE {
    const auto p_k = at.load(p);
    return math::conditional_weight(at.load(exp1), p_k * decltype(p_k)(chosen));
  };
  if (tau == 1.0) return weigh_tile(weights, grad, count, ratio);
  if (tau == 0.5)
    return weigh_tile(weights, grad, count, [=](auto at) TG_INLINE {
      const auto root = ratio(at);
      return root * root;
    });
  const auto scale = row.of.at.scale;
  const T base = math::log_normal(chosen) - row.log_sum, max = or_zero(row.of.max);
  return weigh_tile(weights, grad, count, [=](auto at) TG_INLINE {
    const auto d = at.load(x) - max;
    using F = std::remove_cvref_t<decltype(d)>;
    return math::exp_scaled(
        math::conditional_log_weight(at.load(exp1), at.load(p) * F(chosen), d + F(base)), scale);
  });
}

/// Adds a draw's gradient to `result`, and what it gives at tau.
template <typename T>
static inline void add_draw(const PlannedParams& a, RaoRow<T>& row, const WeightSums<T>& sums,
                            T* weights, T* result) {
  const int64_t classes = row.of.classes;
  const Distribution<T> y = distribution_of(sums, row.of.undefined);
  if (a.row_value != nullptr) {
    const T inverse = row.of.at.inverse;
    for (int64_t k = 0; k < classes; ++k) weights[k] *= y.factor;
    T terms = 0;
    alignas(64) T gradients[kTile + kLanes];
    for (int64_t k = 0; k < classes; k += kTile)
      terms += differentiate(gradients, weights + k, row.of.grad + k, min64(kTile, classes - k),
                             y.mean, inverse);
    row.at_tau += terms;
  }
  const T factor = a.row_value != nullptr ? T{1} : y.factor;
  for_each_vec<T>(0, classes, [&](auto at) TG_INLINE {
    const auto weight = at.load(weights);
    using F = std::remove_cvref_t<decltype(weight)>;
    at.store(fma(weight * F(factor), at.load(row.of.grad) - F(y.mean), F(at.load(result))), result);
  });
}

constexpr int64_t kRaoRows = 64;

/// Rows of a group that fill a tile together, at most kRaoRows, or one row: `result` and `p` lie [rows][classes];
/// `weights` is scratch of a row.
template <typename T>
static void gumbel_rao_rows(const PlannedParams& a, const Group& group, int64_t first, int64_t rows,
                            const T* x, const T* grads, T* result, T* p, T* weights) {
  const int64_t classes = group.classes;
  const Tempering<T> shared(group.tau);
  RaoRow<T> of[kRaoRows];
  for (int64_t i = 0; i < rows; ++i) {
    const auto row = one_hot_row(a, group, first + i, x, grads, shared);
    T *probabilities = p + i * classes, *to = result + i * classes;
    const Distribution<T> at_1 = weigh(row, math::exponent_scale<T>(1.0), probabilities);
    for (int64_t k = 0; k < classes; ++k) probabilities[k] *= at_1.factor, to[k] = 0;
    of[i] = {row, probabilities, -math::log_normal(at_1.factor)};
  }
  alignas(64) T exp1[kTile + kLineFloats];
  for (int32_t draw = 0; draw < a.draws; ++draw) {
    const math::Plane plane = math::plane_of_draw(draw);
    const bool whole = rows * classes <= kTile;
    if (whole) fill_conditional_exp1(group.words, first, rows, 0, classes, plane, exp1);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t choice = of[i].of.choice;
      const T chosen = whole ? exp1[i * classes + choice]
                             : conditional_exp1<T>(group.words.key_of(first + i),
                                                   group.words.position(first + i, choice), plane);
      WeightSums<T> sums;
      for (int64_t k = 0; k < classes; k += kTile) {
        const int64_t count = min64(kTile, classes - k);
        if (!whole) fill_conditional_exp1(group.words, first, 1, k, count, plane, exp1);
        T* e = exp1 + (whole ? i * classes : 0);
        if (choice >= k && choice < k + count) e[choice - k] = 0;
        const auto tile = weigh_draw(of[i], k, count, chosen, e, weights + k);
        sums.sum += tile.sum, sums.dot += tile.dot;
      }
      add_draw(a, of[i], sums, weights, result + i * classes);
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    const T mean = of[i].of.at.inverse / static_cast<T>(a.draws);
    for (int64_t k = 0; k < classes; ++k) result[i * classes + k] *= mean;
    if (a.row_value != nullptr)
      static_cast<T*>(a.row_value)[group.index + first + i] =
          of[i].at_tau / static_cast<T>(a.draws);
  }
}

template <typename T>
static void gumbel_rao_group(const PlannedParams& a, const Group& group, const T* x, const T* grads,
                             T* result, T* p, T* weights) {
  const int64_t most = group.classes < kTile ? min64(kTile / group.classes, kRaoRows) : 1;
  for (int64_t i = 0; i < group.rows; i += most)
    gumbel_rao_rows(a, group, i, min64(most, group.rows - i), x, grads, result + i * group.classes,
                    p, weights);
}

/// Rows [begin, end). `scratch`: kOneHotBuffers buffers of a group.
template <typename T>
static void one_hot_backward(const PlannedParams& a, int64_t begin, int64_t end, T* scratch) {
  const int64_t size = one_hot_buffer(a);
  T *x_buffer = scratch, *grad_buffer = scratch + size, *result = scratch + 2 * size,
    *second = scratch + 3 * size, *third = scratch + 4 * size;
  for_each_group(a, begin, end, a.plan.rows_per_group, [&](const Group& group) {
    const int64_t classes = group.classes;
    const T *x = values_of(group, group.input, x_buffer),
            *grads = values_of(group, group.grad, grad_buffer);
#if defined(__AVX2__)
    if constexpr (kVectorized<T>)
      if (is_small<T>(a, group)) {
        small_group(a, group, x, grads, result);
        return store_group(result, group.rows, classes, group.output, a.plan.nontemporal);
      }
#endif
    const Tempering<T> shared(group.tau);
    if (a.estimator == Estimator::kGumbelRao)
      gumbel_rao_group(a, group, x, grads, result, second, third);
    else
      for (int64_t i = 0; i < group.rows; ++i)
        one_hot_gradient(a, group.index + i, one_hot_row(a, group, i, x, grads, shared),
                         result + i * classes, second, third, part_of(group.output, i, 0));
    if (a.plan.direct_gradients) return;
    store_group(result, group.rows, classes, group.output, a.plan.nontemporal);
  });
  if (a.plan.nontemporal) fence_nontemporal();
}

}  // namespace torch_gumbel::cpu::TG_ISA
