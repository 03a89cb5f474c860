// SPDX-License-Identifier: Apache-2.0
// Autograd of gates: of an element, with y the gate that is not stretched and w = upper - lower,
//     gradient at the logit  l = g w y (1 - y) / tau,    at tau  r = -l logit(y).
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include "autograd_node.h"
#include "derivatives.h"
#include "params.h"

namespace torch_gumbel::ops {
namespace {

using c10::DispatchKeySet;
using Shape = OptionalSymIntArrayRef;

bool is_half(const Tensor& tensor) {
  return opmath_type(tensor.scalar_type()) != tensor.scalar_type();
}

/// Functions of what is kept, as differentiable ATen ops in the opmath type: slope w y (1 - y) and
/// logit(y), 0 where the slope is, and their derivatives.
struct Kept {
  Tensor slope, slope_d, log_odds, log_odds_d_slope;  // the last one times the slope

  Kept(const Tensor& kept, double lower, double upper) {
    const Tensor k = kept.to(opmath_type(kept.scalar_type()));
    const double width = upper - lower;
    Tensor a, b, sign;
    if (is_half(kept)) {
      sign = at::where(k.signbit(), -1.0, 1.0).to(k.scalar_type());
      a = k.abs(), b = 1 - a;
      slope = width * a * b;
      slope_d = width * (1 - 2 * a) * sign;
    } else {
      const Tensor inside = (k > 0).logical_and(k < 1);
      a = k - lower, b = upper - k;
      slope = at::where(inside, a * b / width, a * 0);
      slope_d = at::where(inside, (b - a) / width, a * 0);
    }
    const Tensor open = slope != 0, one = at::ones_like(k);
    log_odds = at::where(open, at::where(open, a, one).log() - at::where(open, b, one).log(), 0);
    if (sign.defined()) log_odds = log_odds * sign;
    log_odds_d_slope = at::where(open, is_half(kept) ? width * one : one, 0);
  }
};

struct GateNode : public SavingNode {
  SavedVariable tau;

  /// Gradients at logits and tau from those of a backward op.
  variable_list wanted(const TensorPair& gradients, const Tensor& temperature) {
    variable_list result(2);
    if (task_should_compute_output(0)) result[0] = std::get<0>(gradients);
    if (task_should_compute_output(1))
      result[1] = reduce_to_tau(std::get<1>(gradients), temperature);
    return result;
  }
};

/// `kept`: a soft sample of a wide type, or the second result of _gumbel_gate_keep.
struct GumbelGateBackward : public GateNode {
  SavedVariable kept;
  double lower = 0, upper = 1;

  std::string name() const override { return "GumbelGateBackward"; }

  variable_list gradients(const variable_list& grads) override {
    Tensor grad = grads[0];
    const Tensor k = kept.unpack(pointer_to(this)), temperature = tau.unpack();
    if (grads.size() > 1 && grads[1].defined()) {
      const Tensor at_kept = is_half(k) ? grads[1] / (upper - lower) : grads[1];
      grad = grad.defined() ? grad + at_kept : at_kept;
    }
    if (!grad.defined()) return variable_list(2);
    return wanted(
        gate_backward().call(grad, k, temperature, lower, upper, task_should_compute_output(1)),
        temperature);
  }

  std::vector<SavedVariable*> saved() override { return {&kept, &tau}; }
};

/// Of a sample, from tangents of logits and tau (either may be undefined).
Tensor tangent_of_gate(const Tensor& logits_t, const Tensor& tau_t, const Tensor& kept,
                       const Tensor& tau, double lower, double upper) {
  const auto wide = opmath_type(kept.scalar_type());
  Tensor direction = logits_t.defined() ? logits_t.to(wide) : at::zeros_like(kept.to(wide));
  if (tau_t.defined()) direction = direction - Kept(kept, lower, upper).log_odds * tau_t;
  return std::get<0>(
      gate_backward().call(direction.to(kept.scalar_type()), kept, tau, lower, upper, false));
}

template <typename NewNode>
void fill(const NewNode& node, const Tensor& tau, const Tensor& kept, double lower, double upper) {
  node->kept = SavedVariable(kept, /*is_output=*/true);
  node->tau = SavedVariable(tau, false);
  node->lower = lower, node->upper = upper;
}

TensorPair gate_keep_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& tau,
                              const Tensor& key, bool hard, double threshold, double lower,
                              double upper, Shape full_shape, Shape start) {
  const auto node = node_if_needed<GumbelGateBackward>(logits, tau);
  const auto results = below_autograd(gate_keep(), keys, logits, tau, key, hard, threshold, lower,
                                      upper, full_shape, start);
  const auto& [output, kept] = results;
  if (node) torch::autograd::set_history({output, kept}, node.pointer);
  if (isFwGradDefined(logits) || isFwGradDefined(tau)) {
    const Tensor tangent =
        tangent_of_gate(tangent_of(logits), tangent_of(tau), kept, primal(tau), lower, upper);
    set_tangent(output, tangent);
    set_tangent(kept, is_half(kept) ? tangent / (upper - lower) : tangent);
  }
  if (node) fill(node, tau, kept, lower, upper);
  return results;
}

/// A second result is made only where a derivative needs it: of 0 or 1, and of half types.
Tensor gate_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& tau,
                     const Tensor& key, bool hard, double threshold, double lower, double upper,
                     Shape full_shape, Shape start) {
  const bool differentiated = is_differentiated(logits, tau);
  if (differentiated && (hard || is_half(logits)))
    return std::get<0>(
        gate_keep().call(logits, tau, key, hard, threshold, lower, upper, full_shape, start));
  const auto node = node_if_needed<GumbelGateBackward>(logits, tau);
  const Tensor output = below_autograd(gate(), keys, logits, tau, key, hard, threshold, lower,
                                       upper, full_shape, start);
  if (!differentiated) return output;
  if (node) torch::autograd::set_history(output, node.pointer);
  if (isFwGradDefined(logits) || isFwGradDefined(tau))
    set_tangent(output, tangent_of_gate(tangent_of(logits), tangent_of(tau), output, primal(tau),
                                        lower, upper));
  if (node) fill(node, tau, output, lower, upper);  // after its tangent, which it takes along
  return output;
}

struct GumbelGateRecomputeBackward : public GateNode {
  SavedVariable logits, key;
  SavedShape full_shape, start;

  std::string name() const override { return "GumbelGateRecomputeBackward"; }

  variable_list gradients(const variable_list& grads) override {
    if (!grads[0].defined()) return variable_list(2);
    const Tensor temperature = tau.unpack();
    return wanted(gate_recompute_backward().call(grads[0], logits.unpack(), temperature,
                                                 key.unpack(), task_should_compute_output(1),
                                                 full_shape.get(), start.get()),
                  temperature);
  }

  std::vector<SavedVariable*> saved() override { return {&logits, &key, &tau}; }
};

/// What _gumbel_gate_keep would keep of the soft sample.
Tensor kept_of(const Tensor& logits, const Tensor& tau, const Tensor& key, Shape full_shape,
               Shape start) {
  return std::get<1>(gate_keep().call(logits, tau, key, false, 0.5, 0.0, 1.0, full_shape, start));
}

Tensor gate_recompute_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& tau,
                               const Tensor& key, bool hard, double threshold, Shape full_shape,
                               Shape start) {
  const auto node = node_if_needed<GumbelGateRecomputeBackward>(logits, tau);
  const Tensor output =
      below_autograd(gate_recompute(), keys, logits, tau, key, hard, threshold, full_shape, start);
  if (node) torch::autograd::set_history(output, node.pointer);
  if (isFwGradDefined(logits) || isFwGradDefined(tau)) {
    const Tensor x = primal(logits), temperature = primal(tau);
    const Tensor kept = kept_of(x, temperature, key, full_shape, start);
    set_tangent(output,
                tangent_of_gate(tangent_of(logits), tangent_of(tau), kept, temperature, 0.0, 1.0));
  }
  if (!node) return output;
  node->logits = SavedVariable(logits, false);
  node->tau = SavedVariable(tau, false);
  node->key = SavedVariable(savable(key), false);
  node->full_shape = SavedShape(full_shape);
  node->start = SavedShape(start);
  return output;
}

/// The backward's own backward.
struct GumbelGateBackwardBackward : public SavingNode {
  SavedVariable grad, kept, tau;
  double lower = 0, upper = 1;

  std::string name() const override { return "GumbelGateBackwardBackward"; }

  variable_list gradients(const variable_list& grads) override {
    const Tensor at_logits = grads[0];
    const Tensor at_tau = grads.size() > 1 ? grads[1] : Tensor();  // only with tau_grad
    if (!at_logits.defined() && !at_tau.defined()) return variable_list(3);
    const Tensor k = kept.unpack(), temperature = tau.unpack(), given = grad.unpack();
    const Kept of(k, lower, upper);
    const auto wide = of.slope.scalar_type();
    const Tensor g = given.to(wide), t = temperature.to(wide);
    // r = -l logit(y) is linear in l, so its cotangent joins that of l.
    Tensor u = at_logits.defined() ? at_logits.to(wide) : at::zeros_like(of.slope);
    if (at_tau.defined()) u = u - at_tau * of.log_odds;
    variable_list result(3);
    if (task_should_compute_output(0)) result[0] = (u * of.slope / t).to(given.scalar_type());
    if (task_should_compute_output(1)) {
      Tensor at_kept = u * g * of.slope_d / t;
      if (at_tau.defined()) at_kept = at_kept - at_tau * g * of.log_odds_d_slope / t;
      result[1] = at_kept.to(k.scalar_type());
    }
    if (task_should_compute_output(2))
      result[2] = reduce_to_tau(-u * g * of.slope / (t * t), temperature);
    return result;
  }

  std::vector<SavedVariable*> saved() override { return {&grad, &kept, &tau}; }
};

/// Tangents of l and r from those of g, kept, and tau (any may be undefined).
TensorPair tangents_of_gate_backward(const Tensor& grad, const Tensor& kept, const Tensor& tau,
                                     double lower, double upper) {
  const Kept of(primal(kept), lower, upper);
  const auto wide = of.slope.scalar_type();
  const Tensor g = primal(grad).to(wide), t = primal(tau).to(wide);
  const Tensor g_t = tangent_of(grad), k_t = tangent_of(kept), tau_t = tangent_of(tau);
  Tensor l_t = at::zeros_like(of.slope), r_t = l_t;
  if (g_t.defined()) l_t = l_t + g_t * of.slope / t;
  if (k_t.defined()) {
    l_t = l_t + g * of.slope_d * k_t / t;
    r_t = r_t - g * of.log_odds_d_slope * k_t / t;
  }
  if (tau_t.defined()) l_t = l_t - g * of.slope * tau_t / (t * t);
  return {l_t, r_t - l_t * of.log_odds};
}

TensorPair gate_backward_autograd(DispatchKeySet keys, const Tensor& grad, const Tensor& kept,
                                  const Tensor& tau, double lower, double upper, bool tau_grad) {
  const auto node = node_if_needed<GumbelGateBackwardBackward>(grad, kept, tau);
  const auto results =
      below_autograd(gate_backward(), keys, grad, kept, tau, lower, upper, tau_grad);
  const auto& [grad_logits, grad_tau] = results;
  if (node) {
    torch::autograd::set_history(grad_logits, node.pointer);
    if (tau_grad) torch::autograd::set_history(grad_tau, node.pointer);
    node->grad = SavedVariable(grad, false);
    node->kept = SavedVariable(kept, false);
    node->tau = SavedVariable(tau, false);
    node->lower = lower, node->upper = upper;
  }
  if (isFwGradDefined(grad) || isFwGradDefined(kept) || isFwGradDefined(tau)) {
    const auto [l_t, r_t] = tangents_of_gate_backward(grad, kept, tau, lower, upper);
    set_tangent(grad_logits, l_t.to(grad_logits.scalar_type()));
    if (tau_grad) set_tangent(grad_tau, r_t);
  }
  return results;
}

/// Where it is differentiated again, it is the backward from what would be kept.
TensorPair gate_recompute_backward_autograd(DispatchKeySet keys, const Tensor& grad,
                                            const Tensor& logits, const Tensor& tau,
                                            const Tensor& key, bool tau_grad, Shape full_shape,
                                            Shape start) {
  if (!is_differentiated(grad, logits, tau))
    return below_autograd(gate_recompute_backward(), keys, grad, logits, tau, key, tau_grad,
                          full_shape, start);
  const Tensor kept = kept_of(logits, tau, key, full_shape, start);
  return gate_backward().call(grad, kept, tau, 0.0, 1.0, tau_grad);
}

TORCH_LIBRARY_IMPL(torch_gumbel, Autograd, m) {
  m.impl("_gumbel_gate", TORCH_FN(gate_autograd));
  m.impl("_gumbel_gate_keep", TORCH_FN(gate_keep_autograd));
  m.impl("_gumbel_gate_backward", TORCH_FN(gate_backward_autograd));
  m.impl("_gumbel_gate_recompute", TORCH_FN(gate_recompute_autograd));
  m.impl("_gumbel_gate_recompute_backward", TORCH_FN(gate_recompute_backward_autograd));
}

}  // namespace
}  // namespace torch_gumbel::ops
