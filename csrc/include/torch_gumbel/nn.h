// SPDX-License-Identifier: Apache-2.0
/// \file
/// Gumbel-Softmax as a torch::nn module, and, by <torch_gumbel/nn_gates.h>, gates. Apart from
/// <torch_gumbel/torch_gumbel.h>, which does without LibTorch's modules.
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
#include <torch/serialize/input-archive.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/nn_gates.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

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

  /// As for torch_gumbel::gumbel_softmax: hard samples keep logits and key for their backward,
  /// which must not be edited until then, instead of the soft sample.
  TORCH_ARG(bool, recompute) = false;

  /// Of hard samples without recompute: the estimator of the gradient, as for
  /// torch_gumbel::sample_one_hot; "zgr" has no temperature.
  TORCH_ARG(std::string, estimator) = "gumbel";

  /// Learn the temperature, as its logarithm: it stays > 0.
  TORCH_ARG(bool, learnable_tau) = false;

  TORCH_ARG(EvalMode, eval_mode) = EvalMode::kArgmax;
};

/// Samples of logits in training; in evaluation what `eval_mode` says. Its temperature is saved
/// with it: a buffer `_extra_state`, float64 and on the CPU whatever `to` does, or a parameter
/// `log_temperature` [1] if it is learned, the names in the state dict of the Python module. A
/// captured CUDA graph follows set_tau if the module was moved to its device.
class TORCH_GUMBEL_API GumbelSoftmaxImpl : public torch::nn::Cloneable<GumbelSoftmaxImpl> {
 public:
  /// \throws c10::ValueError  tau not positive and finite; an estimator of soft samples, or with
  ///     recompute.
  explicit GumbelSoftmaxImpl(GumbelSoftmaxOptions options = {});

  void reset() override;

  /// Takes the temperature of the options.
  void reset_parameters();

  void pretty_print(std::ostream& stream) const override;

  /// \param logits  [*, K, *].
  /// \return  its shape and dtype; as torch_gumbel::gumbel_softmax, with its errors.
  at::Tensor forward(const at::Tensor& logits,
                     std::optional<at::Generator> generator = std::nullopt,
                     std::optional<at::Tensor> key = std::nullopt);

  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

  /// Also what older versions saved: a buffer `temperature`, a 0-d `log_temperature`.
  /// \throws c10::ValueError  a saved temperature that is not positive and finite.
  void load(torch::serialize::InputArchive& archive) override;

  /// The temperature, a 0-d tensor; on the CPU if it is not learned.
  at::Tensor tau() const;

  /// Changes it, as a schedule does.
  /// \throws c10::ValueError  not positive and finite.
  void set_tau(double value);

  GumbelSoftmaxOptions options;

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(std::optional<at::Generator>())},
                           {2, torch::nn::AnyValue(std::optional<at::Tensor>())})

 private:
  template <class Move>
  void move(const Move& to, std::optional<torch::Device> device);
  void keep_on(torch::Device device);
  at::Tensor tau_for(const at::Tensor& logits);

  at::Tensor number_;           // the buffer; undefined if the temperature is learned
  at::Tensor log_temperature_;  // the parameter
  at::Tensor kept_;             // the number on the CUDA device that the module is on
  double kept_value_ = 0;
};

TORCH_MODULE(GumbelSoftmax);

}  // namespace torch_gumbel::nn
