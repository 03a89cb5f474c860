// SPDX-License-Identifier: Apache-2.0
// Derivatives of the backward itself, as formulas in differentiable ATen ops: they serve double
// backward and forward mode. docs/internals/design.md derives them. Notation: y the soft sample, g
// the incoming gradient, s = sum y g,
//     gradient at the logits  l = y (g - s) / tau,        gradient at tau  r = -sum l log y  (one
//     per row).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace torch_gumbel::ops {

/// log y, 0 where y is 0, in the opmath type.
at::Tensor log_or_zero(const at::Tensor& y);

/// A gradient per row, [*, 1, *], summed to tau's shape, dtype, and device.
at::Tensor reduce_to_tau(const at::Tensor& rows, const at::Tensor& tau);

struct BackwardGradients {
  at::Tensor grad;      // at g
  at::Tensor output;    // at y
  at::Tensor tau_rows;  // at tau, one per row
};

/// Reverse mode: cotangents v of l and w of r (either may be undefined).
BackwardGradients backward_of_backward(const at::Tensor& v, const at::Tensor& w,
                                       const at::Tensor& grad, const at::Tensor& output,
                                       const at::Tensor& tau, int64_t dim);

/// Forward mode: tangents of l and r from those of g, y, and tau (any may be undefined).
std::tuple<at::Tensor, at::Tensor> tangents_of_backward(
    const at::Tensor& grad_t, const at::Tensor& output_t, const at::Tensor& tau_t,
    const at::Tensor& grad, const at::Tensor& output, const at::Tensor& tau, int64_t dim);

/// Tangent of the soft sample y, or of its log-sum-exp rows, from those of logits and tau (either
/// may be undefined).
at::Tensor tangent_of_sample(const at::Tensor& logits_t, const at::Tensor& tau_t,
                             const at::Tensor& output, const at::Tensor& tau, int64_t dim,
                             at::ScalarType type);
/// Tangent of a hard sample: that of the soft sample of the same noise.
at::Tensor tangent_of_hard_sample(const at::Tensor& logits_t, const at::Tensor& tau_t,
                                  const at::Tensor& logits, const at::Tensor& tau,
                                  const at::Tensor& key, int64_t dim, at::ScalarType type,
                                  at::OptionalSymIntArrayRef full_shape,
                                  at::OptionalSymIntArrayRef start);
at::Tensor tangent_of_lse(const at::Tensor& logits_t, const at::Tensor& tau_t,
                          const at::Tensor& output, const at::Tensor& lse, const at::Tensor& tau,
                          int64_t dim);

}  // namespace torch_gumbel::ops
