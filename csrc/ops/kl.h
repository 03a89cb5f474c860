// SPDX-License-Identifier: Apache-2.0
// Relative entropy of rows to a prior: KL(q || prior) = sum_k q_k (log q_k - log prior_k), with q =
// softmax(values), or values / sum(values). With g the gradient at a row's KL,
//     d loss / d logits_k = g q_k (log q_k - log prior_k - KL),
// and over probabilities the same / p_k, 0 where p_k is 0.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "ops.h"

namespace torch_gumbel::ops {

/// q, as differentiable ATen ops, in the opmath type.
Tensor kl_probabilities(const Tensor& values, int64_t dim, bool from_probs);

/// The gradient at the values, as differentiable ATen ops of its arguments.
Tensor kl_gradient(const Tensor& grad_rows, const Tensor& values,
                   const std::optional<Tensor>& log_prior, int64_t dim, bool from_probs);

}  // namespace torch_gumbel::ops
