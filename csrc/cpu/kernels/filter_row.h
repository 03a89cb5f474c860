// SPDX-License-Identifier: Apache-2.0
// Passes over the logits of a row that is filtered: its maxima, its weights, and lists of its
// classes.
#pragma once

#include "../filter_params.h"
#include "select.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Whether vectors held NaN.
template <typename T>
class NanFlag {
 public:
  TG_MEMBER void take(const Lanes<T>& a, const Lanes<T>& b) {
    for (int p = 0; p < Lanes<T>::kParts; ++p) bad_ |= unordered_parts(a.part[p], b.part[p]);
  }
  TG_MEMBER bool raised() const {
#if defined(__AVX2__)
    if constexpr (std::is_same_v<T, float>) return bits_of_lanes(bad_) != 0;
#endif
    bool any = false;
    for (int j = 0; j < Lanes<T>::kPerPart; ++j) any |= lane_of(bad_, j) != 0;
    return any;
  }

 private:
#if defined(__AVX2__)
  using Bits = std::conditional_t<std::is_same_v<T, float>, LaneMask, typename IndexOf<T>::type>;
#else
  using Bits = typename IndexOf<T>::type;
#endif
  TG_STAGE Bits unordered_parts(Vec<T> a, Vec<T> b) {
#if defined(__AVX2__)
    if constexpr (std::is_same_v<T, float>)
      return unordered_lanes(a, b);
    else
#endif
      return (Bits)((a != a) | (b != b));
  }
  template <typename V>
  TG_STAGE bool lane_of(const V& bits, int j) {
    if constexpr (std::is_integral_v<V>)
      return bits != 0;
    else
      return bits[j] != 0;
  }
  Bits bad_ = {};
};

constexpr int64_t kGroupSpan = kFilterGroup * kLanes;  // classes of kLanes groups

/// The logits of a row. Maxima of groups: of each kGroupSpan classes, lane j has that of classes j,
/// j + kLanes, ...
template <typename T>
struct FilterRow {
  const T* x;
  int64_t count;
  T max;
  const T* groups;
  int64_t group_count;  // a multiple of kLanes
  WeightScale<T> scale;
};

/// Largest logit and maxima of groups; NaN if the row holds NaN.
template <typename T>
static T scan_row(const T* x, int64_t count, T* groups) {
  constexpr T kInfinity = static_cast<T>(__builtin_inf());
  NanFlag<T> nan;
  auto largest = Lanes<T>::all(-kInfinity);
  int64_t k = 0;
  for (; k + kGroupSpan <= count; k += kGroupSpan, groups += kLanes) {
    auto top = Lanes<T>::load(x + k);
    for (int64_t j = kLanes; j < kGroupSpan; j += kLanes) {
      const auto next = Lanes<T>::load(x + k + j);
      if (j / kLanes % 2 == 1) nan.take(Lanes<T>::load(x + k + j - kLanes), next);
      top.keep_maximum(next);
    }
    top.store(groups);
    largest.keep_maximum(top);
  }
  if (k < count) {
    auto top = Lanes<T>::all(-kInfinity);
    for (; k < count; k += kLanes) {
      auto next = Lanes<T>::masked_load(x + k, count - k);
      next.fill_tail(count - k, -kInfinity);
      nan.take(next, next);
      top.keep_maximum(next);
    }
    top.store(groups);
    largest.keep_maximum(top);
  }
  max_of_runs<kLanes>(largest);
  return nan.raised() ? static_cast<T>(__builtin_nan("")) : largest.part[0][0];
}

TG_STAGE bool any_reaches(const float* lanes, float least) {
  return lanes_at_least(Lanes<float>::load(lanes), least) != 0;
}
TG_STAGE bool any_reaches(const double* lanes, double least) {
  bool any = false;
  for (int j = 0; j < kLanes; ++j) any |= lanes[j] >= least;
  return any;
}

/// Appends the classes of [begin, end) with x > bound, or >=.
template <bool inclusive, typename T>
TG_STAGE void list_range(const T* x, int64_t begin, int64_t end, T bound, List<T>& to) {
  int64_t count = to.count;
  for_each_vec<T>(begin, end, [&](auto at) TG_INLINE {
    const auto values = present(at, x);
    const auto kept = [&]() TG_INLINE {
      if constexpr (inclusive)
        return reaches(values, bound);
      else
        return exceeds(values, bound);
    }();
    append(kept, values, to.x + count);
    append(kept, indices(at), to.index + count);
    count += count_of(kept);
  });
  to.count = count;
}

/// Lists the classes with x >= least, which is not -inf; groups without one are passed over.
template <typename T>
static void list_from_groups(const FilterRow<T>& row, T least, List<T>& to) {
  to.count = 0;
  for (int64_t g = 0; g < row.group_count; g += kLanes) {
    if (!any_reaches(row.groups + g, least)) continue;
    const int64_t begin = g * kFilterGroup, end = min64(begin + kGroupSpan, row.count);
    for_each_vec<T>(begin, end, [&](auto at) TG_INLINE {
      const auto values = present(at, row.x);
      const auto kept = reaches(values, least);
      if (!any_of(kept)) return;
      append(kept, values, to.x + to.count);
      append(kept, indices(at), to.index + to.count);
      to.count += count_of(kept);
    });
  }
}

/// Lists the classes of a prefix.
template <typename T>
static void list_prefix(const FilterRow<T>& row, const Edge<T>& edge, List<T>& to) {
  to.count = 0;
  const int64_t split = min64(edge.index + 1, row.count);
  if (edge.value > -static_cast<T>(__builtin_inf()))
    list_range<true>(row.x, 0, split, edge.value, to);
  list_range<false>(row.x, split, row.count, edge.value, to);
}

/// The entries of a list that belong to a prefix, in place.
template <typename T>
static void keep_prefix(List<T>& list, const Edge<T>& edge) {
  int64_t count = 0;
  for_each_vec<T>(0, list.count, [&](auto at) TG_INLINE {
    const auto values = present(at, static_cast<const T*>(list.x));
    const auto index = at.load(static_cast<const uint32_t*>(list.index));
    const auto tied = both(equals(values, edge.value), at_or_before(index, edge.index));
    const auto kept = either(exceeds(values, edge.value), tied);
    append(kept, values, list.x + count);
    append(kept, index, list.index + count);
    count += count_of(kept);
  });
  list.count = count;
}

/// What a pass over the weights of a row gives.
struct Weighed {
  uint64_t total = 0;
  uint64_t above = 0;  // weights of x >= high
  int64_t above_count = 0;
};

/// Sums the weights of a row, and lists its classes with low <= x < high.
template <bool bounded, typename T>
static Weighed weigh_and_list(const FilterRow<T>& row, T low, T high, List<T>& to) {
  WordSum total, above;
  int64_t count = 0, above_count = 0;
  for_each_vec<T>(0, row.count, [&](auto at) TG_INLINE {
    const auto x = present(at, row.x);
    const auto weight = row.scale.weight(x);
    total.add(weight);
    auto listed = reaches(x, low);
    if constexpr (bounded) {
      const auto over = reaches(x, high);
      above.add(only(over, weight));
      above_count += count_of(over);
      listed = but_not(listed, over);
    }
    append(listed, x, to.x + count);
    append(listed, indices(at), to.index + count);
    count += count_of(listed);
  });
  to.count = count;
  return {total.total(), above.total(), above_count};
}

}  // namespace torch_gumbel::cpu::TG_ISA
