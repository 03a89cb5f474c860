// SPDX-License-Identifier: Apache-2.0
// Noise and scores (logits plus noise): the first stage of every op that draws.
#pragma once

#include "group.h"
#include "places.h"
#include "words.h"

namespace torch_gumbel::cpu::TG_ISA {

constexpr int64_t kLineFloats = kLine / static_cast<int64_t>(sizeof(float));

/// Words of positions [first, first + count), count <= kTile + kLineFloats, with their neighbours in
/// the same blocks.
class WordRun {
 public:
  WordRun(math::Key key, uint64_t first, int64_t count, Ahead ahead = {},
          math::Plane plane = math::Plane::kWord)
      : key_(key), first_(first) {
    fill_words(key, first / 4, (static_cast<int64_t>(first % 4) + count + 3) / 4, plane, words_,
               ahead);
  }
  const uint32_t* words() const { return words_ + first_ % 4; }
  uint32_t extension(int64_t i) const {
    return math::key_word(key_, first_ + static_cast<uint64_t>(i), math::Plane::kExtension);
  }

 private:
  alignas(64) uint32_t words_[kTile + kLineFloats + 8 + kWordSlack];
  math::Key key_;
  uint64_t first_;
};

/// What is needed next: logits to read, and incoming gradients where there are any; and lines to
/// write where a result waits in them for its factor.
struct NextLines {
  Ahead logits;
  Ahead grads;
  Ahead made;
  WaitingLines waiting;

  NextLines behind(int64_t words) const {
    return {logits.behind(words), grads.behind(words), made.behind(words), waiting};
  }
  /// Of a run of words: what to ask for while they are made, and what while exponentials are made
  /// of them. All at once would be more than memory gives in that time.
  void share(int64_t words, Ahead& first, Ahead& second) const {
    first = logits, second = grads.data != nullptr ? grads : made;
    if (second.data != nullptr) return;
    first.bytes_per_word /= 2;
    second = first.behind(words);
  }
};

/// E of words as if none were extended; returns the smallest of them.
template <typename Meanwhile>
TG_STAGE uint32_t exponentials_of(const uint32_t* words, int64_t count, float* exponentials,
                                  Meanwhile&& meanwhile) {
  constexpr int64_t kStep = 128;  // elements between two demands: more lines at once would wait
  Smallest smallest;
  for (int64_t begin = 0; begin < count; begin += kStep) {
    for_each_place<float>(begin, min64(begin + kStep, count), [&](auto at) TG_INLINE {
      const auto word = at.load(words);
      at.store(math::exponential(word), exponentials);
      smallest.see(word);
    });
    meanwhile(begin, min64(kStep, count - begin));
  }
  return smallest.word();
}

/// The same, asking for `ahead` and writing what waits.
static inline uint32_t exponentials_of(const uint32_t* words, int64_t count, float* exponentials,
                                       Ahead ahead, WaitingLines waiting) {
  if (waiting.write == nullptr)
    return exponentials_of(words, count, exponentials,
                           [&](int64_t begin, int64_t n) TG_INLINE { ahead.fetch(begin, n); });
  return exponentials_of(words, count, exponentials, [&](int64_t begin, int64_t n) TG_INLINE {
    ahead.fetch(begin, n);
    waiting.write(waiting.lines, n);
  });
}

/// Puts the exponentials of extended words among those of a run. Out of line: one tile in 8,000 has
/// such a word.
__attribute__((noinline, cold)) static void extend_exponentials(const WordRun& run, int64_t count,
                                                                float* exponentials) {
  const uint32_t* words = run.words();
  for (int64_t i = 0; i < count; ++i)
    if (words[i] < math::kExtendBelow)
      exponentials[i] = math::exponential(words[i], run.extension(i));
}

/// What becomes of a value x and its noise: a score, x + g.
struct Add {
  template <typename F>
  TG_STAGE F apply(F x, F exponential) {
    return x + math::gumbel_of_exponential(exponential);
  }
  TG_STAGE double apply(double x, double noise) { return x + noise; }
};

/// Or a weight, exp(x + g) = exp(x) / E: without the logarithm, at a temperature of 1.
struct Weigh {
  template <typename F>
  TG_STAGE F apply(F x, F exponential) {
    return math::exp_scaled(x, math::exponent_scale<float>(1.0)) / exponential;
  }
};

/// E of positions first, ..., first + count - 1, count <= kTile + kLineFloats.
static void fill_exponentials(math::Key key, uint64_t first, int64_t count, float* exponentials,
                              const NextLines& next) {
  Ahead while_words, while_exponentials;
  next.share(count, while_words, while_exponentials);
  const WordRun run(key, first, count, while_words);
  const uint32_t* words = run.words();
  if (exponentials_of(words, count, exponentials, while_exponentials, next.waiting) <
      math::kExtendBelow)
    extend_exponentials(run, count, exponentials);
}

/// E of a tile's positions behind the first `past` elements of `room`, a line's at most, which may
/// be overwritten: then whole blocks of words meet whole lines.
static void fill_exponentials_behind(int64_t past, math::Key key, uint64_t first, int64_t count,
                                     float* room, const NextLines& next) {
  const int64_t more = first >= static_cast<uint64_t>(past) ? past : 0;
  fill_exponentials(key, first - static_cast<uint64_t>(more), count + more, room + past - more,
                    next);
}

/// result[i] = Take of x[i] and the noise of position first + i, count <= kTile; x may be result.
template <typename Take>
static void take_noise(math::Key key, uint64_t first, int64_t count, const float* x, float* result,
                       const NextLines& next) {
  alignas(64) float exponentials[kTile];
  fill_exponentials(key, first, count, exponentials, next);
  for_each_place<float>(0, count, [&](auto at) TG_INLINE {
    at.store(Take::apply(at.load(x), at.load(exponentials)), result);
  });
}

template <typename Take>
static void take_noise(math::Key key, uint64_t first, int64_t count, const double* x,
                       double* result, const NextLines& next) {
  const WordRun run(key, first, count, next.logits);
  const WordRun extensions(key, first, count, next.grads, math::Plane::kExtension);
  const uint32_t *words = run.words(), *second = extensions.words();
  for (int64_t i = 0; i < count; ++i)
    result[i] = Take::apply(x[i], math::gumbel64(words[i], second[i]));
}

/// take_noise for a run of any length.
template <typename Take, typename T>
static inline void take_noise_run(math::Key key, uint64_t first, int64_t count, const T* x,
                                  T* result, const NextLines& next = {}) {
  for (int64_t done = 0; done < count; done += kTile)
    take_noise<Take>(key, first + static_cast<uint64_t>(done), min64(kTile, count - done), x + done,
                     result + done, next.behind(done));
}

/// Noise of one position; for Take, its exponential.
template <typename T>
static inline T exponential_at(math::Key key, uint64_t position) {
  const uint32_t word = math::key_word(key, position);
  if constexpr (sizeof(T) == sizeof(double))
    return math::gumbel64(word, math::key_word(key, position, math::Plane::kExtension));
  else
    return word < math::kExtendBelow
               ? math::exponential(word, math::key_word(key, position, math::Plane::kExtension))
               : math::exponential(word);
}

/// Where words run across rows: class by class, a run of words at a time.
template <typename Take, typename T>
static void take_noise_across(const Arguments& a, const Group& group, int64_t class_begin,
                              int64_t classes, T* values) {
  const math::Key key = key_of(a, group.first);
  const auto word_step = static_cast<uint64_t>(a.rows.step(Operand::kWord));
  const auto first = static_cast<uint64_t>(group.first[Operand::kWord]) + class_begin * word_step;
  ClassTile<T> tile;
  for_each_tile(
      group.rows, classes, [&](int64_t i0, int64_t rows, int64_t k0, int64_t tile_classes) {
        T* corner = values + i0 * classes + k0;
        tile.for_each(rows, tile_classes,
                      [&](int64_t i, int64_t k, T& value) { value = corner[i * classes + k]; });
        for (int64_t k = 0; k < tile_classes; ++k)
          take_noise<Take>(key, first + i0 + (k0 + k) * word_step, rows, tile.at[k], tile.at[k],
                           {});
        tile.for_each(rows, tile_classes,
                      [&](int64_t i, int64_t k, T value) { corner[i * classes + k] = value; });
      });
}

/// Where words follow each other nowhere: element by element.
template <typename Take, typename T>
static void take_noise_apart(const Arguments& a, const Group& group, int64_t class_begin,
                             int64_t classes, T* values) {
  const auto word_step = static_cast<uint64_t>(a.rows.step(Operand::kWord));
  for (int64_t i = 0; i < group.rows; ++i) {
    const Row row = row_of(group, i);
    const auto first = static_cast<uint64_t>(row[Operand::kWord]) + class_begin * word_step;
    for (int64_t k = 0; k < classes; ++k) {
      T& value = values[i * classes + k];
      value = Take::apply(value, exponential_at<T>(key_of(a, row), first + k * word_step));
    }
  }
}

/// Whether the words of a group's `classes` classes are one run.
static inline bool words_run_together(const Arguments& a, const Group& group, int64_t classes) {
  if (!words_run_along_classes(a.rows)) return false;
  return group.rows == 1 || (group.step_of(Operand::kWord) == classes && uniform_key(a, group));
}

/// result[i * classes + k] = Take of x and noise for classes [class_begin, class_begin + classes)
/// of a group. `x` is [rows][classes], or the result itself.
template <typename Take, typename T>
static void take_group_noise(const Arguments& a, const Group& group, int64_t class_begin,
                             int64_t classes, const T* x, T* result, const NextLines& next = {}) {
  if (!words_run_along_classes(a.rows)) {
    if (x != result) memcpy(result, x, group.rows * classes * sizeof(T));
    const bool across = group.rows > 1 && group.step_of(Operand::kWord) == 1;
    return across && uniform_key(a, group)
               ? take_noise_across<Take>(a, group, class_begin, classes, result)
               : take_noise_apart<Take>(a, group, class_begin, classes, result);
  }
  const auto first = static_cast<uint64_t>(group.first[Operand::kWord] + class_begin);
  if (words_run_together(a, group, classes))
    return take_noise_run<Take>(key_of(a, group.first), first, group.rows * classes, x, result,
                                next);
  for (int64_t i = 0; i < group.rows; ++i) {
    const Row row = row_of(group, i);
    take_noise_run<Take>(key_of(a, row), static_cast<uint64_t>(row[Operand::kWord] + class_begin),
                         classes, x + i * classes, result + i * classes);
  }
}

/// Bytes to ask for with each word of a tile, so that the next one is there: tiles of a row are not
/// all of one length.
static inline int64_t bytes_per_word(const Arguments& a, int64_t end, int64_t classes,
                                     int64_t size) {
  if (classes >= a.rows.classes) return size;
  const int64_t left = a.rows.classes - end, next = min64(kTile, left > 0 ? left : a.rows.classes);
  const int64_t bytes = (size * next + classes / 2) / classes;
  return bytes < 2 ? 2 : min64(bytes, 4 * size);
}

/// What lies behind a group's classes in an operand: the next of it to be read, if rows are walked
/// in order.
static inline Ahead ahead_of(const Arguments& a, const Group& group, Operand operand,
                             int64_t class_begin, int64_t classes) {
  const Strided matrix = operand_matrix(a, group, operand, class_begin);
  const bool absent = operand == Operand::kGrad && a.grad == nullptr;
  if (absent || !matrix.packed(group.rows, classes)) return {};
  const int64_t size = element_size(matrix.type);
  return {static_cast<const char*>(matrix.data) + group.rows * classes * size,
          bytes_per_word(a, class_begin + classes, classes, size)};
}

static inline NextLines next_lines(const Arguments& a, const Group& group, int64_t class_begin,
                                   int64_t classes, const float* made = nullptr) {
  const bool waits = made != nullptr && group.rows == 1;  // perhaps in the output
  return {ahead_of(a, group, Operand::kInput, class_begin, classes),
          ahead_of(a, group, Operand::kGrad, class_begin, classes),
          waits ? Ahead{reinterpret_cast<const char*>(made), sizeof(float)} : Ahead{},
          group.waiting};
}

/// Scores of classes [class_begin, class_begin + classes): logits + noise, [rows][classes].
template <typename T>
static void load_scores(const Arguments& a, const Group& group, int64_t class_begin,
                        int64_t classes, T* scores) {
  const Strided logits = operand_matrix(a, group, Operand::kInput, class_begin);
  take_group_noise<Add>(a, group, class_begin, classes,
                        values_of(logits, group.rows, classes, scores), scores,
                        next_lines(a, group, class_begin, classes));
}

}  // namespace torch_gumbel::cpu::TG_ISA
