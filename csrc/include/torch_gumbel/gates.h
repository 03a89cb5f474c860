// SPDX-License-Identifier: Apache-2.0
/// \file
/// Gates: relaxed Bernoulli samples, element by element. Errors and randomness:
/// <torch_gumbel/torch_gumbel.h>; of a key per slice, the slices may be single elements.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/arg.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/refused.h>

#include <optional>
#include <utility>
#include <variant>

namespace torch_gumbel {

/// A temperature > 0, finite: a number, or a tensor that broadcasts to the logits, which gets a
/// gradient.
template <typename Options>
class GateTemperature {
 public:
  explicit GateTemperature(double tau) : tau_(tau) {}
  Options& tau(double value) {
    tau_ = value;
    return static_cast<Options&>(*this);
  }
  Options& tau(at::Tensor value) {
    tau_ = std::move(value);
    return static_cast<Options&>(*this);
  }
  const std::variant<double, at::Tensor>& tau() const { return tau_; }

 private:
  std::variant<double, at::Tensor> tau_;
};

/// Options of gumbel_sigmoid.
struct GumbelSigmoidFuncOptions : GateTemperature<GumbelSigmoidFuncOptions> {
  GumbelSigmoidFuncOptions() : GateTemperature(1.0) {}

  /// 0 or 1, with the gradient of the soft sample.
  TORCH_ARG(bool, hard) = false;

  /// Of a hard sample, in (0, 1).
  TORCH_ARG(double, threshold) = 0.5;

  /// As for gumbel_softmax.
  TORCH_ARG(bool, recompute) = false;
  TORCH_ARG(std::optional<at::Generator>, generator);
  TORCH_ARG(std::optional<at::Tensor>, key);
};

/// Options of hard_concrete.
struct HardConcreteFuncOptions : GateTemperature<HardConcreteFuncOptions> {
  HardConcreteFuncOptions() : GateTemperature(2.0 / 3.0) {}

  /// Where gates are stretched to: lower < 0, upper >= 1.
  TORCH_ARG(double, lower) = -0.1;
  TORCH_ARG(double, upper) = 1.1;

  /// As for gumbel_softmax.
  TORCH_ARG(std::optional<at::Generator>, generator);
  TORCH_ARG(std::optional<at::Tensor>, key);
};

/// A sample of the binary Concrete distribution, sigmoid((logits + L) / tau) with logistic noise
/// L = log v - log(1 - v), |L| < 45.1: the law of the first of two classes of gumbel_softmax with
/// logits (l, 0). Maddison, Mnih, Teh, "The Concrete distribution", 2016, section 3.1; Jang, Gu,
/// Poole, "Categorical reparameterization with Gumbel-Softmax", 2016.
///
/// \param logits  of any shape, float32, float64, float16, or bfloat16. -inf and +inf give exactly 0
///     and 1 with a gradient of exactly 0, NaN gives NaN.
/// \param tau  temperature > 0, finite.
/// \param hard  1 where the soft sample exceeds `threshold`, else 0, with the gradient of the soft
///     sample of the same noise. At .5 it is 1 with probability sigmoid(logits) whatever tau is,
///     equal in bits on every device.
/// \param recompute  keep logits and key for the backward, which must not be edited until then, and
///     make the noise again.
/// \return  shape and dtype of `logits`, contiguous; differentiable.
/// \throws c10::ValueError  tau not positive and finite, threshold not in (0, 1), key or generator of
///     the wrong device or shape, or both given.
/// \throws c10::TypeError  logits not floating point, key not uint64 or int64.
TORCH_GUMBEL_API at::Tensor gumbel_sigmoid(const at::Tensor& logits, double tau = 1.0,
                                           bool hard = false, double threshold = 0.5,
                                           bool recompute = false,
                                           std::optional<at::Generator> generator = std::nullopt,
                                           const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor that broadcasts to logits. It gets a gradient of its shape,
/// and is never read on the host: an entry that is not positive and finite gives NaN.
TORCH_GUMBEL_API at::Tensor gumbel_sigmoid(const at::Tensor& logits, const at::Tensor& tau,
                                           bool hard = false, double threshold = 0.5,
                                           bool recompute = false,
                                           std::optional<at::Generator> generator = std::nullopt,
                                           const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options.
TORCH_GUMBEL_API at::Tensor gumbel_sigmoid(const at::Tensor& logits,
                                           const GumbelSigmoidFuncOptions& options);

// A tau, hard, or recompute that would be converted.
template <refused::ABool Tau, typename... Rest>
at::Tensor gumbel_sigmoid(const at::Tensor&, Tau, Rest&&...) = delete;
template <typename Tau, refused::NotABool Hard, typename... Rest>
at::Tensor gumbel_sigmoid(const at::Tensor&, const Tau&, Hard, Rest&&...) = delete;
template <typename Tau, refused::NotABool Recompute, typename... Rest>
at::Tensor gumbel_sigmoid(const at::Tensor&, const Tau&, bool, double, Recompute,
                          Rest&&...) = delete;

/// A hard concrete gate: a sample of gumbel_sigmoid stretched to [lower, upper] and clamped to
/// [0, 1], so that it is exactly 0 or 1 with positive probability. Louizos, Welling, Kingma,
/// "Learning sparse neural networks through L0 regularization", 2018.
///
/// \param lower  < 0.
/// \param upper  >= 1, upper - lower at most 1e6.
/// \return  as gumbel_sigmoid; the gradient is 0 where the gate is clamped.
/// \throws  as gumbel_sigmoid; c10::ValueError also for lower or upper out of range.
TORCH_GUMBEL_API at::Tensor hard_concrete(const at::Tensor& logits, double tau = 2.0 / 3.0,
                                          double lower = -0.1, double upper = 1.1,
                                          std::optional<at::Generator> generator = std::nullopt,
                                          const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor, as for gumbel_sigmoid.
TORCH_GUMBEL_API at::Tensor hard_concrete(const at::Tensor& logits, const at::Tensor& tau,
                                          double lower = -0.1, double upper = 1.1,
                                          std::optional<at::Generator> generator = std::nullopt,
                                          const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options.
TORCH_GUMBEL_API at::Tensor hard_concrete(const at::Tensor& logits,
                                          const HardConcreteFuncOptions& options);

/// The probability that such a gate is not 0, sigmoid(logits - tau log(-lower / upper)), element by
/// element: its sum is the expected number of open gates, the L0 penalty.
TORCH_GUMBEL_API at::Tensor hard_concrete_penalty(const at::Tensor& logits, double tau = 2.0 / 3.0,
                                                  double lower = -0.1, double upper = 1.1);
TORCH_GUMBEL_API at::Tensor hard_concrete_penalty(const at::Tensor& logits, const at::Tensor& tau,
                                                  double lower = -0.1, double upper = 1.1);

template <refused::ABool Tau, typename... Rest>
at::Tensor hard_concrete(const at::Tensor&, Tau, Rest&&...) = delete;
template <refused::ABool Tau, typename... Rest>
at::Tensor hard_concrete_penalty(const at::Tensor&, Tau, Rest&&...) = delete;

}  // namespace torch_gumbel
