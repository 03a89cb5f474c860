// SPDX-License-Identifier: Apache-2.0
// Noise and scores (logits plus noise): the first stage of every op that draws.
#pragma once

#include "convert.h"
#include "floats.h"
#include "words.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Neighbouring rows: row i lies i * step[operand] beyond `first` in each operand.
struct Group {
  int64_t index;  // of the first row
  int64_t rows;
  Row first;
  int64_t step[kOperands];

  int64_t step_of(Operand operand) const { return step[static_cast<int>(operand)]; }
};

/// Cuts rows [begin, end) into groups of at most `limit` rows, none across the innermost row
/// dimension.
template <typename F>
static inline void for_each_group(const Rows& rows, int64_t begin, int64_t end, int64_t limit,
                                  F&& f) {
  const int last = rows.dims - 1;
  const int64_t inner = rows.dims > 0 ? rows.size[last] : 1;
  for (int64_t index = begin; index < end;) {
    const int64_t here = min64(min64(limit, inner - index % inner), end - index);
    Group group = {index, here, row_at(rows, index), {}};
    for (int operand = 0; operand < kOperands; ++operand)
      group.step[operand] = rows.dims > 0 ? rows.stride[operand][last] : 0;
    f(group);
    index += here;
  }
}

static inline Row row_of(const Group& group, int64_t i) {
  Row row = group.first;
  for (int operand = 0; operand < kOperands; ++operand)
    row.offset[operand] += i * group.step[operand];
  return row;
}

/// Classes from `class_begin` on of a group's rows in an operand.
static inline Strided operand_matrix(const Arguments& a, const Group& group, Operand operand,
                                     int64_t class_begin) {
  const void* data = operand == Operand::kInput  ? a.input
                     : operand == Operand::kGrad ? a.grad
                                                 : a.output;
  const DType type = operand == Operand::kInput  ? a.input_type
                     : operand == Operand::kGrad ? a.grad_type
                                                 : a.output_type;
  const int64_t class_step = a.rows.step(operand);
  const int64_t offset = group.first[operand] + class_begin * class_step;
  return {static_cast<const char*>(data) + offset * element_size(type), type,
          group.step_of(operand), class_step};
}

/// The values of a matrix, [rows][classes]: where they lie when nothing needs converting, else
/// copied to `room`.
template <typename T>
static inline const T* values_of(const Strided& from, int64_t rows, int64_t classes, T* room) {
  if (const T* values = packed_values<T>(from, rows, classes)) return values;
  load_matrix(from, rows, classes, room);
  return room;
}

static inline Group single_row(const Group& group, int64_t i) {
  Group row = group;
  row.index += i;
  row.rows = 1;
  row.first = row_of(group, i);
  return row;
}

static inline double tau_at(const Arguments& a, const Row& row) {
  if (a.tau == nullptr) return a.host_tau;
  const int64_t at = row[Operand::kTau];
  double tau = 0;
  with_elements(a.tau_type, a.tau, [&](auto* data) { tau = widen(data[at]); });
  return tau;
}

/// Whether all rows share one temperature.
static inline bool uniform_tau(const Arguments& a, const Group& group) {
  return a.tau == nullptr || group.rows == 1 || group.step_of(Operand::kTau) == 0;
}

static inline bool uniform_key(const Arguments& a, const Group& group) {
  return a.key == nullptr || group.rows == 1 || group.step_of(Operand::kKey) == 0;
}

/// Words of positions [first, first + count), count <= kTile, with their neighbours in the same
/// blocks.
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
  alignas(64) uint32_t words_[kTile + 8 + kWordSlack];
  math::Key key_;
  uint64_t first_;
};

/// E of words as if none were extended; returns the smallest of them. Asks for the gradients of
/// `ahead`: logits and gradients at once would be more than memory gives while words are made.
TG_STAGE uint32_t exponentials_of(const uint32_t* words, int64_t count, float* exponentials,
                                  Ahead ahead = {}) {
  constexpr int64_t kStep = 512;
  Smallest smallest;
  for (int64_t begin = 0; begin < count; begin += kStep) {
    for_each_place<float>(begin, min64(begin + kStep, count), [&](auto at) TG_INLINE {
      const auto word = at.load(words);
      at.store(math::exponential(word), exponentials);
      smallest.see(word);
    });
    ahead.fetch(Ahead::kGrads, begin, kStep);
  }
  return smallest.word();
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

/// E of positions first, ..., first + count - 1, count <= kTile.
static void fill_exponentials(math::Key key, uint64_t first, int64_t count, float* exponentials,
                              Ahead ahead) {
  const WordRun run(key, first, count, ahead);
  const uint32_t* words = run.words();
  if (exponentials_of(words, count, exponentials, ahead) < math::kExtendBelow)
    extend_exponentials(run, count, exponentials);
}

/// result[i] = Take of x[i] and the noise of position first + i, count <= kTile; x may be result.
template <typename Take>
static void take_noise(math::Key key, uint64_t first, int64_t count, const float* x, float* result,
                       Ahead ahead) {
  alignas(64) float exponentials[kTile];
  fill_exponentials(key, first, count, exponentials, ahead);
  for_each_place<float>(0, count, [&](auto at) TG_INLINE {
    at.store(Take::apply(at.load(x), at.load(exponentials)), result);
  });
}

template <typename Take>
static void take_noise(math::Key key, uint64_t first, int64_t count, const double* x,
                       double* result, Ahead ahead) {
  const WordRun run(key, first, count, ahead);
  const WordRun extensions(key, first, count, {}, math::Plane::kExtension);
  const uint32_t *words = run.words(), *second = extensions.words();
  for (int64_t i = 0; i < count; ++i)
    result[i] = Take::apply(x[i], math::gumbel64(words[i], second[i]));
}

/// take_noise for a run of any length.
template <typename Take, typename T>
static inline void take_noise_run(math::Key key, uint64_t first, int64_t count, const T* x,
                                  T* result, Ahead ahead = {}) {
  for (int64_t done = 0; done < count; done += kTile) {
    take_noise<Take>(key, first + static_cast<uint64_t>(done), min64(kTile, count - done), x + done,
                     result + done, ahead);
    ahead.skip(kTile);
  }
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
                             int64_t classes, const T* x, T* result, Ahead ahead = {}) {
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
                                ahead);
  for (int64_t i = 0; i < group.rows; ++i) {
    const Row row = row_of(group, i);
    take_noise_run<Take>(key_of(a, row), static_cast<uint64_t>(row[Operand::kWord] + class_begin),
                         classes, x + i * classes, result + i * classes);
  }
}

/// What lies behind a group's classes in memory: the next thing to be read, if rows are walked in
/// order.
static inline Ahead ahead_of(const Arguments& a, const Group& group, int64_t class_begin,
                             int64_t classes) {
  Ahead ahead;
  const Operand operands[] = {Operand::kInput, Operand::kGrad};
  for (int i = 0; i < 2; ++i) {
    const Strided matrix = operand_matrix(a, group, operands[i], class_begin);
    if (!matrix.packed(group.rows, classes) || (operands[i] == Operand::kGrad && a.grad == nullptr))
      continue;
    const int64_t size = element_size(matrix.type);
    ahead.data[i] = static_cast<const char*>(matrix.data) + group.rows * classes * size;
    ahead.bytes_per_word[i] = size;
  }
  return ahead;
}

/// Scores of classes [class_begin, class_begin + classes): logits + noise, [rows][classes].
template <typename T>
static void load_scores(const Arguments& a, const Group& group, int64_t class_begin,
                        int64_t classes, T* scores) {
  const Strided logits = operand_matrix(a, group, Operand::kInput, class_begin);
  take_group_noise<Add>(a, group, class_begin, classes,
                        values_of(logits, group.rows, classes, scores), scores,
                        ahead_of(a, group, class_begin, classes));
}

}  // namespace torch_gumbel::cpu::TG_ISA
