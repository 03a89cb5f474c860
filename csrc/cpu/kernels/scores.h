// SPDX-License-Identifier: Apache-2.0
// Noise and scores (logits plus noise): the first stage of every op that draws.
#pragma once

#include "../simd/vec_loop.h"
#include "../simd/words.h"
#include "group.h"

namespace torch_gumbel::cpu::TG_ISA {

constexpr int64_t kLineFloats = kLine / static_cast<int64_t>(sizeof(float));

/// Words of positions [first, first + count), count <= kTile + kLineFloats, with their neighbours
/// in the same blocks.
class WordRun {
 public:
  WordRun(math::Key key, uint64_t first, int64_t count, Prefetch prefetch = {},
          math::Plane plane = math::Plane::kWord)
      : key_(key), first_(first), plane_(plane) {
    fill_words(key, first / 4, (static_cast<int64_t>(first % 4) + count + 3) / 4, plane, words_,
               prefetch);
  }
  const uint32_t* words() const { return words_ + first_ % 4; }
  uint32_t extension(int64_t i) const {
    return math::key_word(key_, first_ + static_cast<uint64_t>(i), math::extension_of(plane_));
  }

 private:
  alignas(64) uint32_t words_[kTile + kLineFloats + 8 + kWordSlack];
  math::Key key_;
  uint64_t first_;
  math::Plane plane_;
};

/// What is read next: logits, incoming gradients where there are any, and output lines where
/// unnormalised weights are stored.
struct PrefetchSet {
  Prefetch logits;
  Prefetch grads;
  Prefetch output;
  DeferredStores deferred;

  PrefetchSet advanced(int64_t words) const {
    return {logits.advanced(words), grads.advanced(words), output.advanced(words), deferred};
  }
  /// Divides the prefetches of a run of words: `first` while the words are generated, `second`
  /// while exp1 is computed from them. All at once would exceed the memory bandwidth.
  void split(int64_t words, Prefetch& first, Prefetch& second) const {
    first = logits, second = grads.data != nullptr ? grads : output;
    if (second.data != nullptr) return;
    first.bytes_per_word /= 2;
    second = first.advanced(words);
  }
};

/// exp1 of words as if none were extended; returns the smallest word.
template <typename Interleaved>
TG_STAGE uint32_t exp1_of(const uint32_t* words, int64_t count, float* exp1,
                          Interleaved&& interleaved) {
  constexpr int64_t kStep = 128;  // elements between two prefetches: more lines at once would stall
  RunningMin smallest;
  for (int64_t begin = 0; begin < count; begin += kStep) {
    for_each_vec<float>(begin, min64(begin + kStep, count), [&](auto at) TG_INLINE {
      const auto word = at.load(words);
      at.store(math::exp1(word), exp1);
      smallest.update(word);
    });
    interleaved(begin, min64(kStep, count - begin));
  }
  return smallest.word();
}

/// The same, with prefetches and deferred stores between the steps.
static inline uint32_t exp1_of(const uint32_t* words, int64_t count, float* exp1, Prefetch prefetch,
                               DeferredStores deferred) {
  if (deferred.write == nullptr)
    return exp1_of(words, count, exp1,
                   [&](int64_t begin, int64_t n) TG_INLINE { prefetch.fetch(begin, n); });
  return exp1_of(words, count, exp1, [&](int64_t begin, int64_t n) TG_INLINE {
    prefetch.fetch(begin, n);
    deferred.write(deferred.lines, n);
  });
}

/// Overwrites exp1 of the extended words of a run. Out of line: one tile in 8,000 has such a word.
__attribute__((noinline, cold)) static void extend_exp1(const WordRun& run, int64_t count,
                                                        float* exp1) {
  const uint32_t* words = run.words();
  for (int64_t i = 0; i < count; ++i)
    if (words[i] < math::kExtendBelow) exp1[i] = math::exp1(words[i], run.extension(i));
}

/// Combines a value x with its noise: a score, x + g.
struct AddNoise {
  template <typename F>
  TG_STAGE F apply(F x, F exp1) {
    return x + math::gumbel_of_exp1(exp1);
  }
  TG_STAGE double apply(double x, double noise) { return x + noise; }
};

/// A weight, exp(x + g) = exp(x) / exp1: without the logarithm, at a temperature of 1.
struct WeightOf {
  template <typename F>
  TG_STAGE F apply(F x, F exp1) {
    return math::exp_scaled(x, math::exponent_scale<float>(1.0)) / exp1;
  }
};

/// exp1 of positions first, ..., first + count - 1, count <= kTile + kLineFloats.
static void fill_exp1(math::Key key, uint64_t first, int64_t count, float* exp1,
                      const PrefetchSet& prefetch, math::Plane plane = math::Plane::kWord) {
  Prefetch during_words, during_exp1;
  prefetch.split(count, during_words, during_exp1);
  const WordRun run(key, first, count, during_words, plane);
  const uint32_t* words = run.words();
  if (exp1_of(words, count, exp1, during_exp1, prefetch.deferred) < math::kExtendBelow)
    extend_exp1(run, count, exp1);
}

/// exp1 of a tile's positions, stored from element `misaligned` of `buffer` on (less than a cache
/// line). The elements before it may be overwritten, so that whole blocks of words fill whole
/// lines.
static void fill_exp1_aligned(int64_t misaligned, math::Key key, uint64_t first, int64_t count,
                              float* buffer, const PrefetchSet& prefetch) {
  const int64_t more = first >= static_cast<uint64_t>(misaligned) ? misaligned : 0;
  fill_exp1(key, first - static_cast<uint64_t>(more), count + more, buffer + misaligned - more,
            prefetch);
}

/// result[i] = Transform of x[i] and the noise of position first + i, count <= kTile; x may be
/// result.
template <typename Transform>
static void apply_noise(math::Key key, uint64_t first, int64_t count, const float* x, float* result,
                        const PrefetchSet& prefetch) {
  alignas(64) float exp1[kTile];
  fill_exp1(key, first, count, exp1, prefetch);
  for_each_vec<float>(0, count, [&](auto at) TG_INLINE {
    at.store(Transform::apply(at.load(x), at.load(exp1)), result);
  });
}

template <typename Transform>
static void apply_noise(math::Key key, uint64_t first, int64_t count, const double* x,
                        double* result, const PrefetchSet& prefetch) {
  const WordRun run(key, first, count, prefetch.logits);
  const WordRun extensions(key, first, count, prefetch.grads, math::Plane::kExtension);
  const uint32_t *words = run.words(), *second = extensions.words();
  for (int64_t i = 0; i < count; ++i)
    result[i] = Transform::apply(x[i], math::gumbel64(words[i], second[i]));
}

/// apply_noise for a run of any length.
template <typename Transform, typename T>
static inline void apply_noise_run(math::Key key, uint64_t first, int64_t count, const T* x,
                                   T* result, const PrefetchSet& prefetch = {}) {
  for (int64_t done = 0; done < count; done += kTile)
    apply_noise<Transform>(key, first + static_cast<uint64_t>(done), min64(kTile, count - done),
                           x + done, result + done, prefetch.advanced(done));
}

/// The noise operand that Transform takes for one position: exp1, or in float64 the noise.
template <typename T>
static inline T exp1_at(math::Key key, uint64_t position) {
  const uint32_t word = math::key_word(key, position);
  if constexpr (sizeof(T) == sizeof(double))
    return math::gumbel64(word, math::key_word(key, position, math::Plane::kExtension));
  else
    return word < math::kExtendBelow
               ? math::exp1(word, math::key_word(key, position, math::Plane::kExtension))
               : math::exp1(word);
}

/// Spatial rows: class by class, a run of words at a time.
template <typename Transform, typename T>
static void apply_noise_spatial(const Group& group, T* values) {
  const int64_t classes = group.classes;
  ClassTile<T> tile;
  for_each_tile(
      group.rows, classes, [&](int64_t i0, int64_t rows, int64_t k0, int64_t tile_classes) {
        T* corner = values + i0 * classes + k0;
        tile.for_each(rows, tile_classes,
                      [&](int64_t i, int64_t k, T& value) { value = corner[i * classes + k]; });
        for (int64_t k = 0; k < tile_classes; ++k)
          apply_noise<Transform>(group.words.key, group.words.position(i0, k0 + k), rows,
                                 tile.at[k], tile.at[k], {});
        tile.for_each(rows, tile_classes,
                      [&](int64_t i, int64_t k, T value) { corner[i * classes + k] = value; });
      });
}

/// No consecutive words: element by element.
template <typename Transform, typename T>
static void apply_noise_strided(const Group& group, T* values) {
  for (int64_t i = 0; i < group.rows; ++i) {
    const math::Key key = group.words.key_of(i);
    T* row = values + i * group.classes;
    for (int64_t k = 0; k < group.classes; ++k)
      row[k] = Transform::apply(row[k], exp1_at<T>(key, group.words.position(i, k)));
  }
}

/// Whether the words of a group are one run.
static inline bool words_run_together(const Group& group) {
  if (!group.words_along_classes()) return false;
  return group.rows == 1 || (group.words.row_step == group.classes && group.uniform_key());
}

/// result[i * classes + k] = Transform of x and noise for a group. `x` is [rows][classes], or the
/// result itself.
template <typename Transform, typename T>
static void apply_group_noise(const Group& group, const T* x, T* result,
                              const PrefetchSet& prefetch = {}) {
  const int64_t classes = group.classes;
  const GroupWords& words = group.words;
  if (!group.words_along_classes()) {
    if (x != result) memcpy(result, x, group.rows * classes * sizeof(T));
    return group.rows > 1 && words.row_step == 1 && group.uniform_key()
               ? apply_noise_spatial<Transform>(group, result)
               : apply_noise_strided<Transform>(group, result);
  }
  if (words_run_together(group))
    return apply_noise_run<Transform>(words.key, words.first, group.rows * classes, x, result,
                                      prefetch);
  for (int64_t i = 0; i < group.rows; ++i)
    apply_noise_run<Transform>(words.key_of(i), words.position(i, 0), classes, x + i * classes,
                               result + i * classes);
}

/// Prefetch of what follows a group in an operand: the next to be read if rows are processed in
/// order. Tiles of a row prefetch at a distance of kTile elements whatever their own length, so that
/// a row's short last tile has no more to fetch per word than the others.
static inline Prefetch prefetch_after(const Group& group, const Strided& operand) {
  if (operand.data == nullptr || !operand.packed(group.rows, group.classes)) return {};
  const bool whole_rows = group.classes >= group.row_classes;
  const int64_t size = element_size(operand.type);
  const int64_t distance = whole_rows ? group.rows * group.classes : kTile;
  return {static_cast<const char*>(operand.data) + distance * size, size};
}

static inline PrefetchSet prefetch_set(const Group& group, const float* output = nullptr) {
  const bool in_output = output != nullptr && group.rows == 1;  // maybe
  return {prefetch_after(group, group.input), prefetch_after(group, group.grad),
          in_output ? Prefetch{reinterpret_cast<const char*>(output), sizeof(float)} : Prefetch{},
          group.deferred};
}

/// Scores of a group, logits + noise, [rows][classes].
template <typename T>
static void load_scores(const Group& group, T* scores) {
  apply_group_noise<AddNoise>(group, values_of(group, group.input, scores), scores,
                              prefetch_set(group));
}

}  // namespace torch_gumbel::cpu::TG_ISA
