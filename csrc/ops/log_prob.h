// SPDX-License-Identifier: Apache-2.0
// Log-probability of a class, entropy, and their gradient as ATen formulas: csrc/math/log_prob.h.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops.h"

namespace torch_gumbel::ops {

/// log_prob, entropy, and what their backward needs (csrc/math/log_prob.h): max, sum, mean.
using LogProbResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using LogProbSignature = LogProbResult(const Tensor&, const Tensor&, const Tensor&, int64_t);
using LogProbBackwardSignature = TensorPair(const std::optional<Tensor>&,
                                            const std::optional<Tensor>&, const Tensor&,
                                            const Tensor&, const Tensor&, const Tensor&,
                                            const Tensor&, const Tensor&, int64_t, bool);

inline const c10::TypedOperatorHandle<LogProbSignature>& log_prob() {
  static const auto handle = find<LogProbSignature>("torch_gumbel::_log_prob_entropy");
  return handle;
}
inline const c10::TypedOperatorHandle<LogProbBackwardSignature>& log_prob_backward() {
  static const auto handle =
      find<LogProbBackwardSignature>("torch_gumbel::_log_prob_entropy_backward");
  return handle;
}

/// The gradient at the logits, and at the temperature one per row, as differentiable ATen ops of
/// all tensors; an undefined gradient of rows counts as 0.
TensorPair log_prob_gradient(const Tensor& grad_log_prob, const Tensor& grad_entropy,
                             const Tensor& logits, const Tensor& index, const Tensor& temperature,
                             int64_t dim);

}  // namespace torch_gumbel::ops
