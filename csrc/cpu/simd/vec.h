// SPDX-License-Identifier: Apache-2.0
// VecN: several vectors of floats or of words, under the names that csrc/math is written in, for
// instruction sets that have fused multiply-adds: the formulas take them as they take a float, and
// the bits are the same.
#pragma once

#include "isa.h"

namespace torch_gumbel::cpu::TG_ISA {

#if defined(__AVX2__)

template <typename T>
constexpr bool kVectorized = std::is_same_v<T, float>;

/// VecN of floats, or of 32-bit words in arithmetic without a sign.
template <typename T, int parts>
struct VecN {
  Vec<T> part[parts];

  /// f(p) for each part.
  template <typename F>
  TG_STAGE VecN of(F&& f) {
    VecN result;
    for (int p = 0; p < parts; ++p) result.part[p] = f(p);
    return result;
  }
  VecN() = default;
  TG_MEMBER VecN(T value) {
    for (int p = 0; p < parts; ++p) part[p] = Vec<T>{} + value;
  }

  TG_MEMBER friend VecN operator-(VecN a) {
    return of([&](int p) TG_INLINE { return -a.part[p]; });
  }
  TG_MEMBER friend VecN operator+(VecN a, VecN b) {
    return of([&](int p) TG_INLINE { return a.part[p] + b.part[p]; });
  }
  TG_MEMBER friend VecN operator-(VecN a, VecN b) {
    return of([&](int p) TG_INLINE { return a.part[p] - b.part[p]; });
  }
  TG_MEMBER friend VecN operator*(VecN a, VecN b) {
    return of([&](int p) TG_INLINE { return a.part[p] * b.part[p]; });
  }
  // Of floats only.
  TG_MEMBER friend VecN operator/(VecN a, VecN b) {
    return of([&](int p) TG_INLINE { return a.part[p] / b.part[p]; });
  }
  TG_MEMBER friend VecN fma(VecN a, VecN b, VecN c) {
    return of([&](int p) TG_INLINE { return TG_ISA::fma(a.part[p], b.part[p], c.part[p]); });
  }
  // Of words only.
  TG_MEMBER friend VecN operator&(VecN a, VecN b) {
    return of([&](int p) TG_INLINE { return a.part[p] & b.part[p]; });
  }
  TG_MEMBER friend VecN operator|(VecN a, VecN b) {
    return of([&](int p) TG_INLINE { return a.part[p] | b.part[p]; });
  }
  TG_MEMBER friend VecN operator^(VecN a, VecN b) {
    return of([&](int p) TG_INLINE { return a.part[p] ^ b.part[p]; });
  }
  TG_MEMBER friend VecN operator>>(VecN a, int count) {
    return of([&](int p) TG_INLINE { return a.part[p] >> count; });
  }
};

template <int parts>
using Words = VecN<uint32_t, parts>;
template <int parts>
using Floats = VecN<float, parts>;

// The steps of csrc/math/host_device.h.

typedef IndexOf<float>::type SignedWords;

template <int parts>
TG_STAGE Words<parts> bits_of(const Floats<parts>& x) {
  return Words<parts>::of([&](int p) TG_INLINE { return (Vec<uint32_t>)x.part[p]; });
}
template <int parts>
TG_STAGE Floats<parts> float_of(const Words<parts>& bits) {
  return Floats<parts>::of([&](int p) TG_INLINE { return (Vec<float>)bits.part[p]; });
}
template <int parts>
TG_STAGE Words<parts> signed_shift(const Words<parts>& bits, int count) {
  return Words<parts>::of(
      [&](int p) TG_INLINE { return (Vec<uint32_t>)((SignedWords)bits.part[p] >> count); });
}
template <int parts>
TG_STAGE Words<parts> max0(const Words<parts>& bits) {
  return Words<parts>::of([&](int p) TG_INLINE {
    const auto value = (SignedWords)bits.part[p];
    return (Vec<uint32_t>)(value > 0 ? value : SignedWords{});
  });
}
template <int parts>
TG_STAGE Floats<parts> signed_float(const Words<parts>& bits) {
  return Floats<parts>::of([&](int p) TG_INLINE {
    return __builtin_convertvector((SignedWords)bits.part[p], Vec<float>);
  });
}
template <int parts>
TG_STAGE Floats<parts> select_sign(const Words<parts>& bits, const Floats<parts>& set,
                                   const Floats<parts>& clear) {
  return Floats<parts>::of(
      [&](int p) TG_INLINE { return (SignedWords)bits.part[p] < 0 ? set.part[p] : clear.part[p]; });
}
template <int parts>
TG_STAGE Floats<parts> larger(const Floats<parts>& a, const Floats<parts>& b) {
  return Floats<parts>::of([&](int p) TG_INLINE { return maximum(a.part[p], b.part[p]); });
}
template <int parts>
TG_STAGE Floats<parts> zero_below(float least, const Floats<parts>& x, const Floats<parts>& value) {
  return Floats<parts>::of(
      [&](int p) TG_INLINE { return x.part[p] < least ? Vec<float>{} : value.part[p]; });
}

template <int parts>
TG_STAGE Floats<parts> flip_sign(const Floats<parts>& x, const Words<parts>& bits) {
#if defined(__AVX512F__)
  return Floats<parts>::of([&](int p) TG_INLINE {  // x ^ (bits & sign) is one instruction
    return (Vec<float>)_mm512_ternarylogic_epi32((__m512i)x.part[p], (__m512i)bits.part[p],
                                                 _mm512_set1_epi32(INT32_MIN), 0x78);
  });
#else
  return float_of(bits_of(x) ^ (bits & 0x80000000u));
#endif
}
template <int parts>
TG_STAGE Floats<parts> select_negative(const Floats<parts>& x, const Floats<parts>& set,
                                       const Floats<parts>& clear) {
  return select_sign(bits_of(x), set, clear);
}
template <int parts>
TG_STAGE Floats<parts> minus_magnitude(const Floats<parts>& x) {
  return float_of(bits_of(x) | 0x80000000u);
}
template <int parts>
TG_STAGE Floats<parts> magnitude(const Floats<parts>& x) {
  return float_of(bits_of(x) & 0x7FFFFFFFu);
}
template <int parts>
TG_STAGE Floats<parts> at_most(const Floats<parts>& most, const Floats<parts>& x) {
  return Floats<parts>::of([&](int p) TG_INLINE { return minimum(most.part[p], x.part[p]); });
}
template <int parts>
TG_STAGE Floats<parts> at_least(const Floats<parts>& least, const Floats<parts>& x) {
  return Floats<parts>::of([&](int p) TG_INLINE { return maximum(least.part[p], x.part[p]); });
}

#if defined(__AVX512F__)

// AVX-512 splits floats in one instruction, which no compiler derives from integer arithmetic.

template <int parts>
TG_STAGE math::SplitExponent<Floats<parts>> split_exponent(const Words<parts>& words,
                                                           const Floats<parts>& q) {
  math::SplitExponent<Floats<parts>> result;
  const __m512 one = _mm512_set1_ps(1.0f);
  for (int p = 0; p < parts; ++p) {
    const auto x = (__m512)q.part[p];
    const __mmask16 upper = _mm512_movepi32_mask((__m512i)words.part[p]);
    const __m512 mantissa = _mm512_getmant_ps(x, _MM_MANT_NORM_p5_1, _MM_MANT_SIGN_zero);
    result.t.part[p] = (Vec<float>)_mm512_mask_sub_ps(x, upper, one, mantissa);
    result.halvings.part[p] = (Vec<float>)_mm512_maskz_sub_ps(upper, -one, _mm512_getexp_ps(x));
  }
  return result;
}

template <int parts>
TG_STAGE math::NearOne<Floats<parts>> near_one(const Floats<parts>& x) {
  const Words<parts> misaligned = bits_of(x) - math::kTwoThirds;
  return {float_of((misaligned & 0x7FFFFFu) + math::kTwoThirds) - 1.0f,
          signed_float(signed_shift(misaligned, 23))};
}

template <int parts>
struct WholeFloats {
  Floats<parts> number;
};

template <int parts>
TG_STAGE WholeFloats<parts> nearest_whole(const Floats<parts>& x) {
  return {Floats<parts>::of([&](int p) TG_INLINE {
    return (Vec<float>)_mm512_roundscale_ps((__m512)x.part[p], _MM_FROUND_TO_NEAREST_INT);
  })};
}

template <int parts>
TG_STAGE Floats<parts> ldexp(const Floats<parts>& fraction, const WholeFloats<parts>& n,
                             const Floats<parts>& x) {
  return Floats<parts>::of([&](int p) TG_INLINE {
    const __mmask16 normal =
        _mm512_cmp_ps_mask((__m512)x.part[p], _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return (Vec<float>)_mm512_maskz_scalef_ps(normal, (__m512)fraction.part[p],
                                              (__m512)n.number.part[p]);
  });
}

#endif

#else

template <typename T>
constexpr bool kVectorized = false;

#endif

}  // namespace torch_gumbel::cpu::TG_ISA
