// SPDX-License-Identifier: Apache-2.0
/// \file
/// A sampled code from a codebook. Shapes, errors, and randomness: <torch_gumbel/torch_gumbel.h>.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/options.h>
#include <torch_gumbel/refused.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace torch_gumbel {

/// gumbel_softmax(logits, tau, hard) times a codebook. Hard: the code of the drawn class, a gather
/// and no product, with the straight-through gradients of that product: at the codebook's drawn
/// row, and at the logits through the soft sample of the same noise, which is recomputed.
///
/// \param logits  [*, K], as for gumbel_softmax.
/// \param codebook  [K, D], or [K], as if D were 1 and then dropped: with 0, 1, ..., K - 1 the
///     result is a straight-through index, value k with the gradient J(y) codebook / tau.
/// \return  ([*, D] (or [*]) of the codebook's dtype, differentiable in logits, tau, and codebook;
///     int64 [*], the drawn class, or an empty tensor if it was not made: a soft lookup makes it
///     only with `return_index`). A row that has no distribution gives NaN and index 0.
/// \throws  as gumbel_softmax; c10::ValueError also for a codebook of the wrong shape or device,
///     c10::TypeError for one that is not floating point.
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> straight_through_lookup(
    const at::Tensor& logits, const at::Tensor& codebook, double tau = 1.0, bool hard = true,
    bool return_index = false, std::optional<at::Generator> generator = std::nullopt,
    const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor, as for gumbel_softmax.
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> straight_through_lookup(
    const at::Tensor& logits, const at::Tensor& codebook, const at::Tensor& tau, bool hard = true,
    bool return_index = false, std::optional<at::Generator> generator = std::nullopt,
    const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options.
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> straight_through_lookup(
    const at::Tensor& logits, const at::Tensor& codebook,
    const StraightThroughLookupFuncOptions& options);

// A tau, hard, or return_index that would be converted.
template <refused::ABool Tau, typename... Rest>
std::tuple<at::Tensor, at::Tensor> straight_through_lookup(const at::Tensor&, const at::Tensor&,
                                                           Tau, Rest&&...) = delete;
template <typename Tau, refused::NotABool Hard, typename... Rest>
std::tuple<at::Tensor, at::Tensor> straight_through_lookup(const at::Tensor&, const at::Tensor&,
                                                           const Tau&, Hard, Rest&&...) = delete;
template <typename Tau, refused::NotABool ReturnIndex, typename... Rest>
std::tuple<at::Tensor, at::Tensor> straight_through_lookup(const at::Tensor&, const at::Tensor&,
                                                           const Tau&, bool, ReturnIndex,
                                                           Rest&&...) = delete;

}  // namespace torch_gumbel
