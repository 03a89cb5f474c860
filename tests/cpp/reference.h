// SPDX-License-Identifier: Apache-2.0
// What the kernels should give, in float64 from the words of a key, one row at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "problem.h"

namespace torch_gumbel::testing {

/// Noise of a word by the C library, in float64. `both_words`: the extension counts for every word.
double true_noise(math::Key key, uint64_t position, bool both_words);

/// The score that a choice is made by, in the bits that every build promises.
double exact_score(const Problem& problem, int64_t row, int64_t k);

/// The first maximum of a row's exact scores.
int64_t exact_choice(const Problem& problem, int64_t row);

/// softmax((logits + noise) / tau) of a row, and its log-sum-exp.
std::vector<double> true_sample(const Problem& problem, int64_t row, double* lse);

/// Compares every result of a problem that was run with the reference, within the promised bounds
/// times `allowance`. Rows must have a distribution.
void expect_reference(const Problem& problem, double allowance = 1);

/// Runs a case on every build: the first against the reference, the others against its bits.
void check_every_build(const Case& wanted);

}  // namespace torch_gumbel::testing
