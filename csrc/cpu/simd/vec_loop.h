// SPDX-License-Identifier: Apache-2.0
// Loops over arrays of floats. Where VecN is available (vec.h), the body of a loop takes several
// vectors at once: a formula is one chain of dependent instructions, and out-of-order execution
// overlaps only a few such chains. Elsewhere it takes one element, and the compiler vectorizes the
// loop.
#pragma once

#include "vec.h"

namespace torch_gumbel::cpu::TG_ISA {

#if defined(__AVX2__)

constexpr int64_t kVecSize = kVectorBytes / sizeof(float);

/// Index of elements of arrays from k on, `parts` vectors of them.
template <int parts>
struct VecIndex {
  int64_t k;

  TG_MEMBER Floats<parts> load(const float* from) const {
    return Floats<parts>::of([&](int p) TG_INLINE { return loadu(from + k + p * kVecSize); });
  }
  TG_MEMBER Words<parts> load(const uint32_t* from) const {
    return Words<parts>::of([&](int p) TG_INLINE { return loadu(from + k + p * kVecSize); });
  }
  TG_MEMBER Floats<parts> here(const Floats<parts>& values, float) const { return values; }
  TG_MEMBER void store(const Floats<parts>& values, float* to) const {
    for (int p = 0; p < parts; ++p) storeu(values.part[p], to + k + p * kVecSize);
  }
  /// Past the caches; `to` is where a vector begins.
  TG_MEMBER void stream(const Floats<parts>& values, float* to) const {
    for (int p = 0; p < parts; ++p) stream_vec(values.part[p], to + k + p * kVecSize);
  }
};

/// Index of the tail, fewer elements than a vector. Absent elements count as 0 and, of words, as
/// the largest.
struct TailIndex {
  int64_t k;
  int64_t count;

  TG_MEMBER auto there() const { return lanes_below<float>(count, 0); }
  TG_MEMBER Floats<1> load(const float* from) const {
    return Floats<1>::of([&](int) TG_INLINE { return masked_load(from + k, count, 0); });
  }
  TG_MEMBER Words<1> load(const uint32_t* from) const {
    return Words<1>::of(
        [&](int) TG_INLINE { return masked_load(from + k, count) | ~(Vec<uint32_t>)there(); });
  }
  /// The values, and `rest` for absent elements.
  TG_MEMBER Floats<1> here(const Floats<1>& values, float rest) const {
    return Floats<1>::of([&](int)
                             TG_INLINE { return there() ? values.part[0] : Vec<float>{} + rest; });
  }
  TG_MEMBER void store(const Floats<1>& values, float* to) const {
    masked_store(values.part[0], to + k, count);
  }
};

/// Index of the head of misaligned arrays: lanes [first, last) of the vector at k.
struct HeadIndex {
  int64_t k;
  int first;
  int64_t last;

  TG_MEMBER Floats<1> load(const float* from) const {
    return Floats<1>::of([&](int) TG_INLINE { return masked_load_range(from + k, first, last); });
  }
  TG_MEMBER Floats<1> here(const Floats<1>& values, float rest) const {
    return Floats<1>::of([&](int) TG_INLINE {
      return lanes_between(first, last) ? values.part[0] : Vec<float>{} + rest;
    });
  }
  TG_MEMBER void store(const Floats<1>& values, float* to) const {
    masked_store_range(values.part[0], to + k, first, last);
  }
};

#endif

/// Index of element k of arrays.
struct ScalarIndex {
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

/// Calls body(index) for vectors that cover [begin, end) of arrays of T, and of their words.
template <typename T, typename F>
TG_STAGE void for_each_vec(int64_t begin, int64_t end, F&& body) {
#if defined(__AVX2__)
  if constexpr (kVectorized<T>) {
    int64_t k = begin;
    for (; k + 4 * kVecSize <= end; k += 4 * kVecSize) body(VecIndex<4>{k});
    if (k + 2 * kVecSize <= end) body(VecIndex<2>{k}), k += 2 * kVecSize;
    if (k + kVecSize <= end) body(VecIndex<1>{k}), k += kVecSize;
    if (k < end) body(TailIndex{k, end - k});
  } else
#endif
    for (int64_t k = begin; k < end; ++k) body(ScalarIndex{k});
}

/// Offset of `values` from the last vector boundary, in elements. A loop over [misaligned,
/// misaligned + count) of arrays that begin there crosses no cache line with any load or store.
template <typename T>
TG_STAGE int64_t misalignment(const T* values) {
  if constexpr (kVectorized<T>)
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(values) % kVectorBytes / sizeof(T));
  else
    return 0;
}

/// for_each_vec from any index on.
template <typename T, typename F>
TG_STAGE void for_each_vec_from(int64_t begin, int64_t end, F&& body) {
#if defined(__AVX2__)
  if constexpr (kVectorized<T>)
    if (const int64_t misaligned = begin % kVecSize; misaligned != 0 && begin < end) {
      const int64_t k = begin - misaligned, next = k + kVecSize;
      body(HeadIndex{k, static_cast<int>(misaligned), end < next ? end - k : kVecSize});
      begin = next;
    }
#endif
  for_each_vec<T>(begin, end, body);
}

/// The smallest of the words that a loop sees.
struct RunningMin {
#if defined(__AVX2__)
  Vec<uint32_t> of = ~Vec<uint32_t>{};
  template <int parts>
  TG_MEMBER void update(const Words<parts>& words) {
    for (int p = 0; p < parts; ++p) of = words.part[p] < of ? words.part[p] : of;
  }
  TG_MEMBER uint32_t word() const {
    uint32_t smallest = ~0u;
    for (int j = 0; j < kVecSize; ++j) smallest = of[j] < smallest ? of[j] : smallest;
    return smallest;
  }
#else
  uint32_t of = ~0u;
  TG_MEMBER void update(uint32_t word) { of = word < of ? word : of; }
  TG_MEMBER uint32_t word() const { return of; }
#endif
};

}  // namespace torch_gumbel::cpu::TG_ISA
