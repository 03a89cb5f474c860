// SPDX-License-Identifier: Apache-2.0
// Elements of the fast kernels: 16 bytes of them at a time, and one at a time.
#pragma once

#include "../../csrc/math/rows.h"
#include "math.cuh"

namespace torch_gumbel::cuda {

__device__ __forceinline__ uint32_t bits_of_element(float x) { return math::bit_cast<uint32_t>(x); }
__device__ __forceinline__ uint32_t bits_of_element(uint16_t x) { return x; }

/// How one element type lies in memory. kWidth elements fill 16 bytes. unpack_to_keep() is for
/// values that are used again much later: the compiler computes unpack() of bfloat16 twice.
struct Float32 {
  using Storage = float;
  static constexpr bool kAligned = true;
  static constexpr DType kType = DType::kFloat32;
  static constexpr int kWidth = 4;
  static constexpr uint32_t kMasked = 0xFF800000;     // bits of -inf and of NaN, as often as a
  static constexpr uint32_t kUndefined = 0x7FC00000;  // word holds them

  static __device__ __forceinline__ float widen(float x) { return x; }
  static __device__ __forceinline__ float narrow(float x) { return x; }
  static __device__ __forceinline__ void unpack(const Bits128& bits, float* x) {
    for (int i = 0; i < 4; ++i) x[i] = math::bit_cast<float>(bits.word[i]);
  }
  static __device__ __forceinline__ void unpack_to_keep(const Bits128& bits, float* x) {
    unpack(bits, x);
  }
  static __device__ __forceinline__ Bits128 pack(const float* x) {
    Bits128 bits;
    for (int i = 0; i < 4; ++i) bits.word[i] = math::bit_cast<uint32_t>(x[i]);
    return bits;
  }
};

struct Float16 {
  using Storage = uint16_t;
  static constexpr bool kAligned = true;
  static constexpr DType kType = DType::kFloat16;
  static constexpr int kWidth = 8;
  static constexpr uint32_t kMasked = 0xFC00FC00;
  static constexpr uint32_t kUndefined = 0x7FFF7FFF;

  static __device__ __forceinline__ float widen(uint16_t x) { return half_to_float(x); }
  static __device__ __forceinline__ uint16_t narrow(float x) { return float_to_half(x); }
  static __device__ __forceinline__ void unpack(const Bits128& bits, float* x) {
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = half_to_float(static_cast<uint16_t>(bits.word[i]));
      x[2 * i + 1] = half_to_float(static_cast<uint16_t>(bits.word[i] >> 16));
    }
  }
  static __device__ __forceinline__ void unpack_to_keep(const Bits128& bits, float* x) {
    unpack(bits, x);
  }
  static __device__ __forceinline__ Bits128 pack(const float* x) {
    Bits128 bits;
    for (int i = 0; i < 4; ++i) bits.word[i] = float_to_half_pair(x[2 * i], x[2 * i + 1]);
    return bits;
  }
};

struct BFloat16 {
  using Storage = uint16_t;
  static constexpr bool kAligned = true;
  static constexpr DType kType = DType::kBFloat16;
  static constexpr int kWidth = 8;
  static constexpr uint32_t kMasked = 0xFF80FF80;
  static constexpr uint32_t kUndefined = 0x7FFF7FFF;

  static __device__ __forceinline__ float widen(uint16_t x) { return bfloat_to_float(x); }
  static __device__ __forceinline__ uint16_t narrow(float x) { return float_to_bfloat(x); }
  static __device__ __forceinline__ void unpack(const Bits128& bits, float* x) {
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = math::bit_cast<float>(bits.word[i] << 16);
      x[2 * i + 1] = math::bit_cast<float>(bits.word[i] & 0xFFFF0000u);
    }
  }
  static __device__ __forceinline__ void unpack_to_keep(const Bits128& bits, float* x) {
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = math::bit_cast<float>(permute_bytes(bits.word[i], 0x1044));
      x[2 * i + 1] = math::bit_cast<float>(permute_bytes(bits.word[i], 0x3244));
    }
  }
  static __device__ __forceinline__ Bits128 pack(const float* x) {
    Bits128 bits;
    for (int i = 0; i < 4; ++i) bits.word[i] = float_to_bfloat_pair(x[2 * i], x[2 * i + 1]);
    return bits;
  }
};

/// Elements whose rows lie off the 16-byte boundaries that the words' blocks of four have: they are
/// loaded one by one, in vectors as the words have them.
template <typename Element>
struct Unaligned : Element {
  static constexpr bool kAligned = false;
};

/// kWidth elements at from + kOffset bytes; no thread of the launch writes them.
template <typename Element, int kOffset = 0>
__device__ __forceinline__ Bits128 load_elements(const void* from) {
  if constexpr (Element::kAligned) {
    return load_128<kOffset>(from);
  } else {
    const auto* at = reinterpret_cast<const typename Element::Storage*>(
        static_cast<const char*>(from) + kOffset);
    Bits128 bits = {};
    constexpr int kPerWord = Element::kWidth / 4;
    for (int i = 0; i < Element::kWidth; ++i)
      bits.word[i / kPerWord] |= bits_of_element(at[i]) << i % kPerWord * 16;
    return bits;
  }
}

}  // namespace torch_gumbel::cuda
