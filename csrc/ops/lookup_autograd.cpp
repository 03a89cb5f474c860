// SPDX-License-Identifier: Apache-2.0
// Autograd of the hard lookup: that of one_hot(index) @ codebook, with the one-hot's gradient
// straight through to the soft sample of the same noise. All of it is ops that have derivatives of
// their own, so every order exists.
#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "autograd_node.h"
#include "derivatives.h"

namespace torch_gumbel::ops {
namespace {

using c10::DispatchKeySet;

struct StraightThroughLookupBackward : public SavingNode {
  SavedVariable logits, codebook, tau, key, index, defined;

  std::string name() const override { return "StraightThroughLookupBackward"; }

  variable_list gradients(const variable_list& grads) override {
    variable_list result(3);
    if (!grads[0].defined()) return result;
    const Tensor codes = codebook.unpack();
    const bool tau_grad = task_should_compute_output(2);
    if (task_should_compute_output(0) || tau_grad) {
      const Tensor x = logits.unpack(), temperature = tau.unpack();
      const auto [grad_logits, rows] =
          hard_backward().call(at::matmul(grads[0], codes.t()), x, temperature, key.unpack(),
                               x.dim() - 1, tau_grad, std::nullopt, std::nullopt);
      if (task_should_compute_output(0)) result[0] = grad_logits;
      if (tau_grad) result[2] = reduce_to_tau(rows, temperature);
    }
    if (task_should_compute_output(1)) result[1] = codebook_gradient(grads[0], codes);
    return result;
  }

  std::vector<SavedVariable*> saved() override {
    return {&logits, &codebook, &tau, &key, &index, &defined};
  }

 private:
  /// one_hot^T @ grad, but for undefined rows. Where that is differentiated at the logits, the
  /// one-hot itself is made, which has the straight-through gradient; else rows are added up.
  Tensor codebook_gradient(const Tensor& grad, const Tensor& codes) {
    const Tensor x = logits.unpack(), temperature = tau.unpack();
    const Tensor undefined = defined.unpack().logical_not().unsqueeze(-1);
    const Tensor drawn = grad.masked_fill(undefined, 0).flatten(0, -2);
    if (is_differentiated(x, temperature)) {
      const Tensor one_hot =
          softmax().call(x, temperature, key.unpack(), x.dim() - 1, /*hard=*/true,
                         codes.scalar_type(), std::nullopt, std::nullopt);
      return at::matmul(one_hot.masked_fill(undefined, 0).flatten(0, -2).t(), drawn);
    }
    const Tensor none = at::zeros_symint(codes.sym_sizes(), codes.options());
    return none.index_add(0, index.unpack().flatten(), drawn);
  }
};

Tensor tangent(const Tensor& logits, const Tensor& codebook, const Tensor& tau, const Tensor& key,
               const LookupResult& result) {
  const auto& [output, index, defined] = result;
  const Tensor logits_t = tangent_of(logits), tau_t = tangent_of(tau),
               codes_t = tangent_of(codebook);
  Tensor sum;
  if (logits_t.defined() || tau_t.defined()) {
    const Tensor y_t =
        tangent_of_hard_sample(logits_t, tau_t, primal(logits), primal(tau), key, logits.dim() - 1,
                               output.scalar_type(), std::nullopt, std::nullopt);
    sum = at::matmul(y_t, primal(codebook));
  }
  if (codes_t.defined()) {
    const Tensor drawn = codes_t.index_select(0, index.flatten()).view_symint(output.sym_sizes());
    sum = sum.defined() ? sum + drawn : drawn;
  }
  return sum;
}

LookupResult lookup_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& codebook,
                             const Tensor& tau, const Tensor& key) {
  const auto node = node_if_needed<StraightThroughLookupBackward>(logits, codebook, tau);
  const LookupResult result = below_autograd(lookup(), keys, logits, codebook, tau, key);
  const auto& [output, index, defined] = result;
  if (node) {
    torch::autograd::set_history(output, node.pointer);
    node->logits = SavedVariable(logits, false);
    node->codebook = SavedVariable(codebook, false);
    node->tau = SavedVariable(tau, false);
    node->key = SavedVariable(savable(key), false);
    node->index = SavedVariable(index, false);
    node->defined = SavedVariable(defined, false);
  }
  if (isFwGradDefined(logits) || isFwGradDefined(codebook) || isFwGradDefined(tau))
    set_tangent(output, tangent(logits, codebook, tau, key, result));
  return result;
}

TORCH_LIBRARY_IMPL(torch_gumbel, Autograd, m) {
  m.impl("_straight_through_lookup", TORCH_FN(lookup_autograd));
}

}  // namespace
}  // namespace torch_gumbel::ops
