// SPDX-License-Identifier: Apache-2.0
// Autograd and shapes of relaxed k-hot samples. The backward keeps the scores: nothing of the
// caller's that an edit could change.
#include <torch/library.h>

#include "autograd_node.h"
#include "backend.h"
#include "derivatives.h"
#include "subset.h"

namespace torch_gumbel::ops {
namespace {

using c10::DispatchKeySet;

struct GumbelSubsetBackward : public SavingNode {
  SavedVariable scores, tau;
  int64_t k = 0, dim = 0;

  std::string name() const override { return "GumbelSubsetBackward"; }

  variable_list gradients(const variable_list& grads) override {
    variable_list result(2);
    if (!grads[0].defined()) return result;
    const Tensor temperature = tau.unpack();
    const bool at_tau = task_should_compute_output(1);
    const auto [at_scores, rows] =
        subset_backward().call(grads[0], scores.unpack(), temperature, k, dim, at_tau);
    if (task_should_compute_output(0)) result[0] = at_scores;
    if (at_tau) result[1] = reduce_to_tau(rows, temperature);
    return result;
  }

  std::vector<SavedVariable*> saved() override { return {&scores, &tau}; }
};

/// Where a tangent is wanted, it is that of the formula.
Tensor subset_autograd(DispatchKeySet keys, const Tensor& scores, const Tensor& tau, int64_t k,
                       int64_t dim) {
  if (isFwGradDefined(scores) || isFwGradDefined(tau)) return subset_formula(scores, tau, k, dim);
  const auto node = node_if_needed<GumbelSubsetBackward>(scores, tau);
  const Tensor result = below_autograd(subset(), keys, scores, tau, k, dim);
  if (node) {
    torch::autograd::set_history(result, node.pointer);
    node->scores = SavedVariable(scores, false);
    node->tau = SavedVariable(tau, false);
    node->k = k, node->dim = dim;
  }
  return result;
}

/// Where the gradient is differentiated again, it is its formula.
TensorPair subset_backward_autograd(DispatchKeySet keys, const Tensor& grad, const Tensor& scores,
                                    const Tensor& tau, int64_t k, int64_t dim, bool tau_grad) {
  if (!is_differentiated(grad, scores, tau))
    return below_autograd(subset_backward(), keys, grad, scores, tau, k, dim, tau_grad);
  const auto [at_scores, rows] = subset_gradient(grad, scores, tau, k, dim);
  return {at_scores, tau_grad ? rows : no_rows(scores)};
}

Tensor subset_meta(const Tensor& scores, const Tensor&, int64_t, int64_t) {
  check_meta(scores);
  return empty_like_shape(scores, scores.scalar_type());
}

TensorPair subset_backward_meta(const Tensor&, const Tensor& scores, const Tensor&, int64_t,
                                int64_t dim, bool tau_grad) {
  check_meta(scores);
  return {empty_like_shape(scores, scores.scalar_type()),
          tau_grad ? empty_rows(scores, dim, scores.scalar_type()) : no_rows(scores)};
}

TORCH_LIBRARY_IMPL(torch_gumbel, Autograd, m) {
  m.impl("_gumbel_subset", TORCH_FN(subset_autograd));
  m.impl("_gumbel_subset_backward", TORCH_FN(subset_backward_autograd));
}

TORCH_LIBRARY_IMPL(torch_gumbel, Meta, m) {
  m.impl("_gumbel_subset", TORCH_FN(subset_meta));
  m.impl("_gumbel_subset_backward", TORCH_FN(subset_backward_meta));
}

}  // namespace
}  // namespace torch_gumbel::ops
