// SPDX-License-Identifier: Apache-2.0
/// \file
/// One-hot samples with the gradient of a named estimator. Shapes, errors, and randomness:
/// <torch_gumbel/torch_gumbel.h>.
///
///     auto [z, index] = sample_one_hot(logits, SampleOneHotFuncOptions("reinmax").tau(1.2));
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/arg.h>
#include <torch_gumbel/export.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>

namespace torch_gumbel {

/// Options of sample_one_hot. One that an estimator does not use must be at its default.
struct SampleOneHotFuncOptions {
  SampleOneHotFuncOptions(std::string estimator = "straight-through")
      : estimator_(std::move(estimator)) {}
  SampleOneHotFuncOptions(const char* estimator) : estimator_(estimator) {}

  /// Temperature of the gradient, > 0 ("reinmax": >= 1), finite: a number, or a tensor (one value,
  /// or one per row), which gets a gradient except from "reinmax". Default: 1, of "gumbel-rao" 0.5.
  /// Not of "zgr".
  SampleOneHotFuncOptions& tau(double value) {
    tau_ = value;
    return *this;
  }
  SampleOneHotFuncOptions& tau(at::Tensor value) {
    tau_ = std::move(value);
    return *this;
  }
  const std::variant<std::monostate, double, at::Tensor>& tau() const { return tau_; }

  /// "straight-through", "gumbel", "reinmax", "zgr", "gumbel-rao", "gapped", or "decoupled".
  TORCH_ARG(std::string, estimator);

  /// The class dimension.
  TORCH_ARG(int64_t, dim) = -1;

  /// e in [0, 1]: draws from (1 - e) softmax(logits) + e / (number of classes that are not masked).
  TORCH_ARG(double, uniform_mix) = 0;

  /// "gumbel-rao": conditional draws of the backward, >= 1.
  TORCH_ARG(int64_t, samples) = 10;

  /// "gapped": least distance of the choice's score from the others', >= 0.
  TORCH_ARG(double, gap) = 1;

  /// "decoupled": temperature of the draw, > 0.
  TORCH_ARG(double, tau_forward) = 1;

  /// Make the index where it costs something: "gumbel".
  TORCH_ARG(bool, return_index) = false;

  /// As for gumbel_softmax.
  TORCH_ARG(std::optional<at::Generator>, generator);
  TORCH_ARG(std::optional<at::Tensor>, key);

 private:
  std::variant<std::monostate, double, at::Tensor> tau_;
};

/// A one-hot sample of Categorical(softmax(logits)): exactly one 1 and K - 1 zeros, at the class of
/// gumbel_argmax of the same key, whatever the estimator ("decoupled": at that of temperature
/// tau_forward). The estimator decides the gradient alone; formulas: docs/guide/estimators.md.
///
/// \param logits  [*, K, *], as for gumbel_softmax. They may be edited before the backward.
/// \return  (sample of the shape and dtype of `logits`, differentiable in logits and tau; int64 [*],
///     the drawn class, or an empty tensor if it was not made). A row that has no distribution
///     gives NaN and index 0.
/// \throws  as gumbel_softmax; c10::ValueError also for an unknown estimator, an option out of
///     range, and one that the estimator does not use; c10::IndexError for K = 0.
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> sample_one_hot(
    const at::Tensor& logits, const SampleOneHotFuncOptions& options = {});

}  // namespace torch_gumbel
