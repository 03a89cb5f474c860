// SPDX-License-Identifier: Apache-2.0
// Argmax of spatial rows.
#pragma once

#include "hard.h"
#include "spatial.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Logits of one class by the op's own convention of temperature; inverse_taus is null where that
/// does not scale them.
template <typename T>
static inline const T* load_search_class(const Strided& logits, int64_t k, int64_t rows,
                                         const T* inverse_taus, T* buffer) {
  const T* x = load_class(logits, k, rows, buffer);
  if (inverse_taus == nullptr) return x;
  for (int64_t i = 0; i < rows; ++i) buffer[i] = math::scaled_logit(x[i], inverse_taus[i]);
  return buffer;
}

/// The first largest score of each row, class by class.
template <typename T>
class SpatialMaxima {
 public:
  explicit SpatialMaxima(int64_t rows) : rows_(rows) {
    for (int64_t i = 0; i < rows; ++i) top_[i] = -kInfinity;
  }

  /// score(i): of class k in row i.
  template <typename Score>
  TG_MEMBER void take(int64_t k, Score&& score_of) {
    const auto index = static_cast<Index>(k);
    for (int64_t i = 0; i < rows_; ++i) {
      const T score = score_of(i);
      at_[i] = score > top_[i] ? index : at_[i];
      top_[i] = score > top_[i] ? score : top_[i];
      bad_[i] = score < kInfinity ? bad_[i] : Index{1};
    }
  }

  Best best(int64_t i) const {
    Best best = {top_[i], at_[i]};
    if (bad_[i] != 0) best.invalidate();
    return best;
  }

 private:
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;  // vectors of equal length
  static constexpr T kInfinity = static_cast<T>(__builtin_inf());
  int64_t rows_;
  alignas(64) T top_[kMaxSpatialRows];
  alignas(64) Index at_[kMaxSpatialRows] = {}, bad_[kMaxSpatialRows] = {};
};

/// First maxima of a group's rows, every score evaluated: f(i, best).
template <typename T, typename F>
static void evaluate_spatial(const Group& group, const T* inverse_taus, F&& f) {
  const int64_t rows = group.rows;
  alignas(64) T buffer[kMaxSpatialRows];
  SpatialMaxima<T> maxima(rows);
  for_each_spatial_noise<T>(group, 0, group.classes, [&](int64_t k, const T* noise) {
    const T* x = load_search_class(group.input, k, rows, inverse_taus, buffer);
    maxima.take(
        k, [&](int64_t i)
               __attribute__((always_inline)) { return x[i] + finished_noise(noise[i]); });
  });
  for (int64_t i = 0; i < rows; ++i) f(i, maxima.best(i));
}

/// The same without noise.
template <typename T, typename F>
static void search_greedy_spatial(const Group& group, F&& f) {
  const int64_t rows = group.rows;
  alignas(64) T buffer[kMaxSpatialRows];
  SpatialMaxima<T> maxima(rows);
  for (int64_t k = 0; k < group.classes; ++k) {
    const T* x = load_class(group.input, k, rows, buffer);
    maxima.take(k, [&](int64_t i) __attribute__((always_inline)) { return x[i]; });
  }
  for (int64_t i = 0; i < rows; ++i) f(i, maxima.best(i));
}

/// Rows of a group with bounds of their scores, [classes][rows] in scratch: see prune.h.
class SpatialBounds {
 public:
  SpatialBounds(const Group& group, const float* inverse_taus, float* bounds)
      : group_(group), inverse_taus_(inverse_taus), bounds_(bounds) {
    const int64_t rows = group.rows, step = SpatialWords::fit(group);
    for (int64_t i = 0; i < rows; ++i) highest_[i] = -__builtin_inff(), sum_[i] = 0, at_[i] = 0;
    for (int64_t first = 0; first < group.classes; first += step) {
      const int64_t classes = min64(step, group.classes - first);
      const SpatialWords words(group, first, classes);
      for (int64_t k = 0; k < classes; ++k) prefetch_class(group.input, first + k + classes, rows);
      for (int64_t k = 0; k < classes; ++k) bound(first + k, words.of_class(k));
    }
  }

  /// Calls f(i, best) for every row.
  template <typename F>
  void search(F&& f) {
    const int64_t rows = group_.rows;
    Best best[kMaxSpatialRows];
    alignas(64) float threshold[kMaxSpatialRows];
    for (int64_t i = 0; i < rows; ++i) {
      threshold[i] = __builtin_inff();
      if (undefined(i)) {
        best[i].invalidate();
      } else if (highest_[i] > -__builtin_inff()) {
        best[i].offer(score(i, at_[i]), at_[i]);
        threshold[i] = pruning_threshold(best[i]);
      } else {
        threshold[i] = highest_[i];  // all are -inf, or finite and huge
        at_[i] = -1;                 // none was offered
      }
    }
    for (int64_t k = 0; k < group_.classes; ++k) {
      for_each_reaching(bounds_ + k * rows, threshold, [&](int64_t i) {
        if (k == at_[i]) return;
        best[i].offer(score(i, k), k);
        threshold[i] = pruning_threshold(best[i]);
      });
    }
    for (int64_t i = 0; i < rows; ++i) f(i, best[i]);
  }

 private:
  void bound(int64_t k, const uint32_t* words) {
    const int64_t rows = group_.rows;
    alignas(64) float buffer[kMaxSpatialRows];
    const float* x = load_search_class(group_.input, k, rows, inverse_taus_, buffer);
    float* __restrict bounds = bounds_ + k * rows;
    const auto index = static_cast<int32_t>(k);
    for (int64_t i = 0; i < rows; ++i) {
      const float bound = math::score_bound(x[i], words[i]);
      bounds[i] = bound;
      at_[i] = bound > highest_[i] ? index : at_[i];
      highest_[i] = bound > highest_[i] ? bound : highest_[i];
      sum_[i] += bound;
    }
  }

  /// f(i) for the rows whose bound reaches their threshold. Reads past the last row.
  template <typename F>
  TG_MEMBER void for_each_reaching(const float* bounds, const float* threshold, F&& f) const {
    for (int64_t i = 0; i < group_.rows; i += kLanes) {
      uint32_t reached =
          lanes_at_least(Lanes<float>::load(bounds + i), Lanes<float>::load(threshold + i));
      if (reached == 0) continue;
      if (group_.rows - i < kLanes) reached &= (1u << (group_.rows - i)) - 1;
      for (; reached != 0; reached &= reached - 1) f(i + __builtin_ctz(reached));
    }
  }

  float logit(int64_t i, int64_t k) const {
    float x = 0;
    load_matrix(part_of(group_.input, i, k), 1, 1, &x);
    return inverse_taus_ == nullptr ? x : math::scaled_logit(x, inverse_taus_[i]);
  }
  float score(int64_t i, int64_t k) const {
    const float exp1 = exp1_at<float>(group_.words.key, group_.words.position(i, k));
    return logit(i, k) + math::gumbel_of_exp1(exp1);
  }
  /// Whether a logit is NaN or +inf. Either shows in the sum of the bounds or in the highest.
  bool undefined(int64_t i) const {
    if (sum_[i] == sum_[i] && highest_[i] < __builtin_inff()) return false;
    for (int64_t k = 0; k < group_.classes; ++k)
      if (!(logit(i, k) < __builtin_inff())) return true;
    return false;
  }

  const Group& group_;
  const float* inverse_taus_;
  float* bounds_;
  alignas(64) float highest_[kMaxSpatialRows], sum_[kMaxSpatialRows];
  alignas(64) int32_t at_[kMaxSpatialRows];
};

/// Calls f(i, best) for every row of a spatial group.
template <typename T, typename F>
static void search_spatial(const PlannedParams& a, const Group& group, bool scaled, T* scratch,
                           F&& f) {
  alignas(64) T inverse[kMaxSpatialRows];
  for (int64_t i = 0; scaled && i < group.rows; ++i)
    inverse[i] = math::sampling_inverse_of<T>(group.tau_of(i));
  const T* inverse_taus = scaled ? inverse : nullptr;
  if constexpr (std::is_same_v<T, float>)
    if (a.plan.prunes) return SpatialBounds(group, inverse_taus, scratch).search(f);
  evaluate_spatial(group, inverse_taus, f);
}

template <typename T>
static void argmax_spatial(const PlannedParams& a, const Group& group, T* scratch) {
  const bool scaled = scales(a), greedy = any_greedy(group, scaled);
  const auto write = [&](int64_t i, const Best& best) {
    write_choice<T>(a, group.index + i, best);
  };
  if (!greedy || !group.uniform_tau()) search_spatial(a, group, scaled, scratch, write);
  if (greedy)
    search_greedy_spatial<T>(group, [&](int64_t i, const Best& best) {
      if (is_greedy(group, i, scaled)) write(i, best);
    });
}

template <typename T>
static void hard_spatial(const PlannedParams& a, const Group& group, T* scratch) {
  clear_matrix(group.output, group.rows, group.classes, a.plan.nontemporal);
  search_spatial(a, group, false, scratch, [&](int64_t i, const Best& best) {
    mark_choice(group, i, best, group.output);
    const bool drawn = best.drawn() && math::valid_temperature(group.tau_of(i));
    keep_choice(a, group.index + i, drawn ? best.index : 0);
  });
  keep_logits(a, group);
}

}  // namespace torch_gumbel::cpu::TG_ISA
