// SPDX-License-Identifier: Apache-2.0
// Spatial rows (`dim` is not the last one): classes are strided, in memory and among the random
// words, while neighbouring rows are contiguous. They are processed as [classes][rows], as in
// memory, and every step is vectorized over rows. Bitwise equal to the general form.
#pragma once

#include "../simd/store.h"
#include "scores.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Values of one class, in place or in `buffer`.
template <typename T>
static inline const T* load_class(const Strided& from, int64_t k, int64_t rows, T* buffer) {
  const Strided class_values = part_of(from, 0, k);
  if (from.type == kTypeOf<T> && from.row_step == 1)
    return static_cast<const T*>(class_values.data);
  dispatch_dtype(class_values, [&](const auto* data) {
    if (from.row_step == 1) return load_run(data, rows, buffer);
    for (int64_t i = 0; i < rows; ++i) buffer[i] = static_cast<T>(widen(data[i * from.row_step]));
  });
  return buffer;
}

/// Prefetches the values of a class: too far from the last one's for the hardware prefetcher.
static inline void prefetch_class(const Strided& from, int64_t k, int64_t rows) {
  if (from.row_step != 1) return;
  const int64_t size = element_size(from.type);
  const auto* data = static_cast<const char*>(from.data) + k * from.class_step * size;
  for (int64_t at = 0; at < rows * size; at += kLine) __builtin_prefetch(data + at);
}

/// The classes of a group's output.
template <typename T>
class SpatialOutput {
 public:
  SpatialOutput(const PlannedParams& a, const Group& group) : to_(group.output), rows_(group.rows) {
    const bool lines = reinterpret_cast<uintptr_t>(to_.data) % kLine == 0 &&
                       whole_lines(rows_, to_.type) && whole_lines(to_.class_step, to_.type);
    nontemporal_ = a.plan.nontemporal && to_.row_step == 1 && lines;
  }

  /// Where a class's values may be computed: in place, or in `buffer`.
  T* buffer_for(int64_t k, T* buffer) const {
    if (nontemporal_ || to_.type != kTypeOf<T> || to_.row_step != 1) return buffer;
    return static_cast<T*>(part_of(to_, 0, k).data);
  }

  /// Stores values that were computed in buffer_for(k, ...).
  void put(const T* values, int64_t k) const {
    const Strided class_values = part_of(to_, 0, k);
    if (values == class_values.data) return;
    dispatch_dtype(class_values, [&](auto* data) {
      using Element = std::remove_pointer_t<decltype(data)>;
      if (to_.row_step == 1)
        return store_scaled_run(values, rows_, Factor<T>{1}, data, nontemporal_);
      for (int64_t i = 0; i < rows_; ++i) data[i * to_.row_step] = narrow<Element>(values[i]);
    });
  }

 private:
  Strided to_;
  int64_t rows_;
  bool nontemporal_;
};

/// Words of classes [first_class, first_class + classes) of a group: for each class a run of words,
/// one per row.
class SpatialWords {
 public:
  static constexpr int64_t kCapacity = kTile + 256;

  /// How many classes fit.
  static int64_t fit(const Group& group) {
    return kCapacity / (follow(group) ? group.rows : run_stride(group.rows)) - 1;
  }

  SpatialWords(const Group& group, int64_t first_class, int64_t classes,
               math::Plane plane = math::Plane::kWord)
      : key_(group.words.key),
        step_(static_cast<uint64_t>(group.words.class_step)),
        first_(group.words.position(0, first_class)),
        follow_(follow(group)),
        run_stride_(follow_ ? group.rows : run_stride(group.rows)) {
    const int64_t count = classes * group.rows;
    if (follow_)
      fill_words(key_, first_ / 4, (static_cast<int64_t>(first_ % 4) + count + 3) / 4, plane,
                 words_);
    else
      fill_runs(key_, first_, step_, classes, group.rows, plane, words_);
  }

  /// Words of one class, counted from first_class.
  const uint32_t* of_class(int64_t k) const {
    return words_ + k * run_stride_ + (follow_ ? first_ : position(k)) % 4;
  }
  uint64_t position(int64_t k) const { return first_ + static_cast<uint64_t>(k) * step_; }
  uint32_t extension(int64_t k, int64_t i) const {
    return math::key_word(key_, position(k) + static_cast<uint64_t>(i), math::Plane::kExtension);
  }

 private:
  /// Whether the classes' runs are consecutive.
  static bool follow(const Group& group) { return group.words.class_step == group.rows; }

  alignas(64) uint32_t words_[kCapacity + kWordSlack];
  math::Key key_;
  uint64_t step_, first_;
  bool follow_;
  int64_t run_stride_;
};

/// extend_exp1, for spatial rows.
__attribute__((noinline, cold)) static void extend_spatial(const SpatialWords& words,
                                                           int64_t classes, int64_t rows,
                                                           float* exp1) {
  for (int64_t k = 0; k < classes; ++k)
    for (int64_t i = 0; i < rows; ++i)
      if (words.of_class(k)[i] < math::kExtendBelow)
        exp1[k * rows + i] = math::exp1(words.of_class(k)[i], words.extension(k, i));
}

/// noise[k][i] of classes that fit in SpatialWords, but for the last logarithm in float32, which
/// finished_noise takes.
static void spatial_noise(const Group& group, int64_t first_class, int64_t classes, float* exp1) {
  const SpatialWords words(group, first_class, classes);
  const bool reads = group.input.data != nullptr;  // noise alone reads nothing
  const int64_t rows = group.rows;
  uint32_t smallest = ~0u;
  for (int64_t k = 0; k < classes; ++k) {
    const uint32_t* class_values = words.of_class(k);
    if (reads) prefetch_class(group.input, first_class + k, rows);
    const uint32_t least =
        exp1_of(class_values, rows, exp1 + k * rows, Prefetch{}, DeferredStores{});
    smallest = least < smallest ? least : smallest;
  }
  if (smallest < math::kExtendBelow) extend_spatial(words, classes, rows, exp1);
}

static void spatial_noise(const Group& group, int64_t first_class, int64_t classes, double* noise) {
  const SpatialWords words(group, first_class, classes);
  const SpatialWords extensions(group, first_class, classes, math::Plane::kExtension);
  for (int64_t k = 0; k < classes; ++k) {
    const uint32_t *class_values = words.of_class(k), *second = extensions.of_class(k);
    double* __restrict to = noise + k * group.rows;
    for (int64_t i = 0; i < group.rows; ++i) to[i] = math::gumbel64(class_values[i], second[i]);
  }
}

static inline float finished_noise(float exp1) { return math::gumbel_of_exp1(exp1); }
static inline double finished_noise(double noise) { return noise; }

/// Calls f(k, noise of class k as spatial_noise leaves it) for classes [begin, end).
template <typename T, typename F>
static inline void for_each_spatial_noise(const Group& group, int64_t begin, int64_t end, F&& f) {
  alignas(64) T noise[SpatialWords::kCapacity];
  const int64_t step = SpatialWords::fit(group);
  for (int64_t first = begin; first < end; first += step) {
    const int64_t classes = min64(step, end - first);
    spatial_noise(group, first, classes, noise);
    for (int64_t k = 0; k < classes; ++k) f(first + k, noise + k * group.rows);
  }
}

/// Scores of classes [begin, end), [classes][rows], and the largest of each row so far in `top`;
/// or, with `only_exp1`, exp1 and the largest logits.
template <typename T>
static void load_spatial_scores(const Group& group, int64_t begin, int64_t end, bool only_exp1,
                                T* scores, T* top) {
  const int64_t rows = group.rows;
  T buffer[kMaxSpatialRows];
  for_each_spatial_noise<T>(group, begin, end, [&](int64_t k, const T* noise) {
    const T* x = load_class(group.input, k, rows, buffer);
    T* to = scores + (k - begin) * rows;
    if (only_exp1) {
      memcpy(to, noise, rows * sizeof(T));
      for (int64_t i = 0; i < rows; ++i) top[i] = x[i] > top[i] ? x[i] : top[i];
      return;
    }
    for (int64_t i = 0; i < rows; ++i) {
      to[i] = x[i] + finished_noise(noise[i]);
      top[i] = to[i] > top[i] ? to[i] : top[i];
    }
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
