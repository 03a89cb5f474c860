// SPDX-License-Identifier: Apache-2.0
// Random words and scores of the fast kernels.
//
// Where only a soft value depends on it, noise is computed by the GPU's own logarithms and lies
// within kScoreError of csrc/math/gumbel.h's; where bits are promised, from csrc/math itself.
#pragma once

#include "../../csrc/math/gumbel.h"
#include "aligned_row.cuh"

namespace torch_gumbel::cuda {

/// The key of a row. A key that the host read comes with its round keys, in constant memory.
template <bool kOnDevice>
struct RowKey;

template <>
struct RowKey<false> {
  const Problem& p;

  __device__ __forceinline__ RowKey(const Problem& problem, const Row&) : p(problem) {}
  __device__ __forceinline__ uint64_t offset() const { return p.a.host_key.offset; }
  __device__ __forceinline__ const math::RoundKeys<>& round_keys() const { return p.keys; }
  __device__ __forceinline__ math::Block words(math::Block counter) const {
    return math::philox4x32(counter, p.keys);
  }
};

template <>
struct RowKey<true> {
  uint64_t first;
  math::RoundKeys<> keys;

  __device__ __forceinline__ RowKey(const Problem& problem, const Row& row) {
    const uint64_t* key = problem.a.key + row[Operand::kKey];
    keys = math::round_keys(key[0]);
    first = key[1];
  }
  __device__ __forceinline__ uint64_t offset() const { return first; }
  __device__ __forceinline__ const math::RoundKeys<>& round_keys() const { return keys; }
  __device__ __forceinline__ math::Block words(math::Block counter) const {
    return math::philox4x32(counter, keys);
  }
};

__device__ __forceinline__ uint32_t word_of(const math::Block& block, unsigned at) {
  const uint32_t low = at & 1 ? block.word[1] : block.word[0];
  const uint32_t high = at & 1 ? block.word[3] : block.word[2];
  return at & 2 ? high : low;
}

/// The word of a position: whatever its plane, counters wrap at 2^64.
template <typename Key>
__device__ __forceinline__ uint32_t position_word(const Key& key, uint64_t position,
                                                  math::Plane plane = math::Plane::kWord) {
  const auto counter = math::counter_block(key.offset() + position / 4, plane);
  return word_of(key.words(counter), static_cast<unsigned>(position % 4));
}

/// The noise of one position, in the bits of every device.
template <typename Key>
__device__ __forceinline__ float exact_noise(const Key& key, uint64_t position, uint32_t word) {
  uint32_t extension = 0;
  if (word < math::kExtendBelow) extension = position_word(key, position, math::Plane::kExtension);
  return math::gumbel(word, extension);
}

/// The counters of a thread's blocks: first, first + step, ... Only the low halves are added; or,
/// with kProducts, their products in Philox's first round, which saves an instruction and takes two
/// registers.
template <bool kProducts = true>
struct Counters {
  uint32_t low;
  uint32_t high;

  __device__ __forceinline__ explicit Counters(uint64_t first)
      : low(static_cast<uint32_t>(first)), high(static_cast<uint32_t>(first >> 32)) {}

  template <typename Key>
  __device__ __forceinline__ math::Block words(const Key& key, uint32_t step) const {
    const uint64_t product = kProducts ? math::philox_product(low) + math::philox_product(step)
                                       : math::philox_product(low + step);
    return math::philox4x32(product, {{0, high, 0, 0}}, key.round_keys());
  }
  /// Whether a step of up to `last` leaves the low half, so that words() is wrong.
  __device__ __forceinline__ bool wraps(uint32_t last) const { return low + last < low; }
};

// Fast noise: g = -log e, e = exp1 = -log(1 - v), v = (w + 1/2) 2^-32, by the GPU's logarithms.

constexpr float kMinusLn2 = -0x1.62e430p-1f;
constexpr uint32_t kSmallWord = 1u << 26;  // v = 1/64

/// Bound of |fast score - exact score|, less 2^-22 of the score's magnitude for roundings. Relative
/// errors of e are errors of g: where v >= 1/64, the first logarithm's 2^-22 ln 2 and 1 - v's 2^-25
/// against e; below, 2^-16.6 of the polynomial and 2^-22 * 32 ln 2 of the second logarithm; and
/// csrc/math's own error (docs/internals/design.md adds them up).
constexpr float kScoreError = 0x1p-15f;

/// 2^32 - w where v >= 1/64, else w.
__device__ __forceinline__ uint32_t reflected_bits(uint32_t word) {
  return negated_unless_below(word, kSmallWord);
}

/// log2(1 - v) of a word without extension. Above v = 1/64 from 1 - v, which 2^32 - w gives in full
/// precision even for v near 1; below, where 1 - v would lose v's low bits, by a polynomial in the
/// word (docs/fit_polynomials.py).
__device__ __forceinline__ float log2_of_rest(uint32_t word, uint32_t reflected) {
  const auto w = static_cast<float>(reflected);
  const float rest = math::fma(w, 0x1p-32f, -0x1p-33f);
  const float small = math::horner(w, -0x1.71537cp-33f, -0x1.71537cp-32f, -0x1.753804p-65f);
  return log2_unless_below(rest, word, kSmallWord, small);
}

/// The use of fast scores. Those that only filter the few classes whose exact scores decide omit
/// -ln ln 2, the same for all classes, and so a product. Weights need the roundings of exact
/// scores, which a constant added later would not have.
enum class Scoring { kWeights, kFilter };

/// Exact score -> its value on the scale of fast ones.
template <Scoring kFor>
__device__ __forceinline__ float among_fast(float exact) {
  constexpr float kMinusLnLn2 = 0x1.774f2ap-2f;
  return kFor == Scoring::kFilter ? exact - kMinusLnLn2 : exact;
}

/// logit -> fast score.
template <Scoring kFor>
__device__ __forceinline__ float fast_score(float logit, uint32_t word, uint32_t reflected) {
  const float log2_rest = log2_of_rest(word, reflected);
  const float e = kFor == Scoring::kFilter ? -log2_rest : log2_rest * kMinusLn2;
  return math::fma(log2_fast(e), kMinusLn2, logit);
}

/// kCount logits, whose blocks of four begin `step` after the first, become fast scores: correct
/// except where a word is extended. `least` is the smallest of the reflected bits so far: at least
/// kExtendBelow if no word was extended (they keep fewer registers live than the words do).
template <Scoring kFor, int kCount, typename Key, typename Counters>
__device__ __forceinline__ void add_fast_noise(const Key& key, const Counters& counters,
                                               uint32_t step, float* x, uint32_t& least) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const math::Block block = counters.words(key, step + i / 4);
    uint32_t reflected[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      reflected[j] = reflected_bits(block.word[j]);
      x[i + j] = fast_score<kFor>(x[i + j], block.word[j], reflected[j]);
    }
    least = min_word(least, reflected[0], reflected[1]);
    least = min_word(least, reflected[2], reflected[3]);
  }
}

}  // namespace torch_gumbel::cuda
