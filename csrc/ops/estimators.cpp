// SPDX-License-Identifier: Apache-2.0
#include "estimators.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <limits>

#include "ops.h"
#include "params.h"
#include "sums.h"

namespace torch_gumbel::ops {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// softmax(scores / tau), also where scores are -inf: whose derivative at tau is 0.
Tensor tempered(const Tensor& scores, const Tensor& tau, int64_t dim) {
  const Tensor masked = scores == -kInfinity;
  const Tensor scaled = scores.masked_fill(masked, 0) / tau.to(scores.scalar_type());
  return at::where(masked, scores, scaled).softmax(dim);
}

/// 1 at the choices.
Tensor chosen(const Tensor& like, const Tensor& index, int64_t dim) {
  return at::zeros_like(like.detach()).scatter(dim, index, 1);
}

}  // namespace

EstimatorSettings estimator_settings(const char* who, std::string_view name, int64_t draws,
                                     double gap) {
  TORCH_CHECK_VALUE(draws >= 1 && draws <= int64_t{1} << 30, who,
                    ": samples must be in [1, 2^30], got ", draws);
  TORCH_CHECK_VALUE(gap >= 0 && std::isfinite(gap), who, ": gap must be >= 0 and finite, got ",
                    gap);
  const std::pair<std::string_view, Estimator> known[] = {
      {"straight-through", Estimator::kStraightThrough},
      {"zgr", Estimator::kZgr},
      {"reinmax", Estimator::kReinMax},
      {"gapped", Estimator::kGapped},
      {"gumbel-rao", Estimator::kGumbelRao}};
  for (const auto& [each, estimator] : known)
    if (each == name) return {estimator, static_cast<int32_t>(draws), gap};
  TORCH_CHECK_VALUE(false, who,
                    ": estimator must be straight-through, zgr, reinmax, gapped, or gumbel-rao, "
                    "got ",
                    name);
}

void check_choices(const char* who, const Tensor& index, const Tensor& logits, int64_t dim) {
  TORCH_CHECK_TYPE(index.scalar_type() == at::kLong, who, ": index must be int64, got ",
                   index.scalar_type());
  TORCH_CHECK_VALUE(
      index.device() == logits.device() && index.sym_sizes().equals(rows_shape(logits, dim)), who,
      ": wanted one index per row of ", logits.sym_sizes(), ", got shape ", index.sym_sizes(),
      " on ", index.device());
}

Tensor valid_temperatures(const Tensor& tau) {
  return (tau > 0).logical_and(tau < kInfinity).to(at::kLong);
}

Tensor surrogate_of(const Tensor& logits, const Tensor& index, const Tensor& tau, int64_t dim,
                    const EstimatorSettings& settings) {
  const Tensor x = logits.to(opmath_type(logits.scalar_type()));
  if (settings.estimator == Estimator::kStraightThrough) return tempered(x, tau, dim);
  const Tensor value = x.detach(), max = value.amax(dim, /*keepdim=*/true);
  const Tensor lowered = at::where(value > max - settings.gap, max - settings.gap, value);
  const Tensor moved = lowered.scatter(dim, index, max);
  // Only the constant is not differentiated; masks move nowhere.
  const Tensor shift = at::where(value == -kInfinity, 0, moved - value);
  return tempered(x + shift, tau, dim);
}

std::tuple<Tensor, Tensor> one_hot_gradient(const Tensor& grad, const Tensor& logits,
                                            const Tensor& index, const Tensor& tau, int64_t dim,
                                            const EstimatorSettings& settings, bool tau_grad) {
  const auto type = opmath_type(logits.scalar_type());
  if (settings.estimator == Estimator::kStraightThrough || settings.estimator == Estimator::kGapped)
    return backward().call(grad, surrogate_of(logits, index, tau, dim, settings), tau, dim,
                           logits.scalar_type(), tau_grad);
  const Tensor x = logits.to(type), g = grad.to(type), one = chosen(x, index, dim);
  const auto jacobian = [&](const Tensor& y) { return y * (g - sum_of_rows(y * g, dim)); };
  const Tensor p = x.softmax(dim);
  const bool zgr = settings.estimator == Estimator::kZgr;
  const Tensor q = zgr ? p : tempered(x, tau.detach(), dim);
  const Tensor gradient = 2 * jacobian((q + one) / 2) - jacobian(p) / 2;
  const Tensor rows = tau_grad ? sum_of_rows(at::zeros_like(g), dim) : at::empty({0}, g.options());
  return {gradient.to(logits.scalar_type()), rows};
}

}  // namespace torch_gumbel::ops
