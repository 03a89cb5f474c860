// SPDX-License-Identifier: Apache-2.0
// The parameter of the kernels of relaxed k-hot samples, and where they keep the rounds of a row.
#pragma once

#include "../../csrc/math/subset.h"
#include "problem.h"

namespace torch_gumbel::cuda {

/// A round as the backward needs it: the largest class, what it has, 1 - that, and its score.
template <typename T>
struct SubsetRound {
  int64_t largest;
  T a, rest, score;
};

/// Problem, whose workspace holds as many rows as the blocks process at a time.
struct SubsetProblem : Problem {
  int64_t k = 0;
  int64_t rows_at_once = 0;
};

/// Rounds whose scores, and whose weights, are kept.
struct SubsetKept {
  int64_t scores, weights;

  TG_HD static SubsetKept of(const KernelParams& a, int64_t k) {
    const bool backward = a.grad != nullptr;
    return {backward && a.row_value != nullptr ? k : 1, backward ? k : 0};
  }
};

/// The workspace: rounds [weights, rows], then scores and weights, [scores + weights, rows,
/// classes], or, of spatial rows, [scores + weights, classes, rows].
template <typename T>
TG_HD int64_t subset_workspace_bytes(const SubsetProblem& p) {
  const SubsetKept kept = SubsetKept::of(p.a, p.k);
  const auto of_round = static_cast<int64_t>(sizeof(SubsetRound<T>));
  const auto of_class = static_cast<int64_t>(sizeof(T));
  return p.rows_at_once *
         (kept.weights * of_round + (kept.scores + kept.weights) * p.a.rows.classes * of_class);
}

}  // namespace torch_gumbel::cuda
