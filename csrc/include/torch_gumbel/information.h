// SPDX-License-Identifier: Apache-2.0
/// \file
/// Relative entropy, the evidence lower bound, and perplexity. Shapes and errors:
/// <torch_gumbel/torch_gumbel.h>.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/refused.h>

#include <cstdint>
#include <optional>

namespace torch_gumbel {

/// KL(q || prior) = sum_k q_k (log q_k - log prior_k) of every row, in nats, in one pass forward
/// and one backward; 0 log 0 = 0. q = softmax(logits), or probs divided by their sum.
///
/// \param logits  [*, K, *]. Exactly one of logits and probs.
/// \param probs  [*, K, *], >= 0; rows need not sum to 1.
/// \param prior  probabilities, absent: uniform. [K], along `dim`; or a shape that broadcasts
///     against the rows, with all K classes. Need not sum to 1. Where it is 0 and q is not, KL is
///     infinite. Differentiable.
/// \return  [*, *], >= 0, float32 (float64 for float64 rows; half types are computed in float32),
///     differentiable. A class of probability 0 gets a gradient of exactly 0; a row that has no
///     distribution is NaN.
/// \throws c10::ValueError  both or neither of logits and probs, a prior of the wrong shape or
///     device.
/// \throws c10::TypeError  not floating point.
/// \throws c10::IndexError  dim out of range, K = 0.
TORCH_GUMBEL_API at::Tensor kl_categorical(const std::optional<at::Tensor>& logits,
                                           const std::optional<at::Tensor>& probs = std::nullopt,
                                           const std::optional<at::Tensor>& prior = std::nullopt,
                                           int64_t dim = -1);
template <refused::NotAnInteger Dim>  // a dim that would be converted
at::Tensor kl_categorical(const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                          const std::optional<at::Tensor>&, Dim) = delete;

/// The evidence lower bound of a model with categorical latents, one value per batch element:
/// log_likelihood - sum over latents of KL(softmax(logits) || prior), in nats. A bound if
/// log_likelihood is that of one-hot samples; Jang, Gu, Poole, 2016, section 3.
///
/// \param log_likelihood  [*batch], log p(x | codes).
/// \param logits  [*batch, *latents, K].
/// \param prior  as for kl_categorical.
/// \return  [*batch].
/// \throws  as kl_categorical; c10::ValueError also if log_likelihood does not have leading sizes
///     of logits.
TORCH_GUMBEL_API at::Tensor categorical_elbo(const at::Tensor& log_likelihood,
                                             const at::Tensor& logits,
                                             const std::optional<at::Tensor>& prior = std::nullopt);

/// How many codes are in use: exp of the entropy of the mean code, in [1, K].
///
/// \param codes  [*, K, *], one-hot or soft.
/// \param over  the dimensions to average over; absent: all but `dim`.
/// \return  the sizes that are left (with `over` absent: one value), float32, or float64 for
///     float64 codes; differentiable.
/// \throws c10::ValueError  `over` names `dim`.
/// \throws c10::TypeError, c10::IndexError  as kl_categorical.
TORCH_GUMBEL_API at::Tensor perplexity(const at::Tensor& codes, int64_t dim = -1,
                                       at::OptionalIntArrayRef over = std::nullopt);
template <refused::NotAnInteger Dim, typename... Rest>  // a dim that would be converted
at::Tensor perplexity(const at::Tensor&, Dim, Rest&&...) = delete;

}  // namespace torch_gumbel
