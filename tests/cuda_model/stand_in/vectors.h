// SPDX-License-Identifier: Apache-2.0
// CUDA's vector types, with its alignments.
#pragma once

#define CUDA_MODEL_VECTORS(T, name)                                             \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                            \
  struct name##3 { T x, y, z; };                                                \
  struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; }; \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                 \
  constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }         \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

CUDA_MODEL_VECTORS(unsigned short, ushort)
CUDA_MODEL_VECTORS(int, int)
CUDA_MODEL_VECTORS(unsigned, uint)
CUDA_MODEL_VECTORS(long long, longlong)
CUDA_MODEL_VECTORS(unsigned long long, ulonglong)
CUDA_MODEL_VECTORS(float, float)
CUDA_MODEL_VECTORS(double, double)

#undef CUDA_MODEL_VECTORS
