// SPDX-License-Identifier: Apache-2.0
// An upper bound of a class's score that costs one multiply-add, and the threshold that it must
// reach for the class to be the row's choice.
//
// Since exp1 = -log1p(-v) >= v, a score x + g is at most x - log v. The bits of a float, read as an
// integer, lie just below 2^23 times its logarithm, so that no logarithm is taken.
// docs/internals/design.md derives the margin.
#pragma once

#include "host_device.h"

namespace torch_gumbel::math {

constexpr float kOctave = 0x1p23f;                // the unit of bounds: 2^-23 octaves
constexpr float kBoundScale = 0x1.715476p+23f;    // kOctave log2(e)
constexpr float kBoundOffset = 158.0f * kOctave;  // bias of float exponents, and v = (w / 2) 2^-31
constexpr float kLargestBounded = 2e31f;          // beyond, bounds overflow

/// Bound of x + noise(word), in units of 1 / kBoundScale and shifted by kBoundOffset. It rises with
/// x and falls with the word, so the bound of the largest x and the smallest word of several
/// classes bounds them all. NaN for a NaN x.
template <typename F, typename Word>
TG_HD F score_bound(const F& x, const Word& word) {
  const auto half = signed_float(word >> 1);
  return fma(x, F{kBoundScale}, -signed_float(bits_of(half)));
}

/// A class can reach a score of at least `best` only if its bound is at least this. `best` may be
/// less than the row's best score: then more classes pass. -inf if nothing can be ruled out.
TG_HD float pruning_threshold(float best) {
  const float magnitude = best < 0 ? -best : best;
  if (!(magnitude < kLargestBounded)) return -__builtin_inff();
  const float slack = kOctave * (0x1p-14f + magnitude * 0x1p-20f);
  return fma(best, kBoundScale, -kBoundOffset) - slack;
}

}  // namespace torch_gumbel::math
