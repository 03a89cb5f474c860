// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples as ATen formulas.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops.h"

namespace torch_gumbel::ops {

/// The k-hot of perturbed logits ("scores", of the opmath type), 2 <= k, as differentiable ATen ops
/// of both tensors.
Tensor subset_formula(const Tensor& scores, const Tensor& tau, int64_t k, int64_t dim);

/// Rows that have k finite scores and no other than those and -inf, [*, 1, *].
Tensor has_subset(const Tensor& scores, int64_t k, int64_t dim);

}  // namespace torch_gumbel::ops
