// SPDX-License-Identifier: Apache-2.0
// The kernels once more, with noise that stops at 16.6: what a transform gives whose uniform
// number is rounded to a float before its logarithm. The tail race must notice.
//
// The two functions of the transform are renamed while their header is read, and replaced.
#define gumbel exact_gumbel
#define gumbel_of_exp1 exact_gumbel_of_exponential
#include "math/gumbel.h"
#undef gumbel
#undef gumbel_of_exp1

namespace torch_gumbel::math {

TG_HD float capped(float noise) { return noise > 16.6f ? 16.6f : noise; }
TG_HD float gumbel_of_exp1(float e) { return capped(exact_gumbel_of_exponential(e)); }
TG_HD float gumbel(uint32_t word, uint32_t extension) {
  return capped(exact_gumbel(word, extension));
}

}  // namespace torch_gumbel::math

#define TG_ISA capped
#include "cpu/kernels.cpp"
