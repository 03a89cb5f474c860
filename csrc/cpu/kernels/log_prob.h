// SPDX-License-Identifier: Apache-2.0
// Log-probability of a class and entropy of every row, and their gradient (csrc/math/log_prob.h).
// One read of the logits forward; one read and one write backward.
#pragma once

#include "../log_prob_params.h"
#include "../simd/reduce.h"
#include "../simd/store.h"
#include "group.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Elements ahead of what is read that are fetched meanwhile.
constexpr int64_t kFetchAhead = 1024;

/// A temperature as the forward takes it.
template <typename T>
struct RowScale {
  double tau;
  math::Exponent<T> of_tile;
  math::Exponent<double> of_row;

  explicit RowScale(double value)
      : tau(value),
        of_tile(math::exponent_scale<T>(value)),
        of_row(math::exponent_scale<double>(value)) {}
};

/// The largest logit, and sums of w and w d over a tile, or over the tiles of a row.
template <typename T>
struct LogProbSums {
  T max, sum, dot;
};

/// `next`: memory that is fetched meanwhile.
template <typename T>
TG_STAGE LogProbSums<T> log_prob_sums(const T* x, int64_t count, math::Exponent<T> scale,
                                      [[maybe_unused]] const T* next) {
  const T largest = max_of_memory(x, count);
  const T max = largest > -static_cast<T>(__builtin_inf()) ? largest : T{0};
#if defined(__AVX2__)
  if constexpr (kVectorized<T>) {
    auto sum = running_sum(), dot = running_sum();
    for_each_vec<float>(0, count, [&](auto at) TG_INLINE {
      const auto d = at.load(x) - max, w = math::exp_scaled(d, scale);
      sum.update(at, w);
      dot.update(at, math::weighted_difference<T>(w, d));
      for (int64_t b = 0; b < static_cast<int64_t>(sizeof w); b += kLine)
        __builtin_prefetch(reinterpret_cast<const char*>(next + at.k) + b);
    });
    return {largest, sum.total(), dot.total()};
  }
#endif
  alignas(64) T weights[kTile + kLanes], terms[kTile + kLanes];
  for (int64_t k = 0; k < count; ++k) {
    const T d = x[k] - max, w = math::exp_scaled(d, scale);
    weights[k] = w;
    terms[k] = math::weighted_difference<T>(w, d);
  }
  return {largest, sum_of(weights, count), sum_of(terms, count)};
}

/// Adds a tile to a row.
static inline void add_tile(LogProbSums<double>& row, const LogProbSums<double>& tile,
                            math::Exponent<double> scale) {
  if (tile.sum == 0) return;
  if (row.sum == 0) {
    row = tile;
    return;
  }
  const double top = tile.max > row.max ? tile.max : row.max;
  const auto relative_to_top = [&](const LogProbSums<double>& part) -> LogProbSums<double> {
    const double down = part.max - top, weight = math::exp_scaled(down, scale);
    return {top, weight * part.sum, weight * part.dot + weight * down * part.sum};
  };
  const LogProbSums<double> ours = relative_to_top(row), theirs = relative_to_top(tile);
  row = {top, ours.sum + theirs.sum, ours.dot + theirs.dot};
}

/// Value of a row, of the opmath type; null: 0.
template <typename T>
static inline double row_value(const void* values, int64_t row) {
  return values == nullptr ? 0.0 : static_cast<double>(static_cast<const T*>(values)[row]);
}

/// The chosen class of row i of a group, -1 for one out of range, and its logit.
struct Chosen {
  int64_t index;
  double x;

  Chosen(const LogProbCall& a, const Group& group, int64_t i) : index(a.index[group.index + i]) {
    if (index < 0 || index >= group.row_classes) index = -1;
    x = index < 0 ? 0.0 : number_at(part_of(group.input, i, index), 0);
  }
};

template <typename T>
static void write_log_prob(const LogProbCall& a, const Group& group, int64_t i,
                           const LogProbSums<double>& sums) {
  const double max = sums.sum == 0 ? -__builtin_inf() : sums.max;
  const math::LogProbRow row = {max, sums.sum, sums.dot / sums.sum, group.tau_of(i)};
  const Chosen chosen(a, group, i);
  const auto write = [&](void* to, bool defined, double value) {
    static_cast<T*>(to)[group.index + i] = static_cast<T>(defined ? value : __builtin_nan(""));
  };
  const bool inside = chosen.index >= 0, defined = inside && row.defined();
  write(a.log_prob, defined, row.log_prob(chosen.x));
  write(a.entropy, defined, row.entropy());
  write(a.max, inside, row.max);
  write(a.sum, inside, row.sum);
  write(a.mean, inside, row.mean);
}

template <typename T>
static void log_prob_forward(const LogProbCall& a, int64_t begin, int64_t end, T* scratch) {
  LogProbSums<double> sums[kKlRows];
  for_each_group(a, begin, end, a.plan.rows_per_group, [&](const Group& group) {
    const RowScale<T> shared(group.tau);
    for (int64_t k = 0; k < group.classes; k += kTile) {
      const Group tile = classes_of(group, k, min64(kTile, group.classes - k));
      const int64_t count = tile.classes;
      const T* values = values_of(tile, tile.input, scratch);
      for (int64_t i = 0; i < group.rows; ++i) {
        const RowScale<T> scale = group.uniform_tau() ? shared : RowScale<T>(group.tau_of(i));
        const T* x = values + i * count;
        const auto part = log_prob_sums(x, count, scale.of_tile, x + count);
        if (k == 0) sums[i] = {0, 0, 0};
        add_tile(sums[i], {part.max, part.sum, part.dot}, scale.of_row);
      }
    }
    for (int64_t i = 0; i < group.rows; ++i) write_log_prob<T>(a, group, i, sums[i]);
  });
}

/// A row's gradient, and its chosen class.
template <typename T>
struct GradientOfRow {
  math::LogProbRow row;
  Chosen chosen;
  double at_log_prob, at_entropy;
  math::LogProbGradient<T> gradient;

  GradientOfRow(const LogProbCall& a, const Group& group, int64_t i)
      : row{row_value<T>(a.max, group.index + i), row_value<T>(a.sum, group.index + i),
            row_value<T>(a.mean, group.index + i), group.tau_of(i)},
        chosen(a, group, i),
        at_log_prob(row_value<T>(a.grad_log_prob, group.index + i)),
        at_entropy(row_value<T>(a.grad_entropy, group.index + i)),
        gradient(math::LogProbGradient<T>::of(row, chosen.x, at_log_prob, at_entropy)) {}

  /// 0 where another shard of the row has the class.
  double at_choice() const { return chosen.index < 0 ? 0.0 : at_log_prob; }
  T at_tau(double spread) const {
    return static_cast<T>(
        math::log_prob_gradient_at_tau(row, spread, chosen.x, at_choice(), at_entropy));
  }
};

/// The sum of w u^2 over the values of a tile.
template <typename T>
static T spread_of(const math::LogProbGradient<T>& gradient, const T* x, int64_t count, T* buffer) {
  return make_and_sum(buffer, 0, count,
                      [&](auto at) TG_INLINE { return gradient.spread(at.load(x)); });
}

/// Gradients at `count` classes from `first` on, to scratch.
template <typename T>
TG_STAGE void make_gradients(const GradientOfRow<T>& row, const T* x, int64_t first, int64_t count,
                             T* to) {
  for_each_vec<T>(0, count, [&](auto at) TG_INLINE { at.store(row.gradient.at(at.load(x)), to); });
  const int64_t choice = row.chosen.index - first;
  if (row.chosen.index >= 0 && choice >= 0 && choice < count) to[choice] += row.gradient.own;
}

#if defined(__AVX2__)

/// The same straight to memory, by lines: the chosen class is added before its line is stored, since
/// what is read from a line after a nontemporal store of it comes from memory.
template <typename Element>
static void store_gradients(const GradientOfRow<float>& row, const float* x, int64_t first,
                            int64_t count, Element* to, bool nontemporal) {
  constexpr int64_t kStep = kLine / sizeof(Element), kBlock = 4 * kVecSize;
  alignas(kLine) float wide[kBlock];
  const auto part = [&](int64_t k, int64_t some) {
    make_gradients(row, x + k, first + k, some, wide);
    for (int64_t j = 0; j < some; ++j) to[k + j] = narrow<Element>(wide[j]);
  };
  const auto misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine);
  const int64_t head = (kLine - misaligned) % kLine / static_cast<int64_t>(sizeof(Element));
  int64_t k = min64(head, count);
  part(0, k);
  const int64_t choice = row.chosen.index < 0 ? -1 : row.chosen.index - first;
  for (; k + kBlock <= count; k += kBlock) {
    constexpr VecIndex<4> kBlockIndex{0};
    alignas(kLine) Element block[kBlock];
    kBlockIndex.store(row.gradient.at(kBlockIndex.load(x + k)), wide);
    if (choice >= k && choice < k + kBlock) wide[choice - k] += row.gradient.own;
    for (int64_t j = 0; j < kBlock; ++j) block[j] = narrow<Element>(wide[j]);
    for (int64_t j = 0; j < kBlock; j += kLine / static_cast<int64_t>(sizeof(float)))
      __builtin_prefetch(x + k + kFetchAhead + j);
    for (int64_t j = 0; j < kBlock; j += kStep)
      if (nontemporal)
        store_line_nontemporal(block + j, to + k + j);
      else
        memcpy(to + k + j, block + j, kLine);
  }
  for (; k < count; k += kStep) part(k, min64(kStep, count - k));
}

#endif

/// Gradients of row i of a tile; `to`: scratch of [rows][classes], where they are not stored
/// directly.
template <typename T>
static void gradients_of_row([[maybe_unused]] const LogProbCall& a, const Group& tile, int64_t i,
                             const GradientOfRow<T>& row, const T* x, T* to) {
#if defined(__AVX2__)
  if constexpr (kVectorized<T>)
    if (a.plan.direct_gradients)
      return dispatch_dtype(part_of(tile.output, i, 0), [&](auto* memory) {
        if constexpr (sizeof *memory <= sizeof(T))
          store_gradients(row, x, tile.begin, tile.classes, memory, a.plan.nontemporal);
      });
#endif
  make_gradients(row, x, tile.begin, tile.classes, to + i * tile.classes);
}

template <typename T>
static void log_prob_backward(const LogProbCall& a, int64_t begin, int64_t end, T* scratch) {
  T* gradients = scratch + a.plan.scratch_bytes / 2 / static_cast<int64_t>(sizeof(T));
  alignas(64) T buffer[kTile + kLanes];
  double spreads[kKlRows];
  const bool direct = kVectorized<T> && a.plan.direct_gradients;
  for_each_group(a, begin, end, a.plan.rows_per_group, [&](const Group& group) {
    for (int64_t k = 0; k < group.classes; k += kTile) {
      const Group tile = classes_of(group, k, min64(kTile, group.classes - k));
      const int64_t count = tile.classes;
      const T* values = values_of(tile, tile.input, scratch);
      for (int64_t i = 0; i < group.rows; ++i) {
        const GradientOfRow<T> row(a, group, i);
        gradients_of_row(a, tile, i, row, values + i * count, gradients);
        if (a.row_value == nullptr) continue;
        if (k == 0) spreads[i] = 0;
        spreads[i] += spread_of(row.gradient, values + i * count, count, buffer);
        if (k + count == group.classes)
          static_cast<T*>(a.row_value)[group.index + i] = row.at_tau(spreads[i]);
      }
      if (!direct) store_group(gradients, tile.rows, count, tile.output, a.plan.nontemporal);
    }
  });
  if (a.plan.nontemporal) fence_nontemporal();
}

}  // namespace torch_gumbel::cpu::TG_ISA
