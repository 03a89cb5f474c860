// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples of perturbed logits ("scores"), and their gradient: csrc/math/subset.h.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>

#include "ops.h"

namespace torch_gumbel::ops {

using SubsetSignature = Tensor(const Tensor&, const Tensor&, int64_t, int64_t);
using SubsetBackwardSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&, int64_t,
                                           int64_t, bool);

inline const c10::TypedOperatorHandle<SubsetSignature>& subset() {
  static const auto handle = find<SubsetSignature>("torch_gumbel::_gumbel_subset");
  return handle;
}
inline const c10::TypedOperatorHandle<SubsetBackwardSignature>& subset_backward() {
  static const auto handle = find<SubsetBackwardSignature>("torch_gumbel::_gumbel_subset_backward");
  return handle;
}

/// The k-hot of scores, of their opmath type, as differentiable ATen ops.
TORCH_GUMBEL_API Tensor subset_formula(const Tensor& scores, const Tensor& tau, int64_t k,
                                       int64_t dim);

/// The gradient at the scores, and at tau one per row, as differentiable ATen ops of all tensors.
TORCH_GUMBEL_API TensorPair subset_gradient(const Tensor& grad, const Tensor& scores,
                                            const Tensor& tau, int64_t k, int64_t dim);

/// Rows that have k finite scores and no other than those and -inf, [*, 1, *].
Tensor has_subset(const Tensor& scores, int64_t k, int64_t dim);

}  // namespace torch_gumbel::ops
