// SPDX-License-Identifier: Apache-2.0
// The parameter of the kernels of log-probabilities and entropies.
#pragma once

#include "../../csrc/math/log_prob.h"
#include "problem.h"

namespace torch_gumbel::cuda {

/// Problem, with the values of rows of LogProbParams.
struct LogProbProblem : Problem {
  void *log_prob, *entropy, *max, *sum, *mean;
  const void *grad_log_prob, *grad_entropy;
};

}  // namespace torch_gumbel::cuda
