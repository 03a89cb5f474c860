// SPDX-License-Identifier: Apache-2.0
// What the ops of one-hot samples share: estimators by name, and checks of their private arguments.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>

#include <string_view>

#include "../math/rows.h"

namespace torch_gumbel::ops {

/// Options of an estimator of the private ops.
struct EstimatorSettings {
  Estimator estimator;
  int32_t draws;
  double gap;
};

/// Of "straight-through", "zgr", "reinmax", "gapped", or "gumbel-rao", draws in [1, 2^30], a finite
/// gap >= 0; ValueError.
TORCH_GUMBEL_API EstimatorSettings estimator_settings(const char* who, std::string_view name,
                                                      int64_t draws, double gap);

/// int64, one per row, of size 1 at `dim`; ValueError, TypeError.
TORCH_GUMBEL_API void check_choices(const char* who, const at::Tensor& index,
                                    const at::Tensor& logits, int64_t dim);

/// 1 where a temperature is positive and finite, else 0.
TORCH_GUMBEL_API at::Tensor valid_temperatures(const at::Tensor& tau);

/// The gradient at the logits, and at tau one per row, as differentiable ATen ops of grad, logits,
/// and tau; not of "gumbel-rao".
std::tuple<at::Tensor, at::Tensor> one_hot_gradient(const at::Tensor& grad,
                                                    const at::Tensor& logits,
                                                    const at::Tensor& index, const at::Tensor& tau,
                                                    int64_t dim, const EstimatorSettings& settings,
                                                    bool tau_grad);

/// The distribution whose Jacobian is the gradient, of "straight-through" and "gapped".
at::Tensor surrogate_of(const at::Tensor& logits, const at::Tensor& index, const at::Tensor& tau,
                        int64_t dim, const EstimatorSettings& settings);

}  // namespace torch_gumbel::ops
