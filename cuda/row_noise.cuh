// SPDX-License-Identifier: Apache-2.0
// The noise of a row, and the scores it makes of logits.
#pragma once

#include "../csrc/math/gumbel.h"
#include "../csrc/math/softmax.h"
#include "block.cuh"
#include "element.cuh"

namespace torch_gumbel::cuda {

/// Whether a word's noise depends on its extension; float64 noise always does.
template <typename T>
__device__ __forceinline__ bool needs_extension(uint32_t word) {
  return sizeof(T) == sizeof(double) || word < math::kExtendBelow;
}

__device__ __forceinline__ void noise_of(uint32_t word, uint32_t extension, float& noise) {
  noise = math::gumbel(word, extension);
}

__device__ __forceinline__ void noise_of(uint32_t word, uint32_t extension, double& noise) {
  noise = math::gumbel64(word, extension);
}

/// Noise of the four positions of block `index`.
template <typename T>
__device__ __forceinline__ void block_noise(math::Key key, uint64_t index, T (&noise)[4]) {
  const math::Block words = math::key_block(key, index);
  bool extend = false;
  for (uint32_t word : words.word) extend |= needs_extension<T>(word);
  math::Block extensions = {};
  if (extend) extensions = math::key_block(key, index, math::Plane::kExtension);
  for (int i = 0; i < 4; ++i) noise_of(words.word[i], extensions.word[i], noise[i]);
}

template <typename T>
__device__ __forceinline__ T position_noise(math::Key key, uint64_t position) {
  const uint32_t word = math::key_word(key, position);
  const uint32_t extension =
      needs_extension<T>(word) ? math::key_word(key, position, math::Plane::kExtension) : 0;
  T noise;
  noise_of(word, extension, noise);
  return noise;
}

/// Classes whose words follow each other from `first` on: a thread takes whole blocks of four
/// words. The first block and the last may belong to the row in part.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_noise_run(math::Key key, uint64_t first, int64_t classes,
                                                   Visit visit) {
  const auto before = static_cast<int64_t>(first % 4);
  for (int64_t k = 4 * int64_t{threadIdx.x} - before; k < classes; k += 4 * kThreads) {
    T noise[4];
    block_noise(key, (first + static_cast<uint64_t>(k)) / 4, noise);
    for (int i = 0; i < 4; ++i)
      if (k + i >= 0 && k + i < classes) visit(k + i, noise[i]);
  }
}

/// Calls visit(k, noise of class k) for every class of this thread, in ascending order.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_noise(const Arguments& a, const Row& row, Visit visit) {
  const math::Key key = key_of(a, row);
  const auto first = static_cast<uint64_t>(row[Operand::kWord]);
  const auto step = static_cast<uint64_t>(a.rows.step(Operand::kWord));
  if (step == 1) return for_each_noise_run<T>(key, first, a.rows.classes, visit);
  for_each_class(a.rows, [&](int64_t k) {
    visit(k, position_noise<T>(key, first + static_cast<uint64_t>(k) * step));
  });
}

/// +inf leaves its row as undefined as NaN does, and becomes NaN.
template <typename T>
__device__ __forceinline__ T defined_score(T score) {
  return score == static_cast<T>(__builtin_inf()) ? static_cast<T>(__builtin_nan("")) : score;
}

/// Calls visit(k, score of class k), score = scaled logit + noise, as defined_score has it.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_score(const Arguments& a, const Row& row, T factor,
                                               Visit visit) {
  for_each_noise<T>(a, row, [&](int64_t k, T noise) {
    visit(k, defined_score(math::scaled_logit(load_input<T>(a, row, k), factor) + noise));
  });
}

/// The same without noise, and unscaled.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_plain_score(const Arguments& a, const Row& row,
                                                     Visit visit) {
  for_each_class(a.rows, [&](int64_t k) { visit(k, defined_score(load_input<T>(a, row, k))); });
}

template <typename T>
__global__ void __launch_bounds__(kThreads) noise_kernel(const __grid_constant__ Arguments a) {
  for_each_row(a.rows, [&](int64_t, const Row& row) {
    for_each_noise<T>(a, row, [&](int64_t k, T noise) { store_output(a, row, k, noise); });
  });
}

}  // namespace torch_gumbel::cuda
