// SPDX-License-Identifier: Apache-2.0
// GPU instructions as functions. Each has a C++ body for compilers that generate no device code,
// which gives the same results to within the stated error.
#pragma once

#include "../../csrc/math/host_device.h"

#ifndef __CUDA_ARCH__
#include <math.h>
#endif

namespace torch_gumbel::cuda {

/// 2^x; relative error below 2^-22. 0 below 2^-126 and for -inf, NaN for NaN.
__device__ __forceinline__ float exp2_fast(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return x < -126.0f ? 0.0f : exp2f(x);
#endif
}

/// log2(x), x >= 0; absolute error below 2^-22 for x in [1/2, 2], relative error below 2^-22
/// elsewhere. -inf below 2^-126.
__device__ __forceinline__ float log2_fast(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return x < 0x1p-126f ? -__builtin_inff() : log2f(x);
#endif
}

/// 1 / x; relative error below 2^-22. 0 for infinities and for magnitudes above 2^126.
__device__ __forceinline__ float reciprocal_fast(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

/// The larger one; NaN if one is NaN.
__device__ __forceinline__ float max_or_nan(float x, float y) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float z;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
#else
  const float larger = x > y ? x : y;
  return x != x ? x : (y != y ? y : larger);
#endif
}

/// The smaller one; NaN if one is NaN.
__device__ __forceinline__ float min_or_nan(float x, float y) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float z;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
#else
  const float smaller = x < y ? x : y;
  return x != x ? x : (y != y ? y : smaller);
#endif
}

/// The larger one; if one is NaN, the other.
__device__ __forceinline__ float max_number(float x, float y) { return fmaxf(x, y); }
__device__ __forceinline__ double max_number(double x, double y) { return fmax(x, y); }
__device__ __forceinline__ float min_number(float x, float y) { return fminf(x, y); }

/// 2^32 - word where it is at least `limit`, else word: one predicated instruction beside the
/// comparison that log2_unless_below() makes as well.
__device__ __forceinline__ uint32_t negated_unless_below(uint32_t word, uint32_t limit) {
#ifdef __CUDA_ARCH__
  asm("{\n\t"
      ".reg .pred above;\n\t"
      "setp.ge.u32 above, %0, %1;\n\t"
      "@above neg.s32 %0, %0;\n\t"
      "}"
      : "+r"(word)
      : "r"(limit));
  return word;
#else
  return word >= limit ? 0u - word : word;
#endif
}

/// log2_fast(x), but `other` where word < limit.
__device__ __forceinline__ float log2_unless_below(float x, uint32_t word, uint32_t limit,
                                                   float other) {
#ifdef __CUDA_ARCH__
  asm("{\n\t"
      ".reg .pred above;\n\t"
      "setp.ge.u32 above, %2, %3;\n\t"
      "@above lg2.approx.ftz.f32 %0, %1;\n\t"
      "}"
      : "+f"(other)
      : "f"(x), "r"(word), "r"(limit));
  return other;
#else
  return word >= limit ? log2_fast(x) : other;
#endif
}

/// The smallest of three: one instruction on compute capability 9.0.
__device__ __forceinline__ uint32_t min_word(uint32_t x, uint32_t y, uint32_t z) {
#ifdef __CUDA_ARCH__
  return umin(umin(x, y), z);
#else
  const uint32_t low = x < y ? x : y;
  return low < z ? low : z;
#endif
}

/// Four bytes, the lowest first, by the digits of `choice`, the lowest first: 0 to 3 are the bytes
/// of `word`, 4 is zero.
__device__ __forceinline__ uint32_t permute_bytes(uint32_t word, uint32_t choice) {
#ifdef __CUDA_ARCH__
  return __byte_perm(word, 0, choice);
#else
  uint32_t chosen = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t byte = choice >> 4 * i & 7;
    if (byte < 4) chosen |= (word >> 8 * byte & 0xFF) << 8 * i;
  }
  return chosen;
#endif
}

/// blockIdx.x, opaque to the compiler: values computed from it are recomputed instead of kept in
/// registers.
__device__ __forceinline__ unsigned block_again() {
#ifdef __CUDA_ARCH__
  unsigned block;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
  return block;
#else
  return blockIdx.x;
#endif
}

/// The operand of one 128-bit access.
struct alignas(16) Bits128 {
  uint32_t word[4];
};

/// The 16 bytes, 16-byte aligned, at from + kOffset bytes; no thread of the launch writes them.
template <int kOffset = 0>
__device__ __forceinline__ Bits128 load_128(const void* from) {
#ifdef __CUDA_ARCH__
  Bits128 bits;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4 + %5];"
      : "=r"(bits.word[0]), "=r"(bits.word[1]), "=r"(bits.word[2]), "=r"(bits.word[3])
      : "l"(from), "n"(kOffset));
  return bits;
#else
  return *reinterpret_cast<const Bits128*>(static_cast<const char*>(from) + kOffset);
#endif
}

/// Stores at to + kOffset bytes, evict-first: the data is not read again soon.
template <int kOffset = 0>
__device__ __forceinline__ void store_128(void* to, const Bits128& bits) {
#ifdef __CUDA_ARCH__
  asm volatile("st.global.cs.v4.u32 [%0 + %5], {%1, %2, %3, %4};" ::"l"(to), "r"(bits.word[0]),
               "r"(bits.word[1]), "r"(bits.word[2]), "r"(bits.word[3]), "n"(kOffset)
               : "memory");
#else
  *reinterpret_cast<Bits128*>(static_cast<char*>(to) + kOffset) = bits;
#endif
}

#ifndef __CUDACC__
using FourFloats __attribute__((vector_size(16))) = float;
#endif

/// Four floats of shared memory, 16-byte aligned, in one access.
__device__ __forceinline__ void load_four(const float* from, float* x) {
#ifdef __CUDACC__
  const float4 four = *reinterpret_cast<const float4*>(from);
  x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
#else
  const FourFloats four = *reinterpret_cast<const FourFloats*>(from);
  for (int i = 0; i < 4; ++i) x[i] = four[i];
#endif
}
__device__ __forceinline__ void store_four(float* to, const float* x) {
#ifdef __CUDACC__
  *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
#else
  *reinterpret_cast<FourFloats*>(to) = FourFloats{x[0], x[1], x[2], x[3]};
#endif
}

/// visit(Index<0>), ..., visit(Index<kCount - 1>): a loop whose index is a constant.
template <int kIndex>
struct Index {
  static constexpr int value = kIndex;
};

template <int kCount, typename Visit>
__device__ __forceinline__ void unrolled(Visit&& visit) {
  if constexpr (kCount > 0) {
    unrolled<kCount - 1>(visit);
    visit(Index<kCount - 1>{});
  }
}

__device__ __forceinline__ float half_to_float(uint16_t bits) {
#ifdef __CUDA_ARCH__
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  return static_cast<float>(math::bit_cast<_Float16>(bits));
#endif
}

/// Rounds to nearest even.
__device__ __forceinline__ uint16_t float_to_half(float value) {
#ifdef __CUDA_ARCH__
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  return math::bit_cast<uint16_t>(static_cast<_Float16>(value));
#endif
}

__device__ __forceinline__ float bfloat_to_float(uint16_t bits) {
  return math::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

__device__ __forceinline__ uint16_t float_to_bfloat(float value) {
  const auto bits = math::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return value != value ? uint16_t{0x7FFF} : static_cast<uint16_t>(rounded);
}

/// Two values rounded to nearest even, the first one in the low half.
__device__ __forceinline__ uint32_t float_to_half_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return float_to_half(low) | static_cast<uint32_t>(float_to_half(high)) << 16;
#endif
}

__device__ __forceinline__ uint32_t float_to_bfloat_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return float_to_bfloat(low) | static_cast<uint32_t>(float_to_bfloat(high)) << 16;
#endif
}

}  // namespace torch_gumbel::cuda
