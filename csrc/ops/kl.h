// SPDX-License-Identifier: Apache-2.0
// Relative entropy of rows to a prior: KL(q || prior) = sum_k q_k (log q_k - log prior_k), with q =
// softmax(values), or values / sum(values). With g the gradient at a row's KL,
//     d loss / d logits_k = g q_k (log q_k - log prior_k - KL),
// and over probabilities the same / p_k, 0 where p_k is 0.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "ops.h"

namespace torch_gumbel::ops {

/// One value per row: KL, and what its backward needs (see KlRows in csrc/cpu/kernels.h).
using KlResult = std::tuple<Tensor, Tensor, Tensor>;
using KlSignature = KlResult(const Tensor&, const std::optional<Tensor>&, int64_t, bool);
using KlBackwardSignature = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                   const Tensor&, const std::optional<Tensor>&, int64_t, bool);

inline const c10::TypedOperatorHandle<KlSignature>& kl() {
  static const auto handle = find<KlSignature>("torch_gumbel::_kl_categorical");
  return handle;
}
inline const c10::TypedOperatorHandle<KlBackwardSignature>& kl_backward() {
  static const auto handle = find<KlBackwardSignature>("torch_gumbel::_kl_categorical_backward");
  return handle;
}

/// q, as differentiable ATen ops, in the opmath type.
Tensor kl_probabilities(const Tensor& values, int64_t dim, bool from_probs);

/// The gradient at the values, as differentiable ATen ops of its arguments.
Tensor kl_gradient(const Tensor& grad_rows, const Tensor& values,
                   const std::optional<Tensor>& log_prior, int64_t dim, bool from_probs);

}  // namespace torch_gumbel::ops
