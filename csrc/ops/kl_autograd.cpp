// SPDX-License-Identifier: Apache-2.0
// Autograd of the relative entropy of rows.
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <torch/library.h>

#include "autograd_node.h"
#include "kl.h"
#include "sums.h"

namespace torch_gumbel::ops {
namespace {

using c10::DispatchKeySet;
using std::optional;

/// An absent prior as the undefined tensor that nodes know.
Tensor or_undefined(const optional<Tensor>& tensor) { return tensor.value_or(Tensor()); }

optional<Tensor> or_absent(const Tensor& tensor) {
  return tensor.defined() ? optional<Tensor>(tensor) : std::nullopt;
}

/// d KL / d log_prior_k = -q_k
Tensor prior_gradient(const Tensor& grad_rows, const Tensor& values, const Tensor& log_prior,
                      int64_t dim, bool from_probs) {
  const Tensor q = kl_probabilities(values, dim, from_probs);
  return sum_to_shape(-grad_rows * q, log_prior.sym_sizes()).to(log_prior.scalar_type());
}

struct KlCategoricalBackward : public SavingNode {
  SavedVariable values, log_prior, kl, base, log_sum;
  int64_t dim = 0;
  bool from_probs = false;

  std::string name() const override { return "KlCategoricalBackward"; }

  variable_list gradients(const variable_list& grads) override {
    variable_list result(2);
    if (!grads[0].defined()) return result;
    const Tensor x = values.unpack(), prior = log_prior.unpack();
    if (task_should_compute_output(0))
      result[0] = kl_backward().call(grads[0], x, kl.unpack(), base.unpack(), log_sum.unpack(),
                                     or_absent(prior), dim, from_probs);
    if (task_should_compute_output(1))
      result[1] = prior_gradient(grads[0], x, prior, dim, from_probs);
    return result;
  }

  std::vector<SavedVariable*> saved() override {
    return {&values, &log_prior, &kl, &base, &log_sum};
  }
};

Tensor tangent(const Tensor& values, const Tensor& log_prior, const KlResult& result, int64_t dim,
               bool from_probs) {
  const auto& [kl, base, log_sum] = result;
  const Tensor x = primal(values), prior = primal(log_prior);
  const Tensor x_t = tangent_of(values), prior_t = tangent_of(log_prior);
  const Tensor one = at::ones_like(kl);
  Tensor sum;
  if (x_t.defined()) {
    const Tensor gradient =
        kl_backward().call(one, x, kl, base, log_sum, or_absent(prior), dim, from_probs);
    sum = (gradient.to(kl.scalar_type()) * x_t).sum(dim, /*keepdim=*/true);
  }
  if (prior_t.defined()) {
    const Tensor at_prior =
        -(kl_probabilities(x, dim, from_probs) * prior_t).sum(dim, /*keepdim=*/true);
    sum = sum.defined() ? sum + at_prior : at_prior;
  }
  return sum.to(kl.scalar_type());
}

KlResult kl_autograd(DispatchKeySet keys, const Tensor& values, const optional<Tensor>& given_prior,
                     int64_t dim, bool from_probs) {
  const Tensor log_prior = or_undefined(given_prior);
  const auto node = node_if_needed<KlCategoricalBackward>(values, log_prior);
  const KlResult result = below_autograd(kl(), keys, values, given_prior, dim, from_probs);
  const auto& [value, base, log_sum] = result;
  if (node) {
    torch::autograd::set_history(value, node.pointer);
    node->values = SavedVariable(values, false);
    node->log_prior = SavedVariable(log_prior, false);
    // Numbers that the backward reads; it is a function of the values alone.
    node->kl = SavedVariable(value.detach(), false);
    node->base = SavedVariable(base, false);
    node->log_sum = SavedVariable(log_sum, false);
    node->dim = dim;
    node->from_probs = from_probs;
  }
  if (isFwGradDefined(values) || isFwGradDefined(log_prior))
    set_tangent(value, tangent(values, log_prior, result, dim, from_probs));
  return result;
}

/// Where the gradient is differentiated again, it is its formula.
Tensor kl_backward_autograd(DispatchKeySet keys, const Tensor& grad_rows, const Tensor& values,
                            const Tensor& kl_rows, const Tensor& base_rows,
                            const Tensor& log_sum_rows, const optional<Tensor>& given_prior,
                            int64_t dim, bool from_probs) {
  const Tensor log_prior = or_undefined(given_prior);
  if (is_differentiated(grad_rows, values, log_prior))
    return kl_gradient(grad_rows, values, given_prior, dim, from_probs);
  return below_autograd(kl_backward(), keys, grad_rows, values, kl_rows, base_rows, log_sum_rows,
                        given_prior, dim, from_probs);
}

TORCH_LIBRARY_IMPL(torch_gumbel, Autograd, m) {
  m.impl("_kl_categorical", TORCH_FN(kl_autograd));
  m.impl("_kl_categorical_backward", TORCH_FN(kl_backward_autograd));
}

}  // namespace
}  // namespace torch_gumbel::ops
