// SPDX-License-Identifier: Apache-2.0
// Autograd of gumbel_softmax: reverse mode by hand-written nodes, forward mode by tangents. A
// torch::autograd::Function would refuse every torch.func transform; nodes are what PyTorch's own
// derivatives are.
#include <ATen/TensorOperators.h>
#include <torch/library.h>

#include "autograd_node.h"
#include "derivatives.h"
#include "params.h"

namespace torch_gumbel::ops {
namespace {

using c10::DispatchKeySet;
using Shape = OptionalSymIntArrayRef;

/// Gives gradients at logits and tau.
struct SampleNode : public SavingNode {
  SavedVariable tau;
  ScalarType logits_type = ScalarType::Float;
  int64_t dim = 0;

  void keep(const Tensor& logits, const Tensor& tau_of_call, int64_t dim_of_call) {
    tau = SavedVariable(tau_of_call, false);
    logits_type = logits.scalar_type();
    dim = dim_of_call;
  }

  /// `rows`: the gradient at tau, row by row.
  variable_list wanted(const Tensor& grad_logits, const Tensor& rows, const Tensor& temperature) {
    variable_list result(2);
    if (task_should_compute_output(0)) result[0] = grad_logits;
    if (task_should_compute_output(1) && rows.defined())
      result[1] = reduce_to_tau(rows, temperature);
    return result;
  }
};

struct GumbelSoftmaxBackward : public SampleNode {
  SavedVariable output, logits, key;  // soft: output; hard: logits and key
  SavedShape full_shape, start;
  bool hard = false;

  std::string name() const override { return "GumbelSoftmaxBackward"; }

  variable_list gradients(const variable_list& grads) override {
    if (!grads[0].defined()) return variable_list(2);
    const Tensor temperature = tau.unpack();
    const bool tau_grad = task_should_compute_output(1);
    auto [grad_logits, rows] =
        hard ? hard_backward().call(grads[0], logits.unpack(), temperature, key.unpack(), dim,
                                    tau_grad, full_shape.get(), start.get())
             : backward().call(grads[0], output.unpack(pointer_to(this)), temperature, dim,
                               logits_type, tau_grad);
    return wanted(grad_logits, rows, temperature);
  }

  std::vector<SavedVariable*> saved() override { return {&output, &logits, &tau, &key}; }
};

Tensor softmax_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& tau,
                        const Tensor& key, int64_t dim, bool hard, std::optional<ScalarType> dtype,
                        Shape full_shape, Shape start) {
  const auto node = node_if_needed<GumbelSoftmaxBackward>(logits, tau);
  const Tensor output =
      below_autograd(softmax(), keys, logits, tau, key, dim, hard, dtype, full_shape, start);
  if (node) torch::autograd::set_history(output, node.pointer);
  if (isFwGradDefined(logits) || isFwGradDefined(tau))
    set_tangent(output, hard ? tangent_of_hard_sample(tangent_of(logits), tangent_of(tau),
                                                      primal(logits), primal(tau), key, dim,
                                                      output.scalar_type(), full_shape, start)
                             : tangent_of_sample(tangent_of(logits), tangent_of(tau), output,
                                                 primal(tau), dim, output.scalar_type()));
  if (!node) return output;
  node->keep(logits, tau, dim);
  node->hard = hard;
  if (hard) {
    node->logits = SavedVariable(logits, false);
    node->key = SavedVariable(savable(key), false);
    node->full_shape = SavedShape(full_shape);
    node->start = SavedShape(start);
  } else {
    node->output =
        SavedVariable(output, /*is_output=*/true);  // after its tangent, which it takes along
  }
  return output;
}

/// The gradient at the one-hot is that at the soft sample of the same noise, which is kept: as a
/// result, so that second derivatives go through it, too.
struct GumbelSoftmaxHardBackward : public SampleNode {
  SavedVariable soft;

  std::string name() const override { return "GumbelSoftmaxHardBackward"; }

  variable_list gradients(const variable_list& grads) override {
    if (!grads[0].defined() && !grads[1].defined()) return variable_list(2);
    const bool both = grads[0].defined() && grads[1].defined();
    const Tensor grad = both ? grads[0] + grads[1] : grads[0].defined() ? grads[0] : grads[1];
    const Tensor temperature = tau.unpack();
    const bool tau_grad = task_should_compute_output(1);
    const auto [grad_logits, rows] = backward().call(grad, soft.unpack(pointer_to(this)),
                                                     temperature, dim, logits_type, tau_grad);
    return wanted(grad_logits, rows, temperature);
  }

  std::vector<SavedVariable*> saved() override { return {&soft, &tau}; }
};

TensorPair hard_soft_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& tau,
                              const Tensor& key, int64_t dim, std::optional<ScalarType> dtype,
                              Shape full_shape, Shape start) {
  const auto node = node_if_needed<GumbelSoftmaxHardBackward>(logits, tau);
  auto results = below_autograd(hard_soft(), keys, logits, tau, key, dim, dtype, full_shape, start);
  const auto& [one_hot, soft] = results;
  if (node) torch::autograd::set_history({one_hot, soft}, node.pointer);
  if (isFwGradDefined(logits) || isFwGradDefined(tau)) {
    const Tensor tangent = tangent_of_sample(tangent_of(logits), tangent_of(tau), soft, primal(tau),
                                             dim, soft.scalar_type());
    set_tangent(one_hot, tangent);
    set_tangent(soft, tangent);
  }
  if (!node) return results;
  node->soft = SavedVariable(soft, /*is_output=*/true);
  node->keep(logits, tau, dim);
  return results;
}

/// The soft sample is made only where a derivative needs it.
Tensor hard_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& tau,
                     const Tensor& key, int64_t dim, std::optional<ScalarType> dtype,
                     Shape full_shape, Shape start) {
  if (!is_differentiated(logits, tau))
    return below_autograd(hard(), keys, logits, tau, key, dim, dtype, full_shape, start);
  return std::get<0>(hard_soft().call(logits, tau, key, dim, dtype, full_shape, start));
}

struct GumbelSoftmaxLseBackward : public SampleNode {
  SavedVariable output, lse;

  std::string name() const override { return "GumbelSoftmaxLseBackward"; }

  variable_list gradients(const variable_list& grads) override {
    const Tensor temperature = tau.unpack(), y = output.unpack(pointer_to(this)),
                 log_sum = lse.unpack(pointer_to(this));
    const bool tau_grad = task_should_compute_output(1);
    Tensor grad_logits, rows;
    if (grads[0].defined())
      std::tie(grad_logits, rows) =
          backward().call(grads[0], y, temperature, dim, logits_type, tau_grad);
    if (grads[1].defined()) {
      const Tensor wide = y.to(log_sum.scalar_type()),
                   scaled = grads[1] / temperature.to(log_sum.scalar_type());
      const Tensor at_logits = (scaled * wide).to(logits_type);
      grad_logits = grad_logits.defined() ? grad_logits + at_logits : at_logits;
      if (tau_grad) {
        const Tensor at_rows =
            -scaled * (wide * (log_or_zero(wide) + log_sum)).sum(dim, /*keepdim=*/true);
        rows = rows.defined() ? rows + at_rows : at_rows;
      }
    }
    return wanted(grad_logits, rows, temperature);
  }

  std::vector<SavedVariable*> saved() override { return {&output, &lse, &tau}; }
};

TensorPair softmax_lse_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& tau,
                                const Tensor& key, int64_t dim, std::optional<ScalarType> dtype,
                                Shape full_shape, Shape start) {
  const auto node = node_if_needed<GumbelSoftmaxLseBackward>(logits, tau);
  auto results =
      below_autograd(softmax_lse(), keys, logits, tau, key, dim, dtype, full_shape, start);
  const auto& [output, lse] = results;
  if (node) torch::autograd::set_history({output, lse}, node.pointer);
  if (isFwGradDefined(logits) || isFwGradDefined(tau)) {
    const Tensor logits_t = tangent_of(logits), tau_t = tangent_of(tau), temperature = primal(tau),
                 y = output;
    const Tensor lse_t = tangent_of_lse(logits_t, tau_t, y, lse, temperature, dim);
    set_tangent(output,
                tangent_of_sample(logits_t, tau_t, y, temperature, dim, output.scalar_type()));
    set_tangent(lse, lse_t);
  }
  if (!node) return results;
  node->output = SavedVariable(output, /*is_output=*/true);
  node->lse = SavedVariable(lse, /*is_output=*/true);
  node->keep(logits, tau, dim);
  return results;
}

/// The backward's own backward.
struct GumbelSoftmaxBackwardBackward : public SavingNode {
  SavedVariable grad, output, tau;
  int64_t dim = 0;

  std::string name() const override { return "GumbelSoftmaxBackwardBackward"; }

  variable_list gradients(const variable_list& grads) override {
    const Tensor at_logits = grads[0];
    const Tensor at_rows = grads.size() > 1 ? grads[1] : Tensor();  // only with tau_grad
    if (!at_logits.defined() && !at_rows.defined()) return variable_list(3);
    const Tensor temperature = tau.unpack();
    const auto at =
        backward_of_backward(at_logits, at_rows, grad.unpack(), output.unpack(), temperature, dim);
    variable_list result(3);
    if (task_should_compute_output(0)) result[0] = at.grad;
    if (task_should_compute_output(1)) result[1] = at.output;
    if (task_should_compute_output(2)) result[2] = reduce_to_tau(at.tau_rows, temperature);
    return result;
  }

  std::vector<SavedVariable*> saved() override { return {&grad, &output, &tau}; }
};

TensorPair backward_autograd(DispatchKeySet keys, const Tensor& grad, const Tensor& output,
                             const Tensor& tau, int64_t dim, std::optional<ScalarType> dtype,
                             bool tau_grad) {
  const auto node = node_if_needed<GumbelSoftmaxBackwardBackward>(grad, output, tau);
  auto results = below_autograd(backward(), keys, grad, output, tau, dim, dtype, tau_grad);
  const auto& [grad_logits, rows] = results;
  if (node) {
    torch::autograd::set_history(grad_logits, node.pointer);
    if (tau_grad) torch::autograd::set_history(rows, node.pointer);
    node->grad = SavedVariable(grad, false);
    node->output = SavedVariable(output, false);
    node->tau = SavedVariable(tau, false);
    node->dim = dim;
  }
  if (isFwGradDefined(grad) || isFwGradDefined(output) || isFwGradDefined(tau)) {
    const auto [l_t, r_t] =
        tangents_of_backward(tangent_of(grad), tangent_of(output), tangent_of(tau), primal(grad),
                             primal(output), primal(tau), dim);
    set_tangent(grad_logits, l_t.to(grad_logits.scalar_type()));
    if (tau_grad) set_tangent(rows, r_t);
  }
  return results;
}

/// Where the hard backward is differentiated again, it is the soft backward of the soft sample of
/// the same noise.
TensorPair hard_backward_autograd(DispatchKeySet keys, const Tensor& grad, const Tensor& logits,
                                  const Tensor& tau, const Tensor& key, int64_t dim, bool tau_grad,
                                  Shape full_shape, Shape start) {
  if (!is_differentiated(grad, logits, tau))
    return below_autograd(hard_backward(), keys, grad, logits, tau, key, dim, tau_grad, full_shape,
                          start);
  const Tensor y = softmax().call(logits, tau, key, dim, false, opmath_type(logits.scalar_type()),
                                  full_shape, start);
  return backward().call(grad, y, tau, dim, logits.scalar_type(), tau_grad);
}

TORCH_LIBRARY_IMPL(torch_gumbel, Autograd, m) {
  m.impl("_gumbel_softmax", TORCH_FN(softmax_autograd));
  m.impl("_gumbel_softmax_hard", TORCH_FN(hard_autograd));
  m.impl("_gumbel_softmax_hard_soft", TORCH_FN(hard_soft_autograd));
  m.impl("_gumbel_softmax_lse", TORCH_FN(softmax_lse_autograd));
  m.impl("_gumbel_softmax_backward", TORCH_FN(backward_autograd));
  m.impl("_gumbel_softmax_hard_backward", TORCH_FN(hard_backward_autograd));
}

}  // namespace
}  // namespace torch_gumbel::ops
