// SPDX-License-Identifier: Apache-2.0
/// \file
/// Options of the functions, named as LibTorch names its own.
///
///     gumbel_softmax(logits, GumbelSoftmaxFuncOptions().tau(0.5).hard(true).dim(1));
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/arg.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace torch_gumbel {

/// Options of gumbel_softmax; torch::nn::functional::GumbelSoftmaxFuncOptions and more.
struct GumbelSoftmaxFuncOptions {
  /// Temperature > 0, finite: a number, or a tensor (one value, or one per row), which gets a
  /// gradient.
  GumbelSoftmaxFuncOptions& tau(double value) {
    tau_ = value;
    return *this;
  }
  GumbelSoftmaxFuncOptions& tau(at::Tensor value) {
    tau_ = std::move(value);
    return *this;
  }
  const std::variant<double, at::Tensor>& tau() const { return tau_; }

  /// The one-hot of the sample, with the gradient of the soft sample.
  TORCH_ARG(bool, hard) = false;

  /// The class dimension.
  TORCH_ARG(int64_t, dim) = -1;

  /// Of a hard sample: make the noise again in the backward, for which logits and key are kept and
  /// must not be edited, instead of keeping the soft sample.
  TORCH_ARG(bool, recompute) = false;

  /// Where the call's key is drawn from; absent: the device's default generator.
  TORCH_ARG(std::optional<at::Generator>, generator);

  /// The key itself, uint64 or int64 [*batch, 2]; excludes a generator.
  TORCH_ARG(std::optional<at::Tensor>, key);

 private:
  std::variant<double, at::Tensor> tau_ = 1.0;
};

/// Options of gumbel_argmax.
struct GumbelArgmaxFuncOptions {
  /// Temperature >= 0, finite: a number, or a tensor (one value, or one per row). Logits are
  /// multiplied by the float32 number 1 / temperature; 0 gives the plain argmax.
  GumbelArgmaxFuncOptions& temperature(double value) {
    temperature_ = value;
    return *this;
  }
  GumbelArgmaxFuncOptions& temperature(at::Tensor value) {
    temperature_ = std::move(value);
    return *this;
  }
  const std::variant<double, at::Tensor>& temperature() const { return temperature_; }

  /// The class dimension.
  TORCH_ARG(int64_t, dim) = -1;

  /// Keep it, with size 1.
  TORCH_ARG(bool, keepdim) = false;

  /// Draws with replacement, as a leading dimension; absent: one, without that dimension.
  TORCH_ARG(std::optional<int64_t>, num_samples);

  /// As for gumbel_softmax.
  TORCH_ARG(std::optional<at::Generator>, generator);
  TORCH_ARG(std::optional<at::Tensor>, key);

 private:
  std::variant<double, at::Tensor> temperature_ = 1.0;
};

/// Options of gumbel_topk.
struct GumbelTopkFuncOptions {
  explicit GumbelTopkFuncOptions(int64_t k) : k_(k) {}

  /// As for gumbel_argmax.
  GumbelTopkFuncOptions& temperature(double value) {
    temperature_ = value;
    return *this;
  }
  GumbelTopkFuncOptions& temperature(at::Tensor value) {
    temperature_ = std::move(value);
    return *this;
  }
  const std::variant<double, at::Tensor>& temperature() const { return temperature_; }

  /// How many classes, in [1, K].
  TORCH_ARG(int64_t, k);

  /// The class dimension.
  TORCH_ARG(int64_t, dim) = -1;

  /// As for gumbel_softmax.
  TORCH_ARG(std::optional<at::Generator>, generator);
  TORCH_ARG(std::optional<at::Tensor>, key);

 private:
  std::variant<double, at::Tensor> temperature_ = 1.0;
};

/// Options of sample_categorical.
struct SampleCategoricalFuncOptions {
  /// Temperature > 0, finite.
  explicit SampleCategoricalFuncOptions(double temperature) : temperature_(temperature) {}
  explicit SampleCategoricalFuncOptions(at::Tensor temperature)
      : temperature_(std::move(temperature)) {}
  const std::variant<double, at::Tensor>& temperature() const { return temperature_; }

  /// As for gumbel_softmax.
  TORCH_ARG(bool, hard) = false;
  TORCH_ARG(int64_t, dim) = -1;

  /// Look for rows that have no distribution, and throw; reads the probabilities on the host.
  TORCH_ARG(bool, validate_args) = true;

  /// As for gumbel_softmax.
  TORCH_ARG(std::optional<at::Generator>, generator);
  TORCH_ARG(std::optional<at::Tensor>, key);

 private:
  std::variant<double, at::Tensor> temperature_;
};

/// Options of straight_through_lookup.
struct StraightThroughLookupFuncOptions {
  /// As for gumbel_softmax.
  StraightThroughLookupFuncOptions& tau(double value) {
    tau_ = value;
    return *this;
  }
  StraightThroughLookupFuncOptions& tau(at::Tensor value) {
    tau_ = std::move(value);
    return *this;
  }
  const std::variant<double, at::Tensor>& tau() const { return tau_; }

  /// The drawn code, or the mean of the codes under the soft sample.
  TORCH_ARG(bool, hard) = true;

  /// Of a hard lookup: the estimator of the gradient at the logits, as for sample_one_hot; those but
  /// "gumbel" make a one-hot and a product.
  TORCH_ARG(std::string, estimator) = "gumbel";

  /// Make the index where it costs something: a hard lookup has it.
  TORCH_ARG(bool, return_index) = false;

  /// As for gumbel_softmax.
  TORCH_ARG(std::optional<at::Generator>, generator);
  TORCH_ARG(std::optional<at::Tensor>, key);

 private:
  std::variant<double, at::Tensor> tau_ = 1.0;
};

}  // namespace torch_gumbel
