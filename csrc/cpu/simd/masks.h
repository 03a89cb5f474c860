// SPDX-License-Identifier: Apache-2.0
// Which elements of a vector satisfy a comparison, and lists of those that do: for loops of
// vec_loop.h, whose bodies take several vectors or one element.
#pragma once

#include "vec_loop.h"
#include "words.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Lists may be written so many elements past their end: whole vectors are stored.
constexpr int64_t kListSlack = 64;

/// A sum of words, exact. Vectors add their even and odd elements apart.
class WordSum {
 public:
  TG_MEMBER void add(uint32_t word) { single_ += word; }
#if defined(__AVX2__)
  template <int parts>
  TG_MEMBER void add(const Words<parts>& words) {
    for (int p = 0; p < parts; ++p) {
      const auto pair = (Wide)words.part[p];
      even_ += pair & 0xFFFFFFFF;
      odd_ += pair >> 32;
    }
  }
  TG_MEMBER uint64_t total() const {
    const Wide both = even_ + odd_;
    uint64_t sum = single_;
    for (int j = 0; j < static_cast<int>(kVectorBytes / 8); ++j) sum += both[j];
    return sum;
  }
#else
  TG_MEMBER uint64_t total() const { return single_; }
#endif

 private:
#if defined(__AVX2__)
  Wide even_ = {}, odd_ = {};
#endif
  uint64_t single_ = 0;
};

/// A sum of numbers, in any order.
class AnySum {
 public:
  template <typename T>
  TG_MEMBER void add(bool where, T value) {
    single_ += where ? static_cast<float>(value) : 0.0f;
  }
#if defined(__AVX2__)
  template <typename Mask, int parts>
  TG_MEMBER void add(const Mask& where, const Floats<parts>& values) {
    for (int p = 0; p < parts; ++p) sums_ = where.add(p, sums_, values.part[p]);
  }
  TG_MEMBER float total() const {
    float sum = single_;
    for (int j = 0; j < static_cast<int>(kVecSize); ++j) sum += sums_[j];
    return sum;
  }
#else
  TG_MEMBER float total() const { return single_; }
#endif

 private:
#if defined(__AVX2__)
  Vec<float> sums_ = {};
#endif
  float single_ = 0;
};

// One element: a mask is a bool.

template <typename T>
TG_STAGE T present(ScalarIndex at, const T* from) {
  return at.load(from);
}
TG_STAGE uint32_t indices(ScalarIndex at) { return static_cast<uint32_t>(at.k); }
template <typename T>
TG_STAGE bool reaches(T x, T least) {
  return x >= least;
}
template <typename T>
TG_STAGE bool exceeds(T x, T bound) {
  return x > bound;
}
template <typename T>
TG_STAGE bool equals(T x, T value) {
  return x == value;
}
template <typename T>
TG_STAGE bool unordered(T a, T b) {
  return a != a || b != b;
}
/// Of indices below 2^31, limit in [-1, 2^31).
TG_STAGE bool at_or_before(uint32_t index, int64_t limit) {
  return static_cast<int64_t>(index) <= limit;
}
TG_STAGE bool both(bool a, bool b) { return a && b; }
TG_STAGE bool either(bool a, bool b) { return a || b; }
TG_STAGE bool but_not(bool a, bool b) { return a && !b; }
TG_STAGE bool any_of(bool mask) { return mask; }
TG_STAGE int64_t count_of(bool mask) { return mask; }
TG_STAGE uint32_t only(bool mask, uint32_t word) { return mask ? word : 0; }
template <typename T>
TG_STAGE T choose(bool mask, T value, T rest) {
  return mask ? value : rest;
}
/// Appends the elements of a mask to a list.
template <typename T>
TG_STAGE void append(bool mask, T value, T* to) {
  if (mask) *to = value;
}
/// May write a vector past the last element.
TG_STAGE void store_words(ScalarIndex at, uint32_t word, uint32_t* to) { to[at.k] = word; }
/// A word as a number, halved: signed conversions take all of them.
TG_STAGE float halved(uint32_t word) { return static_cast<float>(word >> 1); }

#if defined(__AVX2__)

#if defined(__AVX512F__)

typedef __mmask16 LaneMask;

TG_STAGE int bits_of_lanes(LaneMask lanes) { return lanes; }
TG_STAGE Vec<uint32_t> only_lanes(LaneMask lanes, Vec<uint32_t> words) {
  return (Vec<uint32_t>)_mm512_maskz_mov_epi32(lanes, (__m512i)words);
}
TG_STAGE Vec<float> choose_lanes(LaneMask lanes, Vec<float> value, Vec<float> rest) {
  return (Vec<float>)_mm512_mask_mov_ps((__m512)rest, lanes, (__m512)value);
}
TG_STAGE Vec<float> add_lanes(LaneMask lanes, Vec<float> sum, Vec<float> value) {
  return (Vec<float>)_mm512_mask_add_ps((__m512)sum, lanes, (__m512)sum, (__m512)value);
}
/// The lanes of a mask first; then anything.
TG_STAGE Vec<uint32_t> compressed(LaneMask lanes, Vec<uint32_t> words) {
  return (Vec<uint32_t>)_mm512_maskz_compress_epi32(lanes, (__m512i)words);
}
#define TG_COMPARE(a, b, predicate) \
  static_cast<LaneMask>(_mm512_cmp_ps_mask((__m512)(a), (__m512)(b), predicate))

#else

typedef SignedWords LaneMask;  // all bits of a lane, or none

TG_STAGE int bits_of_lanes(LaneMask lanes) { return _mm256_movemask_ps((__m256)lanes); }
TG_STAGE Vec<uint32_t> only_lanes(LaneMask lanes, Vec<uint32_t> words) {
  return words & (Vec<uint32_t>)lanes;
}
TG_STAGE Vec<float> choose_lanes(LaneMask lanes, Vec<float> value, Vec<float> rest) {
  return lanes ? value : rest;
}
TG_STAGE Vec<float> add_lanes(LaneMask lanes, Vec<float> sum, Vec<float> value) {
  return sum + (Vec<float>)((SignedWords)value & lanes);
}

/// For each set of eight lanes, those lanes in order: one byte each.
struct Compressions {
  uint64_t order[256];

  constexpr Compressions() : order() {
    for (int set = 0; set < 256; ++set) {
      uint64_t lanes = 0;
      for (int lane = 0, at = 0; lane < 8; ++lane)
        if (set >> lane & 1) lanes |= static_cast<uint64_t>(lane) << (8 * at++);
      order[set] = lanes;
    }
  }
};
static constexpr Compressions kCompressions;

/// The lanes of a mask first; then anything.
TG_STAGE Vec<uint32_t> compressed(LaneMask lanes, Vec<uint32_t> words) {
  const auto order = static_cast<long long>(kCompressions.order[bits_of_lanes(lanes)]);
  const __m256i index = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(order));
  return (Vec<uint32_t>)_mm256_permutevar8x32_epi32((__m256i)words, index);
}
#define TG_COMPARE(a, b, predicate) ((LaneMask)_mm256_cmp_ps((__m256)(a), (__m256)(b), predicate))

#endif

template <int parts>
struct Mask {
  LaneMask part[parts];

  template <typename F>
  TG_STAGE Mask of(F&& f) {
    Mask mask;
    for (int p = 0; p < parts; ++p) mask.part[p] = (LaneMask)f(p);
    return mask;
  }
  TG_MEMBER Vec<float> add(int p, Vec<float> sum, Vec<float> value) const {
    return add_lanes(part[p], sum, value);
  }
};

/// Absent elements are -inf.
template <typename At>
TG_STAGE auto present(At at, const float* from) {
  return at.here(at.load(from), -__builtin_inff());
}
template <int parts>
TG_STAGE Words<parts> indices_from(int64_t k) {
  return Words<parts>::of([&](int p) TG_INLINE {
    Vec<uint32_t> lanes;
    for (int j = 0; j < static_cast<int>(kVecSize); ++j) lanes[j] = p * kVecSize + j;
    return lanes + static_cast<uint32_t>(k);
  });
}
template <int parts>
TG_STAGE Words<parts> indices(VecIndex<parts> at) {
  return indices_from<parts>(at.k);
}
TG_STAGE Words<1> indices(TailIndex at) { return indices_from<1>(at.k); }

#define TG_COMPARISON(name, predicate)                                                          \
  template <int parts>                                                                          \
  TG_STAGE Mask<parts> name(const Floats<parts>& x, float value) {                              \
    const Vec<float> values = Vec<float>{} + value;                                             \
    return Mask<parts>::of([&](int p)                                                           \
                               TG_INLINE { return TG_COMPARE(x.part[p], values, predicate); }); \
  }
TG_COMPARISON(reaches, _CMP_GE_OQ)
TG_COMPARISON(exceeds, _CMP_GT_OQ)
TG_COMPARISON(equals, _CMP_EQ_OQ)
#undef TG_COMPARISON

template <int parts>
TG_STAGE Mask<parts> at_or_before(const Words<parts>& index, int64_t limit) {
  const SignedWords limits = SignedWords{} + static_cast<int32_t>(limit);
  return Mask<parts>::of([&](int p) TG_INLINE {
#if defined(__AVX512F__)
    return _mm512_cmple_epi32_mask((__m512i)index.part[p], (__m512i)limits);
#else
    return (SignedWords)index.part[p] <= limits;
#endif
  });
}

/// Whether any element of two vectors is NaN.
TG_STAGE LaneMask unordered_lanes(Vec<float> a, Vec<float> b) {
  return TG_COMPARE(a, b, _CMP_UNORD_Q);
}
#undef TG_COMPARE

template <int parts>
TG_STAGE Mask<parts> both(const Mask<parts>& a, const Mask<parts>& b) {
  return Mask<parts>::of([&](int p) TG_INLINE { return a.part[p] & b.part[p]; });
}
template <int parts>
TG_STAGE Mask<parts> either(const Mask<parts>& a, const Mask<parts>& b) {
  return Mask<parts>::of([&](int p) TG_INLINE { return a.part[p] | b.part[p]; });
}
template <int parts>
TG_STAGE Mask<parts> but_not(const Mask<parts>& a, const Mask<parts>& b) {
  return Mask<parts>::of([&](int p) TG_INLINE { return a.part[p] & ~b.part[p]; });
}
template <int parts>
TG_STAGE bool any_of(const Mask<parts>& mask) {
  LaneMask any = mask.part[0];
  for (int p = 1; p < parts; ++p) any |= mask.part[p];
  return bits_of_lanes(any) != 0;
}
template <int parts>
TG_STAGE int64_t count_of(const Mask<parts>& mask) {
  int64_t count = 0;
  for (int p = 0; p < parts; ++p) count += __builtin_popcount(bits_of_lanes(mask.part[p]));
  return count;
}
template <int parts>
TG_STAGE Words<parts> only(const Mask<parts>& mask, const Words<parts>& words) {
  return Words<parts>::of([&](int p) TG_INLINE { return only_lanes(mask.part[p], words.part[p]); });
}
template <int parts>
TG_STAGE Floats<parts> choose(const Mask<parts>& mask, const Floats<parts>& value, float rest) {
  const Vec<float> rests = Vec<float>{} + rest;
  return Floats<parts>::of(
      [&](int p) TG_INLINE { return choose_lanes(mask.part[p], value.part[p], rests); });
}
template <typename T, int parts>
TG_STAGE void append(const Mask<parts>& mask, const VecN<T, parts>& values, T* to) {
  for (int p = 0; p < parts; ++p) {
    storeu((Vec<T>)compressed(mask.part[p], (Vec<uint32_t>)values.part[p]), to);
    to += __builtin_popcount(bits_of_lanes(mask.part[p]));
  }
}
template <typename At, int parts>
TG_STAGE void store_words(At at, const Words<parts>& words, uint32_t* to) {
  for (int p = 0; p < parts; ++p) storeu(words.part[p], to + at.k + p * kVecSize);
}
template <int parts>
TG_STAGE Floats<parts> halved(const Words<parts>& words) {
  return signed_float(words >> 1);
}

#endif

}  // namespace torch_gumbel::cpu::TG_ISA
