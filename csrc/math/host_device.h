// SPDX-License-Identifier: Apache-2.0
// What the maths needs from a compiler, so that one text serves every CPU build and the GPU.
#pragma once

#include <stdint.h>

#include <type_traits>

// Always inlined on the CPU: the same header is compiled once per instruction set, and an
// out-of-line copy could be shared by the linker with a machine that cannot run it.
#ifdef __CUDACC__
#define TG_HD __host__ __device__ __forceinline__
#else
#define TG_HD inline __attribute__((always_inline))
#endif

namespace torch_gumbel::math {

template <typename To, typename From>
TG_HD To bit_cast(From from) {
  return __builtin_bit_cast(To, from);
}

/// a * b + c with one rounding, on every device. Contraction is off everywhere else, so what is
/// fused is what says so.
TG_HD float fused(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return fmaf(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

TG_HD double fused(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return fma(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

/// c0 + c1 x + c2 x^2 + ...
template <typename T>
TG_HD T horner(T, std::type_identity_t<T> c0) {
  return c0;
}

template <typename T, typename... Rest>
TG_HD T horner(T x, std::type_identity_t<T> c0, Rest... rest) {
  return fused(x, horner(x, rest...), c0);
}

}  // namespace torch_gumbel::math
