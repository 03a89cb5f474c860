// SPDX-License-Identifier: Apache-2.0
/// \file
/// Gumbel-Softmax as a torch::nn module. Apart from <torch_gumbel/torch_gumbel.h>, which does
/// without LibTorch's modules.
///
///     torch_gumbel::nn::GumbelSoftmax sample(
///         torch_gumbel::nn::GumbelSoftmaxOptions().tau(0.5).hard(true));
///     auto y = sample->forward(logits);
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/arg.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/modules/common.h>
#include <torch/nn/modules/container/any.h>
#include <torch/nn/pimpl.h>
#include <torch_gumbel/export.h>

#include <cstdint>
#include <optional>
#include <ostream>

namespace torch_gumbel::nn {

/// What a module gives in evaluation.
enum class EvalMode {
  kArgmax,  ///< the one-hot of the largest logit, first on ties, without noise and gradient
  kSample,  ///< what training gives
  kSoft,    ///< softmax(logits / tau), without noise
};

/// Options of GumbelSoftmax.
struct GumbelSoftmaxOptions {
  /// Temperature > 0, finite.
  TORCH_ARG(double, tau) = 1.0;

  /// One-hot samples with the straight-through gradient.
  TORCH_ARG(bool, hard) = false;

  /// The class dimension.
  TORCH_ARG(int64_t, dim) = -1;

  /// Learn the temperature, as its logarithm: it stays > 0.
  TORCH_ARG(bool, learnable_tau) = false;

  TORCH_ARG(EvalMode, eval_mode) = EvalMode::kArgmax;
};

/// Samples of logits in training; in evaluation what `eval_mode` says. Its temperature is saved
/// with it: a buffer `temperature`, or a parameter `log_temperature` if it is learned, the names
/// that the Python module has.
class TORCH_GUMBEL_API GumbelSoftmaxImpl : public torch::nn::Cloneable<GumbelSoftmaxImpl> {
 public:
  /// \throws c10::ValueError  tau not positive and finite.
  explicit GumbelSoftmaxImpl(GumbelSoftmaxOptions options = {});

  void reset() override;
  void pretty_print(std::ostream& stream) const override;

  /// \param logits  [*, K, *].
  /// \return  its shape and dtype; as torch_gumbel::gumbel_softmax, with its errors.
  at::Tensor forward(const at::Tensor& logits,
                     std::optional<at::Generator> generator = std::nullopt,
                     std::optional<at::Tensor> key = std::nullopt);

  /// The temperature, a tensor with one value.
  at::Tensor tau() const;

  /// Changes it, as a schedule does.
  /// \throws c10::ValueError  not positive and finite.
  void set_tau(double value);

  GumbelSoftmaxOptions options;

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(std::optional<at::Generator>())},
                           {2, torch::nn::AnyValue(std::optional<at::Tensor>())})

 private:
  at::Tensor temperature_;  // or its logarithm
};

TORCH_MODULE(GumbelSoftmax);

}  // namespace torch_gumbel::nn
