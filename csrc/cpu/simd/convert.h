// SPDX-License-Identifier: Apache-2.0
// Runs of elements between memory (any element type, any step) and contiguous values of the compute
// type.
#pragma once

#include <type_traits>

#include "isa.h"

namespace torch_gumbel::cpu::TG_ISA {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

static inline float widen(float x) { return x; }
static inline double widen(double x) { return x; }

static inline float widen(BFloat16 x) {
  return math::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

/// Integer operations and one exact subtraction: subnormal halves survive whatever the processor
/// does to subnormals.
static inline float widen(Half x) {
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7FFF) << 13;
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const float subnormal = math::bit_cast<float>(magnitude + 0x38800000) - 0x1p-14f;
  const uint32_t normal = magnitude + (magnitude >= 0x0F800000 ? 0x70000000u : 0x38000000u);
  const uint32_t bits = magnitude < 0x00800000 ? math::bit_cast<uint32_t>(subnormal) : normal;
  return math::bit_cast<float>(bits | sign);
}

template <typename To>
static inline To narrow(float x);
template <typename To>
static inline To narrow(double x);

template <>
inline float narrow<float>(float x) {
  return x;
}
template <>
inline double narrow<double>(float x) {
  return x;
}
template <>
inline double narrow<double>(double x) {
  return x;
}
template <>
inline float narrow<float>(double x) {
  return static_cast<float>(x);
}

/// Round to nearest even; NaN stays NaN.
template <>
inline BFloat16 narrow<BFloat16>(float x) {
  const auto bits = math::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  return {static_cast<uint16_t>(x != x ? 0x7FC0 : rounded)};
}

template <>
inline Half narrow<Half>(float x) {
  const auto bits = math::bit_cast<uint32_t>(x);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  const uint32_t sign = (bits >> 16) & 0x8000;
  // Adding 1/2 lines the last bit of a subnormal half up with the last bit of a float.
  const uint32_t subnormal =
      math::bit_cast<uint32_t>(math::bit_cast<float>(magnitude) + 0.5f) - 0x3F000000;
  const uint32_t normal = (magnitude - 0x38000000 + 0x0FFF + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
  const uint32_t special = magnitude > 0x7F800000 ? 0x7E00 : 0x7C00;
  return {static_cast<uint16_t>((magnitude >= 0x47800000 ? special : finite) | sign)};
}

template <>
inline Half narrow<Half>(double x) {
  return narrow<Half>(static_cast<float>(x));
}
template <>
inline BFloat16 narrow<BFloat16>(double x) {
  return narrow<BFloat16>(static_cast<float>(x));
}

/// A matrix in memory: element (i, k) at data[i * row_step + k * class_step].
struct Strided {
  void* data;  // of inputs, too
  DType type;
  int64_t row_step;
  int64_t class_step;

  /// Whether it lies as [rows][classes].
  bool packed(int64_t rows, int64_t classes) const {
    return class_step == 1 && (rows == 1 || row_step == classes);
  }
};

/// Calls f(the matrix's data, as a pointer of its type).
template <typename F>
TG_STAGE void dispatch_dtype(const Strided& matrix, F&& f) {
  switch (matrix.type) {
    case DType::kFloat32:
      return f(static_cast<float*>(matrix.data));
    case DType::kFloat64:
      return f(static_cast<double*>(matrix.data));
    case DType::kFloat16:
      return f(static_cast<Half*>(matrix.data));
    case DType::kBFloat16:
      return f(static_cast<BFloat16*>(matrix.data));
  }
}

template <typename T>
constexpr DType kTypeOf = std::is_same_v<T, double> ? DType::kFloat64 : DType::kFloat32;

/// The values of a matrix, [rows][classes], if they lie so and are of type T, else null.
template <typename T>
static inline T* packed_values(const Strided& matrix, int64_t rows, int64_t classes) {
  return matrix.packed(rows, classes) && matrix.type == kTypeOf<T> ? static_cast<T*>(matrix.data)
                                                                   : nullptr;
}

template <typename T, typename Element>
static inline void load_run(const Element* __restrict from, int64_t count, T* __restrict to) {
  for (int64_t k = 0; k < count; ++k) to[k] = static_cast<T>(widen(from[k]));
}

template <typename T, typename Element>
static inline void store_run(const T* __restrict from, int64_t count, Element* __restrict to) {
  for (int64_t k = 0; k < count; ++k) to[k] = narrow<Element>(from[k]);
}

constexpr int kTileClasses = 16;
constexpr int kTileRows = 64;

/// A piece of a matrix, class by class: how it lies in memory where classes are far apart.
template <typename T>
struct ClassTile {
  alignas(64) T at[kTileClasses][kTileRows];

  /// Visits to(i, k) with every value, a row's classes together, so that its cache line is met
  /// once.
  template <typename F>
  void for_each(int64_t rows, int64_t classes, F&& to) {
    for (int64_t i = 0; i < rows; ++i) {
      if (classes == kTileClasses)
        for (int64_t k = 0; k < kTileClasses; ++k) to(i, k, at[k][i]);
      else
        for (int64_t k = 0; k < classes; ++k) to(i, k, at[k][i]);
    }
  }
};

/// Cuts a matrix into tiles: f(first row, rows, first class, classes).
template <typename F>
static inline void for_each_tile(int64_t rows, int64_t classes, F&& f) {
  for (int64_t k = 0; k < classes; k += kTileClasses)
    for (int64_t i = 0; i < rows; i += kTileRows)
      f(i, min64(kTileRows, rows - i), k, min64(kTileClasses, classes - k));
}

template <typename T, typename Element>
static void load_spatial(const Element* data, const Strided& from, int64_t rows, int64_t classes,
                         T* to) {
  ClassTile<T> tile;
  for_each_tile(
      rows, classes, [&](int64_t i0, int64_t tile_rows, int64_t k0, int64_t tile_classes) {
        for (int64_t k = 0; k < tile_classes; ++k) {
          const Element* run = data + i0 * from.row_step + (k0 + k) * from.class_step;
          if (from.row_step == 1)
            load_run(run, tile_rows, tile.at[k]);
          else
            for (int64_t i = 0; i < tile_rows; ++i)
              tile.at[k][i] = static_cast<T>(widen(run[i * from.row_step]));
        }
        T* corner = to + i0 * classes + k0;
        tile.for_each(tile_rows, tile_classes,
                      [&](int64_t i, int64_t k, T value) { corner[i * classes + k] = value; });
      });
}

template <typename T, typename Element>
static void store_spatial(const T* from, int64_t rows, int64_t classes, Element* data,
                          const Strided& to) {
  ClassTile<T> tile;
  for_each_tile(
      rows, classes, [&](int64_t i0, int64_t tile_rows, int64_t k0, int64_t tile_classes) {
        const T* corner = from + i0 * classes + k0;
        tile.for_each(tile_rows, tile_classes,
                      [&](int64_t i, int64_t k, T& value) { value = corner[i * classes + k]; });
        for (int64_t k = 0; k < tile_classes; ++k) {
          Element* run = data + i0 * to.row_step + (k0 + k) * to.class_step;
          if (to.row_step == 1)
            store_run(tile.at[k], tile_rows, run);
          else
            for (int64_t i = 0; i < tile_rows; ++i)
              run[i * to.row_step] = narrow<Element>(tile.at[k][i]);
        }
      });
}

/// to[i * classes + k] = element (i, k). Walks memory in its own order.
template <typename T>
static void load_matrix(const Strided& from, int64_t rows, int64_t classes, T* to) {
  dispatch_dtype(from, [&](const auto* data) {
    if (from.class_step == 0 && (rows == 1 || from.row_step == 0)) {  // as the gradient of a sum
      const T value = static_cast<T>(widen(*data));
      for (int64_t k = 0; k < rows * classes; ++k) to[k] = value;
      return;
    }
    if (from.class_step != 1 && rows > 1) return load_spatial(data, from, rows, classes, to);
    if (from.class_step == 1 && (rows == 1 || from.row_step == classes))
      return load_run(data, rows * classes, to);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < classes; ++k)
        to[i * classes + k] = static_cast<T>(widen(data[i * from.row_step + k * from.class_step]));
  });
}

/// element (i, k) = from[i * classes + k].
template <typename T>
static void store_matrix(const T* from, int64_t rows, int64_t classes, const Strided& to) {
  dispatch_dtype(to, [&](auto* data) {
    if (to.class_step == 1 && (rows == 1 || to.row_step == classes))
      return store_run(from, rows * classes, data);
    if (to.class_step != 1) return store_spatial(from, rows, classes, data, to);
    for (int64_t i = 0; i < rows; ++i)
      store_run(from + i * classes, classes, data + i * to.row_step);
  });
}

/// Part of a matrix: from element (row, first) on.
static inline Strided part_of(const Strided& whole, int64_t row, int64_t first) {
  const int64_t offset = row * whole.row_step + first * whole.class_step;
  return {static_cast<char*>(whole.data) + offset * element_size(whole.type), whole.type,
          whole.row_step, whole.class_step};
}

}  // namespace torch_gumbel::cpu::TG_ISA
