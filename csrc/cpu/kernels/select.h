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
  AnySum masses[kThresholds];
  int64_t counts[kThresholds] = {};
  for_each_vec<T>(0, from.count, [&](auto at) TG_INLINE {
    const auto x = present(at, from.x);
    if constexpr (weighted) {
      const auto weight = halved(at.load(from.weight));
      for (int j = 0; j < kThresholds; ++j) masses[j].add(reaches(x, thresholds[j]), weight);
    } else {
      for (int j = 0; j < kThresholds; ++j) counts[j] += count_of(reaches(x, thresholds[j]));
    }
  });
  const double wanted = static_cast<double>(target);
  int j = 0;
  while (j < kThresholds &&
         (weighted ? 2.0 * masses[j].total() : static_cast<double>(counts[j])) < wanted)
    ++j;
  return j;
}

/// What a bracket of values divides candidates into.
struct Divided {
  uint64_t above = 0;    // mass or number of those >= high
  uint64_t between = 0;  // of those in (low, high), which are copied
  int64_t above_count = 0;
  int64_t ties = 0;  // how many are equal to low < high
};

template <bool weighted, typename T>
static Divided divide(const Candidates<T>& from, T low, T high, List<T>& to) {
  WordSum above, between;
  int64_t count = 0, above_count = 0, ties = 0;
  for_each_vec<T>(0, from.count, [&](auto at) TG_INLINE {
    const auto x = present(at, from.x);
    const auto over = reaches(x, high);
    const auto inside = but_not(exceeds(x, low), over);
    ties += count_of(but_not(equals(x, low), over));
    above_count += count_of(over);
    append(inside, x, to.x + count);
    append(inside, from.index == nullptr ? indices(at) : at.load(from.index), to.index + count);
    if constexpr (weighted) {
      const auto weight = at.load(from.weight);
      above.add(only(over, weight));
      between.add(only(inside, weight));
      append(inside, weight, to.weight + count);
    }
    count += count_of(inside);
  });
  to.count = count;
  const auto number = [](int64_t n) { return static_cast<uint64_t>(n); };
  return {weighted ? above.total() : number(above_count),
          weighted ? between.total() : number(count), above_count, ties};
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
  return {from.x[last], from.index == nullptr ? last : from.index[last], kept};
}

/// The shortest prefix with a mass (a number, if not `weighted`) of at least target, which is at
/// least 1 and at most that of all candidates. `spare`: two lists as long as they are.
template <bool weighted, typename T>
static Edge<T> select_edge(Candidates<T> from, uint64_t target, List<T>* spare) {
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
      const Divided parts = divide<weighted>(from, low, high, spare[which]);
      const uint64_t beyond = parts.above + parts.between;
      if (target <= parts.above) {
        while (j > 0 && thresholds[j - 1] == high) --j;
      } else if (target <= beyond) {
        target -= parts.above;
        before += parts.above_count;
        break;
      } else {
        const uint64_t weight =
            weighted && parts.ties > 0 ? from.weight[find_tie(from, low, 1)] : 1;
        const uint64_t needed = weight > 0 ? (target - beyond + weight - 1) / weight : 1;
        if (weight > 0 && needed <= static_cast<uint64_t>(parts.ties)) {
          const int64_t at = find_tie(from, low, static_cast<int64_t>(needed));
          return {low, from.index == nullptr ? at : from.index[at],
                  before + parts.above_count + spare[which].count + static_cast<int64_t>(needed)};
        }
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
