// SPDX-License-Identifier: Apache-2.0
// Rows that fit one vector: as many rows as it has lanes, transposed, so that every step is
// vectorized over rows. Bitwise equal to the general form, whose lane k holds element k of such a
// row.
#pragma once

#include "../simd/reduce.h"
#include "scores.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Rows of one transposed block, and the most classes that they may have.
template <typename T>
constexpr int kVecRows = Lanes<T>::kPerPart;

/// Of `count` contiguous values, how many vectors of `width` values lie within them, one from every
/// multiple of `step` on.
static inline int64_t count_full_vectors(int64_t count, int64_t step, int64_t width) {
  const int64_t spare = count - width;
  return spare < 0 ? 0 : spare / step + 1;
}

/// Permutations between the rows of a vector, padded to `width` lanes, and contiguous rows of
/// [rows][classes].
template <int width, typename T>
class RowPermutation {
  using Index = typename IndexOf<T>::type;
  static constexpr int kRows = kVecRows<T> / width;

 public:
  explicit RowPermutation(int64_t classes) : step_(kRows * classes) {
    Index lane, row, first;
    for (int j = 0; j < kVecRows<T>; ++j) lane[j] = j, row[j] = j / width, first[j] = j % width;
    using Int = decltype(lane[0] + 0);
    const auto count = static_cast<Int>(classes);
    pad_index_ = row * count + first;
    row = (lane * ((1 << 16) / count + 1)) >> 16;  // lane / classes
    pack_index_ = row * width + (lane - row * count);
  }

  /// Rows to their padded form, or back. Returns the number of rows written, from the first one on.
  template <bool pads>
  TG_MEMBER int64_t move(const T* from, int64_t count, T* to) const {
    const int64_t vectors = count_full_vectors(count, step_, kVecRows<T>);
    const int64_t from_step = pads ? step_ : kVecRows<T>, to_step = pads ? kVecRows<T> : step_;
    for (int64_t i = 0; i < vectors; ++i)
      storeu(permute<T>(loadu(from + i * from_step), pads ? pad_index_ : pack_index_),
             to + i * to_step);
    return vectors * kRows;
  }

 private:
  int64_t step_;
  Index pad_index_, pack_index_;
};

template <int width, bool pads, typename T>
TG_STAGE void move_rows(const T* from, int64_t rows, int64_t classes, T* to) {
  if (classes == width) return (void)memcpy(to, from, rows * width * sizeof(T));
  const int64_t from_step = pads ? classes : width, to_step = pads ? width : classes;
  const int64_t full = count_full_vectors(rows * classes, classes, width);
  int64_t i = 0;
  if constexpr (kHasPermute<T> && width < kVecRows<T>)
    i = RowPermutation<width, T>(classes).template move<pads>(from, rows * classes, to);
  for (; i < full; ++i) memcpy(to + i * to_step, from + i * from_step, width * sizeof(T));
  for (; i < rows; ++i)
    for (int64_t k = 0; k < classes; ++k) to[i * to_step + k] = from[i * from_step + k];
}

/// [rows][width] from [rows][classes], classes <= width; the padding of a row is undefined. Reads
/// nothing past the rows.
template <int width, typename T>
TG_STAGE void pad_rows(const T* from, int64_t rows, int64_t classes, T* padded) {
  move_rows<width, true>(from, rows, classes, padded);
}

/// The way back: a row's padding is overwritten by the next row. Writes nothing past the rows.
template <int width, typename T>
TG_STAGE void pack_rows(const T* padded, int64_t rows, int64_t classes, T* to) {
  move_rows<width, false>(padded, rows, classes, to);
}

/// a's lanes with bit `distance` set change places with b's lanes without it.
template <int distance, typename V, int... lane>
TG_STAGE void exchange(V& a, V& b, std::integer_sequence<int, lane...>) {
  constexpr int kLaneCount = sizeof...(lane);
  const V low =
      __builtin_shufflevector(a, b, ((lane & distance) ? kLaneCount + (lane ^ distance) : lane)...);
  b = __builtin_shufflevector(a, b, ((lane & distance) ? kLaneCount + lane : (lane ^ distance))...);
  a = low;
}

/// Vectors of padded rows <-> vectors of classes; its own inverse. Lane h * width + i of a class
/// belongs to row i * (lanes / width) + h: see transposed_index.
template <typename T, int width, int distance = 1>
TG_STAGE void transpose(Vec<T> (&vecs)[width]) {
  if constexpr (distance < width) {
    for (int i = 0; i < width; ++i)
      if ((i & distance) == 0)
        exchange<distance>(vecs[i], vecs[i + distance],
                           std::make_integer_sequence<int, kVecRows<T>>{});
    transpose<T, width, 2 * distance>(vecs);
  }
}

/// Index of row `row` of a block of padded rows among values by lane.
template <typename T, int width>
TG_STAGE int64_t transposed_index(int64_t row) {
  constexpr int kRowsPerRegister = kVecRows<T> / width;
  const int64_t lane = row % kVecRows<T>;
  return row - lane + lane % kRowsPerRegister * width + lane / kRowsPerRegister;
}

/// kVecRows rows, class by class: [width][kVecRows].
template <typename T, int width>
struct Transposed {
  alignas(64) T values[width * kVecRows<T>];

  TG_MEMBER T* at(int k) { return values + k * kVecRows<T>; }
  TG_MEMBER const T* at(int k) const { return values + k * kVecRows<T>; }

  TG_STAGE Transposed load(const T* padded) {
    Vec<T> vecs[width];
    for (int i = 0; i < width; ++i) vecs[i] = loadu(padded + i * kVecRows<T>);
    transpose<T, width>(vecs);
    Transposed loaded;
    for (int k = 0; k < width; ++k) storeu(vecs[k], loaded.at(k));
    return loaded;
  }
  TG_MEMBER void store(T* padded) const {
    Vec<T> vecs[width];
    for (int k = 0; k < width; ++k) vecs[k] = loadu(at(k));
    transpose<T, width>(vecs);
    for (int i = 0; i < width; ++i) storeu(vecs[i], padded + i * kVecRows<T>);
  }

  TG_MEMBER Vec<T> of_class(int k) const { return loadu(at(k)); }

  /// The largest of each row, NaN passed over.
  TG_MEMBER Vec<T> max(int classes) const {
    auto largest = Vec<T>{} - static_cast<T>(__builtin_inf());
    for (int k = 0; k < classes; ++k) largest = maximum(of_class(k), largest);
    return largest;
  }

  /// The first class of each row whose value is `wanted`, 0 if none is.
  TG_MEMBER Vec<T> first_index(const Vec<T>& wanted, int classes) const {
    auto index = Vec<T>{};
    for (int k = classes - 1; k >= 0; --k)
      index = of_class(k) == wanted ? Vec<T>{} + static_cast<T>(k) : index;
    return index;
  }

  /// The fixed tree of add_runs; absent lanes would add 0.
  TG_MEMBER Vec<T> sum(int classes) const {
    Vec<T> partial[width];
    for (int k = 0; k < width; ++k) partial[k] = k < classes ? of_class(k) : Vec<T>{};
    for (int half = width / 2; half > 0; half /= 2)
      for (int k = 0; k < half; ++k) partial[k] += partial[k + half];
    return partial[0];
  }
};

/// Of contiguous rows, [kVecRows][classes], the row that each element belongs to.
template <typename T, int width>
class RowBroadcast {
 public:
  explicit RowBroadcast(int64_t classes) : classes_(classes) {
    for (int64_t row = 0, at = 0; row < kVecRows<T>; ++row)
      for (int64_t k = 0; k < classes; ++k, ++at)
        index_[at / kVecRows<T>][at % kVecRows<T>] = transposed_index<T, width>(row);
  }
  /// Broadcasts one value per row, by lane, to the row's elements.
  TG_MEMBER void broadcast(Vec<T> by_lane, T* to) const {
    for (int64_t k = 0; k < classes_; ++k)
      storeu(permute<T>(by_lane, index_[k]), to + k * kVecRows<T>);
  }

 private:
  int64_t classes_;
  typename IndexOf<T>::type index_[width];
};

/// Calls f(integral constant of the smallest power of two that holds `classes`).
template <typename T, typename F>
static inline void with_width(int64_t classes, F&& f) {
  if (classes <= 2) return f(std::integral_constant<int, 2>{});
  if constexpr (kVecRows<T> >= 4)
    if (classes <= 4) return f(std::integral_constant<int, 4>{});
  if constexpr (kVecRows<T> >= 8)
    if (classes <= 8) return f(std::integral_constant<int, 8>{});
  if constexpr (kVecRows<T> >= 16) return f(std::integral_constant<int, 16>{});
}

constexpr int kPadded = 1024;  // values in a block of padded rows

/// Calls f(width, first row, rows) for blocks of rows that fill kPadded.
template <typename T, typename F>
static inline void for_each_padded_block(int64_t rows, int64_t classes, F&& f) {
  with_width<T>(classes, [&](auto width) {
    constexpr int64_t kRows = kPadded / decltype(width)::value;
    for (int64_t begin = 0; begin < rows; begin += kRows)
      f(width, begin, min64(kRows, rows - begin));
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
