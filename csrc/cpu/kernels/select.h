// SPDX-License-Identifier: Apache-2.0
// Selection without sorting: the class at which the classes of a row, in the order (value falling,
// class rising), first reach a mass or a number.
//
// Weights are integers, so sums do not depend on their order: nor does the result on lists, threads,
// or the instruction set.
#pragma once

#include "../../math/filter.h"
#include "../simd/masks.h"
#include "../simd/reduce.h"

namespace torch_gumbel::cpu::TG_ISA {

using math::WeightScale;

#if defined(__AVX2__)
template <int parts>
TG_STAGE Words<parts> rounded_weight(const Floats<parts>& weight) {
  const Floats<parts> scaled = weight * Floats<parts>(0x1p31f);
  return Words<parts>::of([&](int p) TG_INLINE {
#if defined(__AVX512F__)
    return (Vec<uint32_t>)_mm512_cvtps_epu32((__m512)scaled.part[p]);
#else  // of 2^31 it gives that, by chance
    return (Vec<uint32_t>)_mm256_cvtps_epi32((__m256)scaled.part[p]);
#endif
  });
}
#endif

/// Weights of values; their sum. `x` may end there.
template <typename T>
static uint64_t weigh(const T* x, int64_t count, const WeightScale<T>& scale, uint32_t* weights) {
  WordSum sum;
  for_each_vec<T>(0, count, [&](auto at) TG_INLINE {
    const auto weight = scale.weight(present(at, x));
    sum.add(weight);
    store_words(at, weight, weights);
  });
  return sum.total();
}

/// Classes of a row in rising order. No index: class k is at k. No weights: each counts 1. Values are
/// finite or, where each has a weight, -inf.
template <typename T>
struct Candidates {
  const T* x;
  const uint32_t* index;
  const uint32_t* weight;
  int64_t count;
};

/// Scratch for some of them.
template <typename T>
struct List {
  T* x;
  uint32_t* index;
  uint32_t* weight;
  int64_t count = 0;

  Candidates<T> candidates(bool weighted) const {
    return {x, index, weighted ? weight : nullptr, count};
  }
};

/// The last class of a prefix in that order: kept is its length. The prefix of all finite values has
/// value -inf.
template <typename T>
struct Edge {
  T value = -static_cast<T>(__builtin_inf());
  int64_t index = -1;
  int64_t kept = 0;
};

constexpr int kSorted = 32;  // values that are sorted at once
constexpr int kThresholds = 8;

/// order[i]: position of the i-th of kSorted values, in falling order, equal ones in that of
/// positions.
template <typename T>
static inline void sort_few(const T* x, int32_t* order) {
  int32_t rank[kSorted] = {};
  for (int j = 0; j < kSorted; ++j) {
    const T other = x[j];
    for (int i = 0; i < kSorted; ++i)
      rank[i] += static_cast<int>(other > x[i]) |
                 (static_cast<int>(other == x[i]) & static_cast<int>(j < i));
  }
  for (int i = 0; i < kSorted; ++i) order[rank[i]] = i;
}

/// Values that divide candidates into about equal parts, falling.
template <typename T>
static inline void choose_thresholds(const Candidates<T>& from, T* thresholds) {
  T values[kSorted];
  int32_t order[kSorted];
  for (int64_t i = 0; i < kSorted; ++i)
    values[i] = from.x[(2 * i + 1) * from.count / (2 * kSorted)];
  sort_few(values, order);
  constexpr int kStep = kSorted / kThresholds;
  for (int j = 0; j < kThresholds; ++j) thresholds[j] = values[order[kStep * j + kStep / 2 - 1]];
}

/// The first threshold (kThresholds: none) over which the target lies, but for rounding.
template <bool weighted, typename T>
static int guess_threshold(const Candidates<T>& from, const T* thresholds, uint64_t target) {
  AnySum sums[kThresholds];
  for_each_vec<T>(0, from.count, [&](auto at) TG_INLINE {
    const auto x = present(at, from.x);
    const auto measure = [&]() TG_INLINE {
      if constexpr (weighted)
        return halved(at.load(from.weight));
      else
        return decltype(halved(indices(at)))(1.0f);
    }();
    for (int j = 0; j < kThresholds; ++j) sums[j].add(reaches(x, thresholds[j]), measure);
  });
  const auto wanted = static_cast<float>(weighted ? target / 2 : target);
  int j = 0;
  while (j < kThresholds && sums[j].total() < wanted) ++j;
  return j;
}

/// What a bracket of values divides candidates into.
struct Divided {
  uint64_t above;    // mass or number of those >= high
  uint64_t between;  // of those in (low, high), which are listed
  int64_t above_count;
};

template <bool weighted, typename T>
static Divided divide(const Candidates<T>& from, T low, T high, const WeightScale<T>& scale,
                      List<T>& to) {
  WordSum above;
  int64_t count = 0, above_count = 0;
  for_each_vec<T>(0, from.count, [&](auto at) TG_INLINE {
    const auto x = present(at, from.x);
    const auto over = reaches(x, high);
    const auto inside = but_not(exceeds(x, low), over);
    above_count += count_of(over);
    append(inside, x, to.x + count);
    append(inside, from.index == nullptr ? indices(at) : at.load(from.index), to.index + count);
    if constexpr (weighted) above.add(only(over, at.load(from.weight)));
    count += count_of(inside);
  });
  to.count = count;
  if constexpr (weighted)
    return {above.total(), weigh(static_cast<const T*>(to.x), count, scale, to.weight),
            above_count};
  else
    return {static_cast<uint64_t>(above_count), static_cast<uint64_t>(count), above_count};
}

template <typename T>
static int64_t count_ties(const Candidates<T>& from, T value) {
  int64_t count = 0;
  for_each_vec<T>(0, from.count, [&](auto at) TG_INLINE {
    count += count_of(equals(present(at, from.x), value));
  });
  return count;
}

/// Position of the n-th candidate of that value, n > 0; there are so many.
template <typename T>
static int64_t find_tie(const Candidates<T>& from, T value, int64_t n) {
  constexpr int64_t kStep = 512;
  int64_t k = 0;
  for (; k + kStep < from.count; k += kStep) {
    int here = 0;
    for (int64_t i = 0; i < kStep; ++i) here += from.x[k + i] == value;
    if (here >= n) break;
    n -= here;
  }
  for (; k < from.count; ++k)
    if (from.x[k] == value && --n == 0) break;
  return k;
}

template <typename T>
static inline int64_t index_of(const Candidates<T>& from, int64_t at) {
  return from.index == nullptr ? at : static_cast<int64_t>(from.index[at]);
}

/// How many of the candidates equal to low < high have that mass; 0 if all together do not.
template <bool weighted, typename T>
static int64_t tie_that_reaches(const Candidates<T>& from, T low, T high, uint64_t mass) {
  const int64_t ties = low < high && low >= -math::kLargest<T> ? count_ties(from, low) : 0;
  if (ties == 0) return 0;
  const uint64_t weight = weighted ? from.weight[find_tie(from, low, 1)] : 1;
  if (weight == 0) return 0;
  const uint64_t needed = (mass + weight - 1) / weight;
  return needed <= static_cast<uint64_t>(ties) ? static_cast<int64_t>(needed) : 0;
}

/// Of at most kSorted candidates.
template <bool weighted, typename T>
static Edge<T> select_few(const Candidates<T>& from, uint64_t target) {
  T values[kSorted];
  int32_t order[kSorted];
  for (int64_t k = 0; k < kSorted; ++k)
    values[k] = k < from.count ? from.x[k] : -static_cast<T>(__builtin_inf());
  sort_few(values, order);
  uint64_t sum = 0;
  int64_t kept = 0;
  do {
    sum += weighted ? from.weight[order[kept]] : 1;
    ++kept;
  } while (sum < target && kept < from.count);
  const int64_t last = order[kept - 1];
  return {from.x[last], index_of(from, last), kept};
}

/// The shortest prefix with a mass (a number, if not `weighted`) of at least target, which is at
/// least 1 and at most that of all candidates. `scale`: of the weights. `spare`: two lists as long as
/// they are.
template <bool weighted, typename T>
static Edge<T> select_edge(Candidates<T> from, uint64_t target, const WeightScale<T>& scale,
                           List<T>* spare) {
  constexpr T kInfinity = static_cast<T>(__builtin_inf());
  int64_t before = 0;
  for (int which = 0; from.count > kSorted; which ^= 1) {
    T thresholds[kThresholds];
    choose_thresholds(from, thresholds);
    const bool tied = thresholds[0] == thresholds[kThresholds - 1];
    int j = tied ? 0 : guess_threshold<weighted>(from, thresholds, target);
    while (true) {
      const T high = j > 0 ? thresholds[j - 1] : kInfinity;
      const T low = j < kThresholds ? thresholds[j] : -kInfinity;
      const Divided parts = divide<weighted>(from, low, high, scale, spare[which]);
      const uint64_t beyond = parts.above + parts.between;
      if (target <= parts.above) {
        while (j > 0 && thresholds[j - 1] == high) --j;
      } else if (target <= beyond) {
        target -= parts.above;
        before += parts.above_count;
        break;
      } else {
        const int64_t tie = tie_that_reaches<weighted>(from, low, high, target - beyond);
        if (tie > 0)
          return {low, index_of(from, find_tie(from, low, tie)),
                  before + parts.above_count + spare[which].count + tie};
        while (j < kThresholds && thresholds[j] == low) ++j;
      }
    }
    from = spare[which].candidates(weighted);
  }
  Edge<T> edge = select_few<weighted>(from, target);
  edge.kept += before;
  return edge;
}

}  // namespace torch_gumbel::cpu::TG_ISA
