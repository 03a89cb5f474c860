// SPDX-License-Identifier: Apache-2.0
// Loops over floats. Most instruction sets leave it to the compiler to make vectors of them.
// AVX-512 takes floats apart in one instruction, which no compiler finds in integer arithmetic:
// there the body of a loop is given whole registers, under the names that csrc/math is written in.
// The bits are the same.
#pragma once

#include "isa.h"

namespace torch_gumbel::cpu::TG_ISA {

#if defined(__AVX512F__)

/// Registers of floats. Of two, one works while the other waits.
template <int parts>
struct Floats {
  __m512 part[parts];

  /// f(p) for each part.
  template <typename F>
  TG_STAGE Floats of(F&& f) {
    Floats result;
    for (int p = 0; p < parts; ++p) result.part[p] = f(p);
    return result;
  }
  Floats() = default;
  TG_MEMBER Floats(float value) {
    for (int p = 0; p < parts; ++p) part[p] = _mm512_set1_ps(value);
  }

  TG_MEMBER friend Floats operator-(Floats a) {
    return of([&](int p) TG_INLINE { return -a.part[p]; });
  }
  TG_MEMBER friend Floats operator+(Floats a, Floats b) {
    return of([&](int p) TG_INLINE { return a.part[p] + b.part[p]; });
  }
  TG_MEMBER friend Floats operator-(Floats a, Floats b) {
    return of([&](int p) TG_INLINE { return a.part[p] - b.part[p]; });
  }
  TG_MEMBER friend Floats operator*(Floats a, Floats b) {
    return of([&](int p) TG_INLINE { return a.part[p] * b.part[p]; });
  }
  TG_MEMBER friend Floats operator/(Floats a, Floats b) {
    return of([&](int p) TG_INLINE { return a.part[p] / b.part[p]; });
  }
  TG_MEMBER friend Floats fused(Floats a, Floats b, Floats c) {
    return of([&](int p) TG_INLINE { return _mm512_fmadd_ps(a.part[p], b.part[p], c.part[p]); });
  }
};

/// Random words.
template <int parts>
struct Words {
  __m512i part[parts];
};

// What csrc/math does by integer arithmetic on the bits of a float.

template <int parts>
TG_STAGE Floats<parts> centred(const Words<parts>& words) {
  return Floats<parts>::of([&](int p) TG_INLINE { return _mm512_cvtepi32_ps(words.part[p]); });
}

template <int parts>
TG_STAGE math::Halved<Floats<parts>> halved(const Words<parts>& words, const Floats<parts>& q) {
  math::Halved<Floats<parts>> result;
  for (int p = 0; p < parts; ++p) {
    const __mmask16 upper = _mm512_movepi32_mask(words.part[p]);
    const __m512 mantissa = _mm512_getmant_ps(q.part[p], _MM_MANT_NORM_p5_1, _MM_MANT_SIGN_zero);
    const __m512 exponent = _mm512_getexp_ps(q.part[p]), one = _mm512_set1_ps(1.0f);
    result.t.part[p] = _mm512_mask_sub_ps(q.part[p], upper, one, mantissa);
    result.halvings.part[p] = _mm512_maskz_sub_ps(upper, -one, exponent);
  }
  return result;
}

template <int parts>
TG_STAGE math::NearOne<Floats<parts>> near_one(const Floats<parts>& x) {
  const __m512i least = _mm512_set1_epi32(math::kTwoThirds);
  math::NearOne<Floats<parts>> result;
  for (int p = 0; p < parts; ++p) {
    const __m512i past = _mm512_sub_epi32(_mm512_castps_si512(x.part[p]), least);
    const __m512i fraction = _mm512_and_si512(past, _mm512_set1_epi32(0x7FFFFF));
    const __m512 scaled = _mm512_castsi512_ps(_mm512_add_epi32(fraction, least));
    result.f.part[p] = scaled - _mm512_set1_ps(1.0f);
    result.exponent.part[p] = _mm512_cvtepi32_ps(_mm512_srai_epi32(past, 23));
  }
  return result;
}

template <int parts>
struct WholeFloats {
  Floats<parts> number;
};

template <int parts>
TG_STAGE WholeFloats<parts> nearest_whole(const Floats<parts>& x) {
  return {Floats<parts>::of(
      [&](int p) TG_INLINE { return _mm512_roundscale_ps(x.part[p], _MM_FROUND_TO_NEAREST_INT); })};
}

template <int parts>
TG_STAGE Floats<parts> times_power(const Floats<parts>& fraction, const WholeFloats<parts>& n,
                                   const Floats<parts>& x) {
  return Floats<parts>::of([&](int p) TG_INLINE {
    const __mmask16 normal = _mm512_cmp_ps_mask(x.part[p], _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(normal, fraction.part[p], n.number.part[p]);
  });
}

template <int parts>
TG_STAGE Floats<parts> half_of(const Words<parts>& words) {
  return Floats<parts>::of(
      [&](int p) TG_INLINE { return _mm512_cvtepi32_ps(_mm512_srli_epi32(words.part[p], 1)); });
}

template <int parts>
TG_STAGE Floats<parts> number_of_bits(const Floats<parts>& x) {
  return Floats<parts>::of(
      [&](int p) TG_INLINE { return _mm512_cvtepi32_ps(_mm512_castps_si512(x.part[p])); });
}

constexpr int64_t kInRegister = 16;

/// Elements of arrays from k on, as many as the registers hold.
template <int parts>
struct Places {
  int64_t k;

  TG_MEMBER Floats<parts> load(const float* from) const {
    return Floats<parts>::of([&](int p)
                                 TG_INLINE { return _mm512_loadu_ps(from + k + p * kInRegister); });
  }
  TG_MEMBER Words<parts> load(const uint32_t* from) const {
    Words<parts> words;
    for (int p = 0; p < parts; ++p) words.part[p] = _mm512_loadu_si512(from + k + p * kInRegister);
    return words;
  }
  TG_MEMBER Floats<parts> here(const Floats<parts>& values, float) const { return values; }
  TG_MEMBER void store(const Floats<parts>& values, float* to) const {
    for (int p = 0; p < parts; ++p) _mm512_storeu_ps(to + k + p * kInRegister, values.part[p]);
  }
};

/// The last ones, fewer than a register holds. What is not there counts as 0 and, of words, as the
/// largest.
struct LastPlaces {
  int64_t k;
  __mmask16 there;

  TG_MEMBER LastPlaces(int64_t begin, int64_t end)
      : k(begin), there(static_cast<__mmask16>((1u << (end - begin)) - 1)) {}
  TG_MEMBER Floats<1> load(const float* from) const {
    return Floats<1>::of([&](int) TG_INLINE { return _mm512_maskz_loadu_ps(there, from + k); });
  }
  TG_MEMBER Words<1> load(const uint32_t* from) const {
    return {{_mm512_mask_loadu_epi32(_mm512_set1_epi32(-1), there, from + k)}};
  }
  /// The values, and `rest` in place of those that are not there.
  TG_MEMBER Floats<1> here(const Floats<1>& values, float rest) const {
    return Floats<1>::of([&](int) TG_INLINE {
      return _mm512_mask_mov_ps(_mm512_set1_ps(rest), there, values.part[0]);
    });
  }
  TG_MEMBER void store(const Floats<1>& values, float* to) const {
    _mm512_mask_storeu_ps(to + k, there, values.part[0]);
  }
};

#endif

/// Element k of arrays.
struct Place {
  int64_t k;

  template <typename T>
  TG_MEMBER T load(const T* from) const {
    return from[k];
  }
  template <typename T>
  TG_MEMBER void store(T value, T* to) const {
    to[k] = value;
  }
};

#if defined(__AVX512F__)
template <typename T>
constexpr bool kWholeRegisters = std::is_same_v<T, float>;
#else
template <typename T>
constexpr bool kWholeRegisters = false;
#endif

/// Calls body(places) until all of [begin, end) of arrays of T, and of their words, were its
/// places.
template <typename T, typename F>
TG_STAGE void for_each_place(int64_t begin, int64_t end, F&& body) {
#if defined(__AVX512F__)
  if constexpr (kWholeRegisters<T>) {
    int64_t k = begin;
    for (; k + 2 * kInRegister <= end; k += 2 * kInRegister) body(Places<2>{k});
    if (k + kInRegister <= end) body(Places<1>{k}), k += kInRegister;
    if (k < end) body(LastPlaces(k, end));
  } else
#endif
    for (int64_t k = begin; k < end; ++k) body(Place{k});
}

/// The smallest of the words that a loop sees.
struct Smallest {
#if defined(__AVX512F__)
  __m512i of = _mm512_set1_epi32(-1);
  template <int parts>
  TG_MEMBER void see(const Words<parts>& words) {
    for (int p = 0; p < parts; ++p) of = _mm512_min_epu32(of, words.part[p]);
  }
  TG_MEMBER uint32_t word() const { return _mm512_reduce_min_epu32(of); }
#else
  uint32_t of = ~0u;
  TG_MEMBER void see(uint32_t word) { of = word < of ? word : of; }
  TG_MEMBER uint32_t word() const { return of; }
#endif
};

}  // namespace torch_gumbel::cpu::TG_ISA
