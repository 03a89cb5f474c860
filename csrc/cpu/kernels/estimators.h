// SPDX-License-Identifier: Apache-2.0
// The backward of a one-hot sample, from logits, incoming gradients, and the drawn classes, by
// estimator (csrc/math/estimators.h). A row's weights and its gradient are computed in scratch: one
// read of each operand, but for a row's maximum, and one write.
#pragma once

#include "../../math/estimators.h"
#include "backward.h"

namespace torch_gumbel::cpu::TG_ISA {

/// A temperature, and its divisions.
template <typename T>
struct Tempering {
  double tau = 1;
  math::Exponent<T> scale = {};
  T inverse = 1;

  Tempering() = default;
  explicit Tempering(double value)
      : tau(value),
        scale(math::exponent_scale<T>(value)),
        inverse(math::inverse_temperature<T>(value)) {}
};

/// A row of one-hot backward.
template <typename T>
struct OneHotRow {
  const T *x, *grad;
  int64_t classes;
  int64_t choice;  // D
  T max;           // of x
  T undefined;     // NaN in a row that has no distribution, else 0
  Tempering<T> at;
};

/// `shared`: the group's temperature.
template <typename T>
static inline OneHotRow<T> one_hot_row(const PlannedParams& a, const Group& group, int64_t i,
                                       const T* x, const T* grads, const Tempering<T>& shared) {
  const int64_t classes = group.classes, given = a.index[group.index + i];
  const int64_t choice = given >= 0 && given < classes ? given : 0;
  const T *row = x + i * classes, max = max_of_memory(row, classes);
  const T undefined = (max - max) + (row[choice] - row[choice]);
  return {row,
          grads + i * classes,
          classes,
          choice,
          max,
          undefined,
          group.uniform_tau() ? shared : Tempering<T>(group.tau_of(i))};
}

/// Sums of weights, and of their products with the incoming gradient.
template <typename T>
struct WeightSums {
  T sum = 0, dot = 0;
};

/// Fetches the memory of as many bytes that lies like `from` at an index.
template <typename At>
TG_STAGE void fetch_at(const float* from, At at, int64_t bytes) {
  for (int64_t b = 0; b < bytes; b += kLine)
    __builtin_prefetch(reinterpret_cast<const char*>(from + at.k) + b);
}

/// to[k] = make(index) for k < count, a tile, and their sums. `next`: fetched meanwhile, unless
/// null: the next row, and its gradients.
template <typename T, typename Make>
TG_STAGE WeightSums<T> weigh_tile(T* to, const T* grad, int64_t count, Make&& make,
                                  [[maybe_unused]] const T* next = nullptr,
                                  [[maybe_unused]] const T* next_grad = nullptr) {
#if defined(__AVX2__)
  if constexpr (kVectorized<T>) {
    auto sum = running_sum(), dot = running_sum();
    for_each_vec<float>(0, count, [&](auto at) TG_INLINE {
      const auto value = make(at);
      at.store(value, to);
      sum.update(at, value);
      dot.update(at, value * at.load(grad));
      if (next == nullptr) return;
      fetch_at(next, at, sizeof value);
      fetch_at(next_grad, at, sizeof value);
    });
    return {sum.total(), dot.total()};
  }
#endif
  for_each_vec<T>(0, count, [&](auto at) TG_INLINE { at.store(make(at), to); });
  return {sum_of(to, count), dot_of(to, grad, count)};
}

/// Rows up to here stay in the second-level cache beside the next one, gradients, and weights.
constexpr int64_t kFetchedRow = 40960;

/// The same of a row, by tiles: make(first class of the tile) gives a tile's `make`.
template <typename T, typename Make>
TG_STAGE WeightSums<T> weigh_row(const OneHotRow<T>& row, T* to, Make&& make) {
  if (row.classes <= kTile)
    return weigh_tile(to, row.grad, row.classes, make(row.x), row.x + row.classes,
                      row.grad + row.classes);
  WeightSums<T> sums;
  const bool fetches = row.classes <= kFetchedRow;
  const T *next = fetches ? row.x + row.classes : nullptr, *next_grad = row.grad + row.classes;
  for (int64_t k = 0; k < row.classes; k += kTile) {
    const auto tile = weigh_tile(to + k, row.grad + k, min64(kTile, row.classes - k),
                                 make(row.x + k), fetches ? next + k : nullptr, next_grad + k);
    sums.sum += tile.sum, sums.dot += tile.dot;
  }
  return sums;
}

/// A softmax as weights of which `factor` makes probabilities, with the mean of the gradient.
template <typename T>
struct Distribution {
  T factor, mean;
};

template <typename T>
static inline Distribution<T> distribution_of(const WeightSums<T>& sums, T undefined) {
  const T factor = T{1} / sums.sum + undefined;
  return {factor, sums.dot * factor};
}

/// Weights of softmax(x / tau), by tau's `scale`.
template <typename T>
static inline Distribution<T> weigh(const OneHotRow<T>& row, math::Exponent<T> scale, T* weights) {
  const auto sums = weigh_row(row, weights, [&](const T* x) TG_INLINE {
    return [=, max = or_zero(row.max)](auto at)
               TG_INLINE { return math::exp_scaled(at.load(x) - max, scale); };
  });
  return distribution_of(sums, row.undefined);
}

/// Weights of gapped scores. That of the choice is added to sums without it.
template <typename T>
static inline Distribution<T> weigh_gapped(const OneHotRow<T>& row, T gap, T* weights) {
  const auto scale = row.at.scale;
  auto sums = weigh_row(row, weights, [&](const T* x) TG_INLINE {
    return [=, max = or_zero(row.max)](auto at) TG_INLINE {
      const auto d = at.load(x) - max;
      return math::exp_scaled(math::gapped_difference(d, decltype(d)(gap)), scale);
    };
  });
  const T low = weights[row.choice];
  const T more = T{1} - low;
  sums.sum += more, sums.dot += more * row.grad[row.choice];
  weights[row.choice] = 1;
  return distribution_of(sums, row.undefined + scale.high * 0);
}

/// J(y) g / tau of weights, in place or directly to `to`, and the gradient at tau where it is
/// wanted.
template <typename T>
static inline void soft_gradient(const PlannedParams& a, int64_t index, const OneHotRow<T>& row,
                                 const Distribution<T>& y, T* weights, const Strided& to) {
  const T inverse = row.at.inverse;
  const auto of = [factor = y.factor](auto weight) TG_INLINE { return weight * factor; };
  if (a.plan.direct_gradients)
    return store_gradients(weights, row.grad, row.classes, y.mean, inverse, to, a.plan.nontemporal,
                           of);
  if (a.row_value == nullptr)
    return make_gradients(weights, row.grad, row.classes, y.mean, inverse, weights, of);
  T at_tau = 0;
  for (int64_t k = 0; k < row.classes; k += kTile) {
    const int64_t count = min64(kTile, row.classes - k);
    for (int64_t j = k; j < k + count; ++j) weights[j] = of(weights[j]);
    at_tau += differentiate(weights + k, weights + k, row.grad + k, count, y.mean, inverse);
  }
  static_cast<T*>(a.row_value)[index] = at_tau;
}

/// Where a row's gradient goes: directly to memory, or to scratch.
template <typename T>
struct GradientTo {
  const Strided* memory;  // or null
  bool nontemporal;
  T* scratch;
};

/// value(load, k), which takes T at a pointer by load(pointer), for every class but the choice.
template <typename T, typename Value>
static inline void store_row(const OneHotRow<T>& row, const GradientTo<T>& to, T at_choice,
                             Value&& value) {
  const auto number = [](const T* at) TG_INLINE { return *at; };
  const auto vec = [](const T* at) TG_INLINE { return loadu(at); };
  const auto store = [&](auto* data, bool nontemporal) {
    using Element = std::remove_pointer_t<decltype(data)>;
    constexpr int kStep = kLine / sizeof(Element), kWidth = kVectorBytes / sizeof(T);
    store_lines(
        data, row.classes, nontemporal,
        [&](int64_t k, Element* line) TG_INLINE {
          if constexpr (std::is_same_v<Element, T>)
            for (int j = 0; j < kStep; j += kWidth) storeu(value(vec, k + j), line + j);
          else
            for (int j = 0; j < kStep; ++j) line[j] = narrow<Element>(value(number, k + j));
          if (row.choice >= k && row.choice < k + kStep)
            line[row.choice - k] = narrow<Element>(at_choice);
        },
        [&](int64_t k) { return narrow<Element>(k == row.choice ? at_choice : value(number, k)); });
  };
  if (to.memory == nullptr) return store(to.scratch, false);
  dispatch_dtype(*to.memory, [&](auto* data) { store(data, to.nontemporal); });
}

/// `weights`, `second`: scratch of a row; `to.scratch` is neither.
template <typename T>
static inline void zgr_gradient(const OneHotRow<T>& row, T* weights, const GradientTo<T>& to) {
  const Distribution<T> p = weigh(row, math::exponent_scale<T>(1.0), weights);
  const T g = row.grad[row.choice];
  store_row(row, to, math::zgr_gradient_of_choice(g, p.mean) + row.undefined,
            [=, grad = row.grad](auto load, int64_t k) TG_INLINE {
              return math::zgr_gradient(load(weights + k) * p.factor, load(grad + k), g);
            });
}

template <typename T>
static inline void reinmax_gradient(const OneHotRow<T>& row, T* weights, T* second,
                                    const GradientTo<T>& to) {
  if (row.at.tau == 1.0) return zgr_gradient(row, weights, to);
  const Distribution<T> q = weigh(row, row.at.scale, weights),
                        p = weigh(row, math::exponent_scale<T>(1.0), second);
  const T g = row.grad[row.choice], middle = (q.mean + g) * T{0.5};
  const auto value = [=, grad = row.grad](auto load, int64_t k) TG_INLINE {
    return math::reinmax_gradient(load(weights + k) * q.factor, load(second + k) * p.factor,
                                  load(grad + k), middle, p.mean);
  };
  const auto number = [](const T* at) TG_INLINE { return *at; };
  store_row(row, to, value(number, row.choice) + (g - middle), value);
}

/// A row's gradient, in `result`, or directly in `memory`; `second`, `third`: scratch of a row.
template <typename T>
static inline void one_hot_gradient(const PlannedParams& a, int64_t index, const OneHotRow<T>& row,
                                    T* result, T* second, T* third, const Strided& memory) {
  const GradientTo<T> to = {a.plan.direct_gradients ? &memory : nullptr, a.plan.nontemporal,
                            result};
  switch (a.estimator) {
    case Estimator::kStraightThrough:
      return soft_gradient(a, index, row, weigh(row, row.at.scale, result), result, memory);
    case Estimator::kGapped:
      return soft_gradient(a, index, row, weigh_gapped(row, static_cast<T>(a.gap), result), result,
                           memory);
    case Estimator::kZgr:
      return zgr_gradient(row, second, to);
    case Estimator::kReinMax:
      return reinmax_gradient(row, second, third, to);
    case Estimator::kGumbelRao:
      return;
  }
}

/// Elements of one of the buffers of one_hot_backward's scratch.
static inline int64_t one_hot_buffer(const PlannedParams& a) {
  return a.plan.scratch_bytes / element_size(a.plan.opmath) / kOneHotBuffers;
}

}  // namespace torch_gumbel::cpu::TG_ISA
