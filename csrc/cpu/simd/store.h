// SPDX-License-Identifier: Apache-2.0
// Stores of results, a cache line at a time.
#pragma once

#include "convert.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Nontemporal store of one cache line.
TG_STAGE void store_line_nontemporal(const void* from, void* to) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_loadu_si512(from));
#elif defined(__AVX2__)
  for (int i = 0; i < 2; ++i)
    _mm256_stream_si256(static_cast<__m256i*>(to) + i,
                        _mm256_loadu_si256(static_cast<const __m256i*>(from) + i));
#elif defined(__x86_64__)
  for (int i = 0; i < 4; ++i)
    _mm_stream_si128(static_cast<__m128i*>(to) + i,
                     _mm_loadu_si128(static_cast<const __m128i*>(from) + i));
#else
  memcpy(to, from, kLine);
#endif
}

/// Orders nontemporal stores before later stores that publish them to other threads.
TG_STAGE void fence_nontemporal() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

/// Consecutive elements, a line at a time: fill(k, line) makes elements from k on, one(k) a single
/// one. Whole lines use nontemporal stores if `nontemporal`. The last elements may be computed
/// twice.
template <typename Element, typename Fill, typename One>
TG_STAGE void store_lines(Element* to, int64_t count, bool nontemporal, Fill&& fill, One&& one) {
  constexpr int64_t kStep = kLine / sizeof(Element);
  if (count < kStep) {
    for (int64_t k = 0; k < count; ++k) to[k] = one(k);
    return;
  }
  int64_t k = 0;
  if (nontemporal) {
    alignas(kLine) Element line[kStep];
    const auto misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine);
    if (misaligned != 0) {
      fill(0, to);
      k = (kLine - misaligned) / static_cast<int64_t>(sizeof(Element));
    }
    for (; k + kStep <= count; k += kStep) {
      fill(k, line);
      store_line_nontemporal(line, to + k);
    }
  } else {
    for (; k + kStep <= count; k += kStep) fill(k, to + k);
  }
  if (k < count) fill(count - kStep, to + count - kStep);
}

/// Normalises weights: a quotient, and what rounding took from it, so that a row of one class comes
/// out as exactly 1.
template <typename T>
struct Factor {
  T high;
  T low = 0;

  /// n / d.
  static Factor quotient(T n, T d) {
    const T high = n / d;
    return {high, math::fma(-high, d, n) / d};
  }
  template <typename V>
  TG_MEMBER V of(V value) const {
    return fma(value, V{} + high, value * low);
  }
};

/// Calls f(product): with one multiplication where the factor's low part is 0, as most are.
template <typename T, typename F>
TG_STAGE void with_product(Factor<T> factor, F&& f) {
  if (factor.low == 0)
    f([high = factor.high](auto value) TG_INLINE { return value * high; });
  else
    f([factor](auto value) TG_INLINE { return factor.of(value); });
}

/// store_lines of value(load, k), which takes T at a pointer by load(pointer). In vectors where
/// nothing is converted: GCC would unroll so short a loop before it could vectorize it.
template <typename T, typename Element, typename Value>
TG_STAGE void store_values(Element* to, int64_t count, bool nontemporal, Value&& value) {
  constexpr int kStep = kLine / sizeof(Element), kWidth = kVectorBytes / sizeof(T);
  const auto number = [](const T* at) TG_INLINE { return *at; };
  const auto vec = [](const T* at) TG_INLINE { return loadu(at); };
  const auto one = [=](int64_t k) { return narrow<Element>(value(number, k)); };
  store_lines(
      to, count, nontemporal,
      [&](int64_t k, Element* line) TG_INLINE {
        if constexpr (std::is_same_v<Element, T>)
          for (int j = 0; j < kStep; j += kWidth) storeu(value(vec, k + j), line + j);
        else
          for (int j = 0; j < kStep; ++j) line[j] = one(k + j);
      },
      one);
}

/// from * factor to consecutive elements.
template <typename Element, typename T>
static void store_scaled_run(const T* from, int64_t count, Factor<T> factor, Element* to,
                             bool nontemporal) {
  with_product(factor, [&](auto product) TG_INLINE {
    store_values<T>(to, count, nontemporal,
                    [&](auto load, int64_t k) TG_INLINE { return product(load(from + k)); });
  });
}

/// from * factor to a row's classes.
template <typename T>
static void store_scaled(const T* from, int64_t count, Factor<T> factor, const Strided& to,
                         bool nontemporal) {
  dispatch_dtype(to, [&](auto* data) {
    using Element = std::remove_pointer_t<decltype(data)>;
    if (to.class_step == 1) return store_scaled_run(from, count, factor, data, nontemporal);
    for (int64_t k = 0; k < count; ++k)
      data[k * to.class_step] = narrow<Element>(factor.of(from[k]));
  });
}

/// from * factors, element by element, to consecutive elements.
template <typename T>
static void store_scaled_elementwise(const T* from, const T* factors, int64_t count,
                                     const Strided& to, bool nontemporal) {
  dispatch_dtype(to, [&](auto* data) {
    store_values<T>(data, count, nontemporal, [=](auto load, int64_t k) TG_INLINE {
      return load(from + k) * load(factors + k);
    });
  });
}

/// store_matrix, with nontemporal stores if `nontemporal` and the rows are packed.
template <typename T>
static void store_group(const T* from, int64_t rows, int64_t classes, const Strided& to,
                        bool nontemporal) {
  if (!nontemporal || !to.packed(rows, classes)) return store_matrix(from, rows, classes, to);
  store_scaled(from, rows * classes, Factor<T>{1}, to, true);
}

}  // namespace torch_gumbel::cpu::TG_ISA
