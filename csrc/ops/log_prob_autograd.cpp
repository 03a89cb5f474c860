// SPDX-License-Identifier: Apache-2.0
// Autograd of log-probabilities and entropies.
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <torch/library.h>

#include "autograd_node.h"
#include "backend.h"
#include "derivatives.h"
#include "log_prob.h"

namespace torch_gumbel::ops {
namespace {

using c10::DispatchKeySet;
using std::optional;

Tensor or_undefined(const optional<Tensor>& tensor) { return tensor.value_or(Tensor()); }

optional<Tensor> or_absent(const Tensor& tensor) {
  return tensor.defined() ? optional<Tensor>(tensor) : std::nullopt;
}

struct LogProbEntropyBackward : public SavingNode {
  // Of rows: numbers that only the backward reads.
  SavedVariable logits, index, temperature, max, sum, mean;
  int64_t dim = 0;

  std::string name() const override { return "LogProbEntropyBackward"; }

  variable_list gradients(const variable_list& grads) override {
    variable_list result(2);
    if (!grads[0].defined() && !grads[1].defined()) return result;
    const Tensor tau = temperature.unpack();
    const bool at_tau = task_should_compute_output(1);
    const auto [at_logits, rows] = log_prob_backward().call(
        or_absent(grads[0]), or_absent(grads[1]), logits.unpack(), index.unpack(), tau,
        max.unpack(), sum.unpack(), mean.unpack(), dim, at_tau);
    if (task_should_compute_output(0)) result[0] = at_logits;
    if (at_tau) result[1] = reduce_to_tau(rows, tau);
    return result;
  }

  std::vector<SavedVariable*> saved() override {
    return {&logits, &index, &temperature, &max, &sum, &mean};
  }
};

/// Tangent of log_prob, or of the entropy, whose gradient of 1 is in `at`.
Tensor tangent(const TensorPair& at, const Tensor& logits_t, const Tensor& tau_t, int64_t dim) {
  const auto& [at_logits, at_tau] = at;
  Tensor sum;
  if (logits_t.defined())
    sum = (at_logits.to(at_tau.scalar_type()) * logits_t).sum(dim, /*keepdim=*/true);
  if (tau_t.defined()) {
    const Tensor of_tau = at_tau * tau_t.to(at_tau.options());
    sum = sum.defined() ? sum + of_tau : of_tau;
  }
  return sum.to(at_tau.scalar_type());
}

void set_tangents(const LogProbResult& results, const Tensor& logits, const Tensor& index,
                  const Tensor& temperature, int64_t dim) {
  const auto& [log_prob, entropy, max, sum, mean] = results;
  const Tensor one = at::ones_like(max), x = primal(logits), tau = primal(temperature);
  const auto gradient = [&](const optional<Tensor>& a, const optional<Tensor>& b) {
    return log_prob_backward().call(a, b, x, index, tau, max, sum, mean, dim, true);
  };
  const Tensor x_t = tangent_of(logits), tau_t = tangent_of(temperature);
  set_tangent(log_prob, tangent(gradient(one, std::nullopt), x_t, tau_t, dim));
  set_tangent(entropy, tangent(gradient(std::nullopt, one), x_t, tau_t, dim));
}

LogProbResult log_prob_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& index,
                                const Tensor& temperature, int64_t dim) {
  const auto node = node_if_needed<LogProbEntropyBackward>(logits, temperature);
  const LogProbResult results = below_autograd(log_prob(), keys, logits, index, temperature, dim);
  const auto& [log_prob, entropy, max, sum, mean] = results;
  if (node) {
    torch::autograd::set_history(log_prob, node.pointer);
    torch::autograd::set_history(entropy, node.pointer);
    node->logits = SavedVariable(logits, false);
    node->index = SavedVariable(index, false);
    node->temperature = SavedVariable(temperature, false);
    node->max = SavedVariable(max, false);
    node->sum = SavedVariable(sum, false);
    node->mean = SavedVariable(mean, false);
    node->dim = dim;
  }
  if (isFwGradDefined(logits) || isFwGradDefined(temperature))
    set_tangents(results, logits, index, temperature, dim);
  return results;
}

/// Where the gradient is differentiated again, it is its formula.
TensorPair log_prob_backward_autograd(DispatchKeySet keys, const optional<Tensor>& grad_log_prob,
                                      const optional<Tensor>& grad_entropy, const Tensor& logits,
                                      const Tensor& index, const Tensor& temperature,
                                      const Tensor& max, const Tensor& sum, const Tensor& mean,
                                      int64_t dim, bool temperature_grad) {
  const Tensor a = or_undefined(grad_log_prob), b = or_undefined(grad_entropy);
  if (!is_differentiated(a, b, logits, temperature))
    return below_autograd(log_prob_backward(), keys, grad_log_prob, grad_entropy, logits, index,
                          temperature, max, sum, mean, dim, temperature_grad);
  const auto [at_logits, rows] = log_prob_gradient(a, b, logits, index, temperature, dim);
  return {at_logits, temperature_grad ? rows : no_rows(logits)};
}

TORCH_LIBRARY_IMPL(torch_gumbel, Autograd, m) {
  m.impl("_log_prob_entropy", TORCH_FN(log_prob_autograd));
  m.impl("_log_prob_entropy_backward", TORCH_FN(log_prob_backward_autograd));
}

}  // namespace
}  // namespace torch_gumbel::ops
