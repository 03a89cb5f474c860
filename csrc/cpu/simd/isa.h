// SPDX-License-Identifier: Apache-2.0
// Vector types and helpers of the CPU kernels. kernels.cpp and these headers are compiled once per
// instruction set, each time in a namespace of its own (TG_ISA), so that no function of one build
// can stand in for another's.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <stdint.h>
#include <string.h>

#include <type_traits>

#include "../../math/rows.h"
#include "../../math/softmax.h"
#include "../kernels.h"

#ifndef TG_ISA
#error "compile with -DTG_ISA=name"
#endif

/// Stages of a loop: out of line, they would load their constants at every step.
#define TG_STAGE static inline __attribute__((always_inline))
#define TG_MEMBER inline __attribute__((always_inline))
#define TG_INLINE __attribute__((always_inline))  // of a lambda, after its parameters

namespace torch_gumbel::cpu::TG_ISA {

/// Lanes of the fixed summation tree: element k of a tile is added in lane k % 32, on every
/// instruction set.
constexpr int kLanes = 32;

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

/// One vector of T.
template <typename T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
  // Loads and stores go through this: unaligned, and allowed to alias anything.
  typedef T memory __attribute__((vector_size(kVectorBytes), aligned(sizeof(T)), may_alias));
};

template <typename T>
using Vec = typename VecOf<T>::type;

template <typename T>
TG_STAGE Vec<T> loadu(const T* from) {
  return *reinterpret_cast<const typename VecOf<T>::memory*>(from);
}
template <typename V, typename T>
TG_STAGE void storeu(const V& values, T* to) {
  *reinterpret_cast<typename VecOf<T>::memory*>(to) = values;
}

#if defined(__AVX2__)
/// Past the caches, to where a vector begins.
TG_STAGE void stream_vec(Vec<float> values, float* to) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, (__m512)values);
#else
  _mm256_stream_ps(to, (__m256)values);
#endif
}
#endif

/// a * b + c with one rounding.
template <typename V>
TG_STAGE V fma(V a, V b, V c) {
  if constexpr (std::is_floating_point_v<V>) {
    return math::fma(a, b, c);
  } else {
    constexpr int kCount = sizeof(V) / sizeof(a[0]);
#if defined(__AVX512F__)
    if constexpr (sizeof(a[0]) == 4) return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    if constexpr (sizeof(a[0]) == 4) return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
    for (int j = 0; j < kCount; ++j) a[j] = math::fma(a[j], b[j], c[j]);
    return a;
  }
}

/// a > b ? a : b, so b where a is NaN (unlike ATen's, which propagates NaN).
TG_STAGE Vec<float> maximum(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Vec<float>)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
/// a < b ? a : b, so b where a is NaN.
TG_STAGE Vec<float> minimum(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Vec<float>)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}
TG_STAGE Vec<double> maximum(Vec<double> a, Vec<double> b) { return a > b ? a : b; }

template <typename T>
struct IndexOf;
template <>
struct IndexOf<float> {
  typedef int32_t type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct IndexOf<double> {
  typedef int64_t type __attribute__((vector_size(kVectorBytes)));
};

/// Whether `permute` is one instruction.
#if defined(__AVX512F__)
template <typename T>
constexpr bool kHasPermute = true;
#elif defined(__AVX2__)
template <typename T>
constexpr bool kHasPermute = sizeof(T) == 4;
#else
template <typename T>
constexpr bool kHasPermute = false;
#endif

/// Lane j takes the lane that index[j] names.
template <typename T>
TG_STAGE Vec<T> permute(Vec<T> values, typename IndexOf<T>::type index) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_permutexvar_ps((__m512i)index, (__m512)values);
  else
    return (Vec<T>)_mm512_permutexvar_pd((__m512i)index, (__m512d)values);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm256_permutevar8x32_ps((__m256)values, (__m256i)index);
#endif
  Vec<T> permuted = {};
  for (int j = 0; j < static_cast<int>(kVectorBytes / sizeof(T)); ++j)
    permuted[j] = values[index[j]];
  return permuted;
}

/// Whether lane j, counted from `first`, is one of the first `count`: all bits set, or none.
template <typename T>
TG_STAGE typename IndexOf<T>::type lanes_below(int64_t count, int first) {
  using Index = typename IndexOf<T>::type;
  Index lane;
  for (int j = 0; j < static_cast<int>(kVectorBytes / sizeof(T)); ++j) lane[j] = first + j;
  return lane < static_cast<decltype(lane[0] + 0)>(count);
}

/// The first `count` values, zeros after them; reads no further.
TG_STAGE Vec<float> masked_load(const float* from, int64_t count, int first) {
#if defined(__AVX512F__)
  const auto mask = (__m512i)lanes_below<float>(count, first);
  return (Vec<float>)_mm512_maskz_loadu_ps(_mm512_movepi32_mask(mask), from + first);
#elif defined(__AVX2__)
  const auto mask = (__m256i)lanes_below<float>(count, first);
  return (Vec<float>)_mm256_maskload_ps(from + first, mask);
#else
  Vec<float> values = {};
  for (int j = 0; j < kVectorBytes / 4; ++j) values[j] = first + j < count ? from[first + j] : 0;
  return values;
#endif
}
#if defined(__AVX512F__)
TG_STAGE Vec<uint32_t> masked_load(const uint32_t* from, int64_t count) {
  const auto mask = _mm512_movepi32_mask((__m512i)lanes_below<float>(count, 0));
  return (Vec<uint32_t>)_mm512_maskz_loadu_epi32(mask, from);
}
TG_STAGE void masked_store(Vec<float> values, float* to, int64_t count) {
  const auto mask = _mm512_movepi32_mask((__m512i)lanes_below<float>(count, 0));
  _mm512_mask_storeu_ps(to, mask, (__m512)values);
}
#elif defined(__AVX2__)
TG_STAGE Vec<uint32_t> masked_load(const uint32_t* from, int64_t count) {
  const auto mask = (__m256i)lanes_below<float>(count, 0);
  return (Vec<uint32_t>)_mm256_maskload_epi32(reinterpret_cast<const int*>(from), mask);
}
TG_STAGE void masked_store(Vec<float> values, float* to, int64_t count) {
  _mm256_maskstore_ps(to, (__m256i)lanes_below<float>(count, 0), (__m256)values);
}
#endif
#if defined(__AVX2__)
/// Lanes [first, last) of a register in memory of which nothing else is read or written.
TG_STAGE auto lanes_between(int first, int64_t last) {
  return ~lanes_below<float>(first, 0) & lanes_below<float>(last, 0);
}
TG_STAGE Vec<float> masked_load_range(const float* from, int first, int64_t last) {
#if defined(__AVX512F__)
  const auto mask = _mm512_movepi32_mask((__m512i)lanes_between(first, last));
  return (Vec<float>)_mm512_maskz_loadu_ps(mask, from);
#else
  return (Vec<float>)_mm256_maskload_ps(from, (__m256i)lanes_between(first, last));
#endif
}
TG_STAGE void masked_store_range(Vec<float> values, float* to, int first, int64_t last) {
#if defined(__AVX512F__)
  const auto mask = _mm512_movepi32_mask((__m512i)lanes_between(first, last));
  _mm512_mask_storeu_ps(to, mask, (__m512)values);
#else
  _mm256_maskstore_ps(to, (__m256i)lanes_between(first, last), (__m256)values);
#endif
}
#endif
TG_STAGE Vec<double> masked_load(const double* from, int64_t count, int first) {
  Vec<double> values = {};
  for (int j = 0; j < kVectorBytes / 8; ++j) values[j] = first + j < count ? from[first + j] : 0;
  return values;
}

/// kLanes values, in as many vectors as that takes.
template <typename T>
struct Lanes {
  static constexpr int kPerPart = kVectorBytes / sizeof(T);
  static constexpr int kParts = kLanes / kPerPart;
  Vec<T> part[kParts];

  TG_STAGE Lanes all(T value) {
    Lanes lanes;
    for (int p = 0; p < kParts; ++p) lanes.part[p] = Vec<T>{} + value;
    return lanes;
  }
  TG_STAGE Lanes load(const T* from) {
    Lanes lanes;
    for (int p = 0; p < kParts; ++p) lanes.part[p] = loadu(from + p * kPerPart);
    return lanes;
  }
  /// The same for all lanes.
  TG_STAGE Lanes masked_load(const T* from, int64_t count) {
    Lanes lanes;
    for (int p = 0; p < kParts; ++p) lanes.part[p] = TG_ISA::masked_load(from, count, p * kPerPart);
    return lanes;
  }
  TG_MEMBER void store(T* to) const {
    for (int p = 0; p < kParts; ++p) storeu(part[p], to + p * kPerPart);
  }
  /// Replaces the lanes after the first `count` by `rest`.
  TG_MEMBER void fill_tail(int64_t count, T rest) {
    for (int p = 0; p < kParts; ++p)
      part[p] = lanes_below<T>(count, p * kPerPart) ? part[p] : Vec<T>{} + rest;
  }
  TG_MEMBER void add(const Lanes& other) {
    for (int p = 0; p < kParts; ++p) part[p] += other.part[p];
  }
  TG_MEMBER void subtract(T value) {
    for (int p = 0; p < kParts; ++p) part[p] -= value;
  }
  TG_MEMBER void add_product(const Lanes& a, const Lanes& b) {
    for (int p = 0; p < kParts; ++p) part[p] += a.part[p] * b.part[p];
  }
  TG_MEMBER void keep_maximum(const Lanes& other) {
    for (int p = 0; p < kParts; ++p) part[p] = maximum(other.part[p], part[p]);
  }
};

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace torch_gumbel::cpu::TG_ISA
