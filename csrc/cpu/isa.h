// SPDX-License-Identifier: Apache-2.0
// Common ground of the CPU kernels. kernels.cpp and these headers are compiled once per instruction
// set, each time in a namespace of its own (TG_ISA), so that no function of one build can stand in
// for another's.
#pragma once

#include <stdint.h>
#include <string.h>

#include "../math/rows.h"
#include "../math/softmax.h"
#include "kernels.h"

#ifndef TG_ISA
#error "compile with -DTG_ISA=name"
#endif

namespace torch_gumbel::cpu::TG_ISA {

/// Lanes of the fixed summation tree: element k of a tile is added in lane k % 16, on every
/// instruction set.
constexpr int kLanes = 16;

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

/// One register of T.
template <typename T>
struct RegisterOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
  // Loads and stores go through this: unaligned, and allowed to alias anything.
  typedef T memory __attribute__((vector_size(kVectorBytes), aligned(sizeof(T)), may_alias));
};

template <typename T>
using Register = typename RegisterOf<T>::type;

/// kLanes values, in as many registers as that takes.
template <typename T>
struct Lanes {
  static constexpr int kPerPart = kVectorBytes / sizeof(T);
  static constexpr int kParts = kLanes / kPerPart;
  Register<T> part[kParts];

  static inline Lanes all(T value) {
    Lanes lanes;
    for (int p = 0; p < kParts; ++p) lanes.part[p] = Register<T>{} + value;
    return lanes;
  }
  static inline Lanes load(const T* from) {
    Lanes lanes;
    for (int p = 0; p < kParts; ++p)
      lanes.part[p] = *reinterpret_cast<const typename RegisterOf<T>::memory*>(from + p * kPerPart);
    return lanes;
  }
  inline void add(const Lanes& other) {
    for (int p = 0; p < kParts; ++p) part[p] += other.part[p];
  }
  inline void add_product(const Lanes& a, const Lanes& b) {
    for (int p = 0; p < kParts; ++p) part[p] += a.part[p] * b.part[p];
  }
  inline void keep_larger(const Lanes& other) {
    for (int p = 0; p < kParts; ++p) part[p] = other.part[p] > part[p] ? other.part[p] : part[p];
  }
};

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace torch_gumbel::cpu::TG_ISA
