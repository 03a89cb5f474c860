// SPDX-License-Identifier: Apache-2.0
// Reductions over one tile of a row, in one fixed order: element k goes to lane k % kLanes, the
// lanes are then halved: lane j takes lane j + 16, then j + 8, and so on to j + 1.
#pragma once

#include <utility>

#include "vec_loop.h"

namespace torch_gumbel::cpu::TG_ISA {

template <int distance, typename V, int... lane>
TG_STAGE V partners(V values, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(values, values, (lane ^ distance)...);
}

/// Every lane takes the lane `distance` away in its pair: j and j ^ distance.
template <typename T, int distance, typename F>
TG_STAGE void combine_pairs(Lanes<T>& lanes, F&& combine) {
  constexpr int kPerPart = Lanes<T>::kPerPart;
  Lanes<T> other;
  for (int p = 0; p < Lanes<T>::kParts; ++p) {
    if constexpr (distance >= kPerPart)
      other.part[p] = lanes.part[p ^ (distance / kPerPart)];
    else
      other.part[p] =
          partners<distance>(lanes.part[p], std::make_integer_sequence<int, kPerPart>{});
  }
  for (int p = 0; p < Lanes<T>::kParts; ++p) lanes.part[p] = combine(lanes.part[p], other.part[p]);
}

/// Combines every run of `width` lanes; all its lanes then hold the result. Of two operands, the
/// one from the lower lane may come second: `combine` must not care.
template <int width, typename T, typename F>
TG_STAGE void combine_runs(Lanes<T>& lanes, F&& combine) {
  if constexpr (width > 1) {
    combine_pairs<T, width / 2>(lanes, combine);
    combine_runs<width / 2>(lanes, combine);
  }
}

template <int width, typename T>
TG_STAGE void add_runs(Lanes<T>& lanes) {
  combine_runs<width>(lanes, [](Vec<T> a, Vec<T> b) { return a + b; });
}

template <int width, typename T>
TG_STAGE void max_of_runs(Lanes<T>& lanes) {
  combine_runs<width>(lanes, [](Vec<T> a, Vec<T> b) { return maximum(a, b); });
}

template <typename T>
TG_STAGE T sum_of_lanes(Lanes<T> lanes) {
  add_runs<kLanes>(lanes);
  return lanes.part[0][0];
}

/// Bit j: whether lane j is at least that of `least`.
TG_STAGE uint32_t lanes_at_least(const Lanes<float>& lanes, const Lanes<float>& least) {
  uint32_t bits = 0;
  for (int p = 0; p < Lanes<float>::kParts; ++p) {
#if defined(__AVX512F__)
    const uint32_t part =
        _mm512_cmp_ps_mask((__m512)lanes.part[p], (__m512)least.part[p], _CMP_GE_OQ);
#elif defined(__AVX2__)
    const __m256 reached = _mm256_cmp_ps((__m256)lanes.part[p], (__m256)least.part[p], _CMP_GE_OQ);
    const auto part = static_cast<uint32_t>(_mm256_movemask_ps(reached));
#else
    uint32_t part = 0;
    for (int j = 0; j < Lanes<float>::kPerPart; ++j)
      part |= static_cast<uint32_t>(lanes.part[p][j] >= least.part[p][j]) << j;
#endif
    bits |= part << (p * Lanes<float>::kPerPart);
  }
  return bits;
}

TG_STAGE uint32_t lanes_at_least(const Lanes<float>& lanes, float threshold) {
  return lanes_at_least(lanes, Lanes<float>::all(threshold));
}

/// `count` values of scratch, and up to kLanes more.
template <typename T>
TG_STAGE void fill_over(T* to, int64_t count, T value) {
  for (int64_t k = 0; k < count; k += kLanes) Lanes<T>::all(value).store(to + k);
}

/// Sum of scratch values: up to kLanes more are read, and left out.
template <typename T>
TG_STAGE T sum_of(const T* values, int64_t count) {
  auto sum = Lanes<T>::all(0);
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) sum.add(Lanes<T>::load(values + k));
  if (k < count) {
    auto rest = Lanes<T>::load(values + k);
    rest.fill_tail(count - k, 0);
    sum.add(rest);
  }
  return sum_of_lanes(sum);
}

struct Identity {
  template <typename V>
  TG_MEMBER V operator()(V value) const {
    return value;
  }
};

/// sum_k of(a[k]) b[k], of memory that may end there; of(0) is 0.
template <typename T, typename Of = Identity>
TG_STAGE T dot_of(const T* a, const T* b, int64_t count, Of&& of = {}) {
  auto sum = Lanes<T>::all(0);
  const auto visit = [&](Lanes<T> values, const Lanes<T>& factors) TG_INLINE {
    for (auto& part : values.part) part = of(part);
    sum.add_product(values, factors);
  };
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) visit(Lanes<T>::load(a + k), Lanes<T>::load(b + k));
  if (k < count)
    visit(Lanes<T>::masked_load(a + k, count - k), Lanes<T>::masked_load(b + k, count - k));
  return sum_of_lanes(sum);
}

/// The largest value, NaN passed over; -inf if there is none. load(k) gives the lanes from the k-th
/// value on, of which those past the last value are ignored; visit(lanes, how many count) is called
/// for each.
template <typename T, typename Load, typename Visitor>
TG_STAGE T max_of_lanes(const T* values, int64_t count, Load&& load, Visitor&& visit) {
  const T lowest = -static_cast<T>(__builtin_inf());
  auto largest = Lanes<T>::all(lowest), second = largest;
  int64_t k = 0;
  for (; k + 2 * kLanes <= count; k += 2 * kLanes) {
    const auto a = Lanes<T>::load(values + k), b = Lanes<T>::load(values + k + kLanes);
    largest.keep_maximum(a);
    second.keep_maximum(b);
    visit(a, kLanes);
    visit(b, kLanes);
  }
  for (; k < count; k += kLanes) {
    auto rest = load(k);
    visit(rest, count - k);
    rest.fill_tail(count - k, lowest);
    largest.keep_maximum(rest);
  }
  largest.keep_maximum(second);
  max_of_runs<kLanes>(largest);
  return largest.part[0][0];
}

/// max_of_lanes of scratch, read as sum_of does. `sum` adds up the same values in an order of its
/// own: it is NaN if one of them is.
template <typename T>
TG_STAGE T max_and_sum_of(const T* values, int64_t count, T& sum) {
  auto total = Lanes<T>::all(0);
  const T largest = max_of_lanes(
      values, count, [&](int64_t k) TG_INLINE { return Lanes<T>::load(values + k); },
      [&](Lanes<T> lanes, int64_t valid) TG_INLINE {
        if (valid < kLanes) lanes.fill_tail(valid, T{0});
        total.add(lanes);
      });
  sum = sum_of_lanes(total);
  return largest;
}

/// max_of_lanes of scratch, read as sum_of does.
template <typename T>
TG_STAGE T max_of(const T* values, int64_t count) {
  return max_of_lanes(
      values, count, [&](int64_t k) TG_INLINE { return Lanes<T>::load(values + k); },
      [](const Lanes<T>&, int64_t) TG_INLINE {});
}

/// max_of_lanes of memory that may end there.
template <typename T>
TG_STAGE T max_of_memory(const T* values, int64_t count) {
  return max_of_lanes(
      values, count,
      [&](int64_t k) TG_INLINE { return Lanes<T>::masked_load(values + k, count - k); },
      [](const Lanes<T>&, int64_t) TG_INLINE {});
}

/// to[k] = from[k] - reference; `from` may end there, `to` is scratch or the same.
template <typename T>
TG_STAGE void subtract_over(const T* from, int64_t count, T reference, T* to) {
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    auto lanes = Lanes<T>::load(from + k);
    lanes.subtract(reference);
    lanes.store(to + k);
  }
  for (; k < count; ++k) to[k] = from[k] - reference;
}

// Loops that reduce what they compute, in vectors: elsewhere a second loop reduces, because
// compilers do not vectorize a reduction.

#if defined(__AVX2__)

/// Reduces the elements of a row: lane k % kLanes takes element k; `nothing` is the neutral
/// element. A row that begins at index `begin` inside a vector is rotated: its first vector goes to
/// the last lanes, and `total` rotates the lanes back.
template <typename Combine>
class RunningReduction {
 public:
  TG_MEMBER RunningReduction(int64_t begin, float nothing, Combine combine)
      : begin_(begin), nothing_(nothing), combine_(combine), lanes_(Lanes<float>::all(nothing)) {}

  TG_MEMBER void update(HeadIndex at, const Floats<1>& values) {
    take(kParts - 1, at.here(values, nothing_).part[0]);
  }

  template <typename At, int parts>
  TG_MEMBER void update(At at, const Floats<parts>& values) {
    const auto here = at.here(values, nothing_);
    const int64_t before = begin_ != 0 ? kVecSize : 0;
    const auto first = static_cast<int>((at.k - before) / kVecSize % kParts);
    for (int p = 0; p < parts; ++p)
      if constexpr (parts % kParts == 0)
        take(p % kParts, here.part[p]);
      else  // an index of another kind would put the lanes into memory
        for (int q = p % parts; q < kParts; q += parts)
          if (q == first + p) take(q, here.part[p]);
  }
  TG_MEMBER float total() const {
    auto all = lanes_;
    if (begin_ != 0) {
      alignas(64) float twice[2 * kLanes];
      all.store(twice);
      all.store(twice + kLanes);
      all = Lanes<float>::load(twice + (kLanes + begin_ - kVecSize) % kLanes);
    }
    combine_runs<kLanes>(all, combine_);
    return all.part[0][0];
  }

 private:
  static constexpr int kParts = Lanes<float>::kParts;

  TG_MEMBER void take(int part, Vec<float> values) {
    lanes_.part[part] = combine_(values, lanes_.part[part]);
  }

  int64_t begin_;
  float nothing_;
  Combine combine_;
  Lanes<float> lanes_;
};

/// The sum, as sum_of adds it up.
TG_STAGE auto running_sum(int64_t begin = 0) {
  return RunningReduction(begin, 0.0f, [](Vec<float> a, Vec<float> b) TG_INLINE { return a + b; });
}

/// The largest value, NaN passed over.
TG_STAGE auto running_max(int64_t begin = 0) {
  return RunningReduction(begin, -__builtin_inff(),
                          [](Vec<float> a, Vec<float> b) TG_INLINE { return maximum(a, b); });
}

/// to[k] = make(index) for indices [begin, end); returns their reduction.
template <typename Make, typename Sum>
TG_STAGE float make_and_reduce(float* to, int64_t begin, int64_t end, Make&& make, Sum sum) {
  for_each_vec_from<float>(begin, end, [&](auto at) TG_INLINE {
    const auto value = make(at);
    at.store(value, to);
    sum.update(at, value);
  });
  return sum.total();
}

#endif

/// to[k] = make(index) for a row at [begin, end), begin < kLanes; returns their sum. Nothing else
/// is written; without VecN, reads run past scratch.
template <typename T, typename Make>
TG_STAGE T make_and_sum(T* to, int64_t begin, int64_t end, Make&& make) {
#if defined(__AVX2__)
  if constexpr (kVectorized<T>)
    return begin == 0 ? make_and_reduce(to, 0, end, make, running_sum(0))
                      : make_and_reduce(to, begin, end, make, running_sum(begin));
#endif
  for_each_vec<T>(begin, end, [&](auto at) TG_INLINE { at.store(make(at), to); });
  return sum_of(to + begin, end - begin);
}

/// The same; returns the largest one, NaN passed over.
template <typename T, typename Make>
TG_STAGE T make_and_max(T* to, int64_t begin, int64_t end, Make&& make) {
#if defined(__AVX2__)
  if constexpr (kVectorized<T>)
    return begin == 0 ? make_and_reduce(to, 0, end, make, running_max(0))
                      : make_and_reduce(to, begin, end, make, running_max(begin));
#endif
  for_each_vec<T>(begin, end, [&](auto at) TG_INLINE { at.store(make(at), to); });
  return max_of(to + begin, end - begin);
}

}  // namespace torch_gumbel::cpu::TG_ISA
