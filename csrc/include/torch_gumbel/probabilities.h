// SPDX-License-Identifier: Apache-2.0
/// \file
/// From probabilities instead of logits. Shapes, errors, and randomness:
/// <torch_gumbel/torch_gumbel.h>.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/options.h>
#include <torch_gumbel/refused.h>

#include <cstdint>
#include <optional>

namespace torch_gumbel {

/// gumbel_softmax of log(probs): a sample of the Gumbel-Softmax distribution, from probabilities.
///
/// \param probs  [*, K, *], >= 0, float32, float64, float16, or bfloat16; rows need not sum to 1. A
///     class of probability 0 is exactly 0 in every sample, never drawn, and gets a gradient of
///     exactly 0. A row of zeros, or with a negative value, NaN, or infinity, gives a row of NaN.
/// \param temperature  > 0, finite.
/// \param validate_args  look for such rows, and throw instead; reads probs on the host.
/// \return  shape and dtype of probs, differentiable in them.
/// \throws  as gumbel_softmax; c10::ValueError also, if validating, for a value that is negative,
///     NaN, or infinite, and for a row of zeros.
TORCH_GUMBEL_API at::Tensor sample_categorical(
    const at::Tensor& probs, double temperature, bool hard = false, int64_t dim = -1,
    bool validate_args = true, std::optional<at::Generator> generator = std::nullopt,
    const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor, as for gumbel_softmax.
TORCH_GUMBEL_API at::Tensor sample_categorical(
    const at::Tensor& probs, const at::Tensor& temperature, bool hard = false, int64_t dim = -1,
    bool validate_args = true, std::optional<at::Generator> generator = std::nullopt,
    const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options: sample_categorical(probs,
/// SampleCategoricalFuncOptions(0.5).dim(1)).
TORCH_GUMBEL_API at::Tensor sample_categorical(const at::Tensor& probs,
                                               const SampleCategoricalFuncOptions& options);

// A temperature, hard, or validate_args, and a dim, that would be converted.
template <refused::ABool Temperature, typename... Rest>
at::Tensor sample_categorical(const at::Tensor&, Temperature, Rest&&...) = delete;
template <typename Temperature, refused::NotABool Hard, typename... Rest>
at::Tensor sample_categorical(const at::Tensor&, const Temperature&, Hard, Rest&&...) = delete;
template <typename Temperature, refused::NotAnInteger Dim, typename... Rest>
at::Tensor sample_categorical(const at::Tensor&, const Temperature&, bool, Dim, Rest&&...) = delete;
template <typename Temperature, refused::NotABool Validate, typename... Rest>
at::Tensor sample_categorical(const at::Tensor&, const Temperature&, bool, int64_t, Validate,
                              Rest&&...) = delete;

}  // namespace torch_gumbel
