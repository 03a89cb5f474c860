// SPDX-License-Identifier: Apache-2.0
/// \file
/// Log-probabilities and entropies. Shapes and errors: <torch_gumbel/torch_gumbel.h>.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/refused.h>

#include <cstdint>
#include <tuple>

namespace torch_gumbel {

/// Log-probability of one class per row and entropy of the row, in nats, of softmax(logits /
/// temperature): one pass forward and one backward on a CPU, and no tensor of the size of the logits
/// but their gradient. 0 log 0 = 0.
///
/// \param logits  [*, K, *]; -inf masks a class.
/// \param index  int64 [*, *], in [0, K): CUDA does not check it, and makes NaN of a row whose index
///     is out of range.
/// \param temperature  > 0 and finite: a number or, in the second form, a tensor as tau of
///     gumbel_softmax.
/// \return  (log_prob, entropy), both [*, *], float32 (float64 for float64 logits; half types are
///     computed in float32), differentiable in logits and temperature. log_prob <= 0, and -inf with
///     a gradient of 0 for a masked class. A row without a distribution is NaN.
/// \throws c10::ValueError  index of the wrong shape or device; a temperature out of range.
/// \throws c10::TypeError  logits not floating point; index not int64.
/// \throws c10::IndexError  dim or, on a CPU, index out of range; K = 0.
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> log_prob_entropy(const at::Tensor& logits,
                                                                     const at::Tensor& index,
                                                                     int64_t dim = -1,
                                                                     double temperature = 1.0);
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> log_prob_entropy(const at::Tensor& logits,
                                                                     const at::Tensor& index,
                                                                     const at::Tensor& temperature,
                                                                     int64_t dim = -1);
template <refused::NotAnInteger Dim, typename... Rest>  // a dim that would be converted
std::tuple<at::Tensor, at::Tensor> log_prob_entropy(const at::Tensor&, const at::Tensor&, Dim,
                                                    Rest&&...) = delete;

}  // namespace torch_gumbel
