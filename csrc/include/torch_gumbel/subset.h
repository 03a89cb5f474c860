// SPDX-License-Identifier: Apache-2.0
/// \file
/// Relaxed k-hot samples. Shapes, errors, and randomness: <torch_gumbel/torch_gumbel.h>.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/refused.h>

#include <cstdint>
#include <optional>

namespace torch_gumbel {

/// A relaxed sample of k different classes: with r = logits + g, k times a = softmax(r / tau), of
/// which the sample is the sum, and r + log(1 - a) in the place of r. Xie, Ermon, "Reparameterizable
/// subset sampling via continuous relaxations", 2019.
///
/// \param logits  as for gumbel_softmax.
/// \param k  how many classes, in [1, K].
/// \param tau  temperature > 0, finite.
/// \param hard  exactly k ones, at gumbel_topk's indices of the same key, with the gradient of the
///     soft sample.
/// \return  the shape and type of logits, >= 0, of sum k; an entry of a soft sample can exceed 1.
///     With k = 1, gumbel_softmax of the same key in bits. A row with fewer than k finite logits, NaN,
///     or +inf is NaN, soft or hard. Differentiable in logits (and in a tau that is a tensor).
/// \throws  as gumbel_softmax; c10::ValueError also for k out of range; c10::IndexError for K = 0.
TORCH_GUMBEL_API at::Tensor gumbel_subset(const at::Tensor& logits, int64_t k, double tau = 1.0,
                                          bool hard = false, int64_t dim = -1,
                                          std::optional<at::Generator> generator = std::nullopt,
                                          const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor, as for gumbel_softmax.
TORCH_GUMBEL_API at::Tensor gumbel_subset(const at::Tensor& logits, int64_t k,
                                          const at::Tensor& tau, bool hard = false,
                                          int64_t dim = -1,
                                          std::optional<at::Generator> generator = std::nullopt,
                                          const std::optional<at::Tensor>& key = std::nullopt);

// A k, tau, hard, or dim that would be converted.
template <refused::NotAnInteger Count, typename... Rest>
at::Tensor gumbel_subset(const at::Tensor&, Count, Rest&&...) = delete;
template <refused::ABool Tau, typename... Rest>
at::Tensor gumbel_subset(const at::Tensor&, int64_t, Tau, Rest&&...) = delete;
template <typename Tau, refused::NotABool Hard, typename... Rest>
at::Tensor gumbel_subset(const at::Tensor&, int64_t, const Tau&, Hard, Rest&&...) = delete;
template <typename Tau, refused::NotAnInteger Dim, typename... Rest>
at::Tensor gumbel_subset(const at::Tensor&, int64_t, const Tau&, bool, Dim, Rest&&...) = delete;

}  // namespace torch_gumbel
