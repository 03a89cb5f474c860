// SPDX-License-Identifier: Apache-2.0
// Batching rules of relaxed k-hot samples.
#include <torch/library.h>

#include "batching.h"
#include "subset.h"

namespace torch_gumbel::ops {
namespace {

Tensor subset_batch(const Tensor& scores, const Tensor& tau, int64_t k, int64_t dim) {
  const RuleLevel level;
  if (!level.any({&scores, &tau})) return subset().call(scores, tau, k, dim);
  const Tensor x = level.operand(scores);
  return level.wrap(subset().call(x, level.temperature(tau, x), k, dim + 1), false);
}

TensorPair subset_backward_batch(const Tensor& grad, const Tensor& scores, const Tensor& tau,
                                 int64_t k, int64_t dim, bool tau_grad) {
  const RuleLevel level;
  if (!level.any({&grad, &scores, &tau}))
    return subset_backward().call(grad, scores, tau, k, dim, tau_grad);
  const Tensor x = level.operand(scores);
  const auto [at_scores, rows] = subset_backward().call(
      level.operand(grad), x, level.temperature(tau, x), k, dim + 1, tau_grad);
  return {level.wrap(at_scores, false), tau_grad ? level.wrap(rows, false) : rows};
}

TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchBatched, m) {
  m.impl("_gumbel_subset", TORCH_FN(subset_batch));
  m.impl("_gumbel_subset_backward", TORCH_FN(subset_backward_batch));
}

}  // namespace
}  // namespace torch_gumbel::ops
