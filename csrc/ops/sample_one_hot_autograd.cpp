// SPDX-License-Identifier: Apache-2.0
// Autograd of one-hot samples. The gradient at the logits is a symmetric matrix times that at the
// sample, so that the backward op gives tangents as well. It keeps a copy of the logits, and of
// "gumbel-rao" the key: nothing of the caller's that an edit could change. The copy is a second
// differentiable result, so that second derivatives go through it.
//
// The backward's own derivatives are those of its formula, in which the draw and what the estimator
// holds constant are constants; "gumbel-rao" has them at the incoming gradient, in which it is
// linear, alone.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "autograd_node.h"
#include "derivatives.h"
#include "estimators.h"

namespace torch_gumbel::ops {
namespace {

using c10::DispatchKeySet;
using Shape = OptionalSymIntArrayRef;

/// The arguments of an estimator, kept for a backward.
struct KeptEstimator {
  std::string name;
  int64_t dim = 0, draws = 1;
  double gap = 1;
  SavedShape full_shape, start;

  EstimatorSettings settings() const {
    return estimator_settings("_sample_one_hot", name, draws, gap);
  }
  bool has_tau() const { return name != "zgr" && name != "reinmax"; }
  TensorPair gradients(const Tensor& grad, const Tensor& logits, const Tensor& index,
                       const Tensor& tau, const Tensor& key, bool tau_grad) const {
    return one_hot_backward().call(grad, logits, index, tau, key, dim, name, draws, gap, tau_grad,
                                   full_shape.get(), start.get());
  }
};

/// `what`: a derivative that "gumbel-rao" does not have.
void check_has_derivative(const KeptEstimator& estimator, const char* what) {
  TORCH_CHECK_NOT_IMPLEMENTED(estimator.name != "gumbel-rao",
                              "sample_one_hot: \"gumbel-rao\" has no ", what);
}

struct SampleOneHotBackward : public SavingNode {
  SavedVariable logits, tau, key, index;
  KeptEstimator estimator;

  std::string name() const override { return "SampleOneHotBackward"; }

  variable_list gradients(const variable_list& grads) override {
    variable_list result(2);
    const Tensor at_kept = grads.size() > 1 ? grads[1] : Tensor();
    if (task_should_compute_output(0)) result[0] = at_kept;
    if (!grads[0].defined()) return result;
    const Tensor temperature = tau.unpack();
    const bool tau_grad = task_should_compute_output(1) && estimator.has_tau();
    const auto [at_logits, rows] =
        estimator.gradients(grads[0], logits.unpack(pointer_to(this)), index.unpack(), temperature,
                            key.unpack(), tau_grad);
    if (task_should_compute_output(0))
      result[0] = at_kept.defined() ? at_logits + at_kept : at_logits;
    if (tau_grad) result[1] = reduce_to_tau(rows, temperature);
    return result;
  }

  std::vector<SavedVariable*> saved() override { return {&logits, &tau, &key, &index}; }
};

Tensor tangent(const KeptEstimator& estimator, const Tensor& logits_t, const Tensor& tau_t,
               const Tensor& logits, const Tensor& tau, const Tensor& key, const Tensor& index,
               ScalarType type) {
  if (!tau_t.defined() || !estimator.has_tau()) {
    if (!logits_t.defined()) return {};
    return std::get<0>(estimator.gradients(logits_t, logits, index, tau, key, false)).to(type);
  }
  check_has_derivative(estimator, "tangent at tau");
  const Tensor y = surrogate_of(logits, index, tau, estimator.dim, estimator.settings());
  return tangent_of_sample(logits_t, tau_t, y, tau, estimator.dim, type);
}

/// What `node` keeps. After the tangent of `kept`, which it takes along.
void fill(const NewNode<SampleOneHotBackward>& node, const Tensor& tau, const Tensor& key,
          const OneHotResult& results, const KeptEstimator& how) {
  const auto& [sample, kept, index] = results;
  node->logits = SavedVariable(kept, /*is_output=*/true);
  node->tau = SavedVariable(tau, false);
  node->key = SavedVariable(savable(key), false);
  node->index = SavedVariable(index, false);
  node->estimator = how;
}

OneHotResult one_hot_autograd(DispatchKeySet keys, const Tensor& logits, const Tensor& tau,
                              const Tensor& key, int64_t dim, c10::string_view estimator,
                              int64_t draws, double gap, std::optional<ScalarType> dtype, bool keep,
                              Shape full_shape, Shape start) {
  const auto node = node_if_needed<SampleOneHotBackward>(logits, tau);
  const OneHotResult results = below_autograd(one_hot(), keys, logits, tau, key, dim, estimator,
                                              draws, gap, dtype, keep || node, full_shape, start);
  const auto& [sample, kept, index] = results;
  const bool forward_mode = isFwGradDefined(logits) || isFwGradDefined(tau);
  if (!node && !forward_mode) return results;
  const KeptEstimator how = {std::string(estimator), dim, draws, gap, SavedShape(full_shape),
                             SavedShape(start)};
  if (node) torch::autograd::set_history({sample, kept}, node.pointer);
  if (forward_mode) {
    const Tensor logits_t = tangent_of(logits);
    set_tangent(sample, tangent(how, logits_t, tangent_of(tau), primal(logits), primal(tau), key,
                                index, sample.scalar_type()));
    if (keep || node) set_tangent(kept, logits_t);
  }
  if (!node) return results;
  fill(node, tau, key, results, how);
  return {sample, keep ? kept : at::empty({0}, logits.options()), index};
}

/// The gradient of "gumbel-rao" at the incoming gradient.
struct GumbelRaoBackwardBackward : public SavingNode {
  SavedVariable logits, tau, key, index;
  KeptEstimator estimator;

  std::string name() const override { return "GumbelRaoBackwardBackward"; }

  variable_list gradients(const variable_list& grads) override {
    variable_list result(3);
    const bool at_rows = grads.size() > 1 && grads[1].defined();
    if (!grads[0].defined() && !at_rows) return result;
    const bool constant =
        !at_rows && !task_should_compute_output(1) && !task_should_compute_output(2);
    if (!constant) check_has_derivative(estimator, "second derivative at logits or tau");
    result[0] = std::get<0>(estimator.gradients(grads[0], logits.unpack(), index.unpack(),
                                                tau.unpack(), key.unpack(), false));
    return result;
  }

  std::vector<SavedVariable*> saved() override { return {&logits, &tau, &key, &index}; }
};

TensorPair gumbel_rao_autograd(DispatchKeySet keys, const KeptEstimator& how, const Tensor& grad,
                               const Tensor& logits, const Tensor& index, const Tensor& tau,
                               const Tensor& key, bool tau_grad) {
  if (isFwGradDefined(logits) || isFwGradDefined(tau))
    check_has_derivative(how, "second derivative at logits or tau");
  const auto node = node_if_needed<GumbelRaoBackwardBackward>(grad, logits, tau);
  const TensorPair results =
      below_autograd(one_hot_backward(), keys, grad, logits, index, tau, key, how.dim, how.name,
                     how.draws, how.gap, tau_grad, how.full_shape.get(), how.start.get());
  const auto& [at_logits, rows] = results;
  if (node) {
    torch::autograd::set_history(at_logits, node.pointer);
    if (tau_grad) torch::autograd::set_history(rows, node.pointer);
    node->logits = SavedVariable(logits, false);
    node->tau = SavedVariable(tau, false);
    node->key = SavedVariable(savable(key), false);
    node->index = SavedVariable(index, false);
    node->estimator = how;
  }
  if (isFwGradDefined(grad)) {
    const auto [l_t, r_t] =
        how.gradients(tangent_of(grad), primal(logits), index, primal(tau), key, tau_grad);
    set_tangent(at_logits, l_t);
    if (tau_grad) set_tangent(rows, r_t);
  }
  return results;
}

TensorPair one_hot_backward_autograd(DispatchKeySet keys, const Tensor& grad, const Tensor& logits,
                                     const Tensor& index, const Tensor& tau, const Tensor& key,
                                     int64_t dim, c10::string_view estimator, int64_t draws,
                                     double gap, bool tau_grad, Shape full_shape, Shape start) {
  if (!is_differentiated(grad, logits, tau))
    return below_autograd(one_hot_backward(), keys, grad, logits, index, tau, key, dim, estimator,
                          draws, gap, tau_grad, full_shape, start);
  const KeptEstimator how = {std::string(estimator), dim, draws, gap, SavedShape(full_shape),
                             SavedShape(start)};
  const auto settings = how.settings();
  if (settings.estimator == Estimator::kGumbelRao)
    return gumbel_rao_autograd(keys, how, grad, logits, index, tau, key, tau_grad);
  return one_hot_gradient(grad, logits, index, tau, dim, settings, tau_grad);
}

TORCH_LIBRARY_IMPL(torch_gumbel, Autograd, m) {
  m.impl("_sample_one_hot", TORCH_FN(one_hot_autograd));
  m.impl("_sample_one_hot_backward", TORCH_FN(one_hot_backward_autograd));
}

}  // namespace
}  // namespace torch_gumbel::ops
