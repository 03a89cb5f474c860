// SPDX-License-Identifier: Apache-2.0
/// \file
/// Gates as torch::nn modules, by way of <torch_gumbel/nn.h>.
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
#include <memory>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

namespace torch_gumbel::nn {

/// What GumbelSigmoid gives in evaluation.
enum class GateEvalMode {
  kThreshold,  ///< 1 where sigmoid(logits) exceeds the threshold, else 0, without noise and gradient
  kSample,     ///< what training gives
  kSoft,       ///< sigmoid(logits / tau), without noise
};

/// Options of GumbelSigmoid.
struct GumbelSigmoidOptions {
  /// Temperature > 0, finite.
  TORCH_ARG(double, tau) = 1.0;

  /// Samples of 0 or 1 with the straight-through gradient.
  TORCH_ARG(bool, hard) = false;

  /// Of hard samples and of kThreshold, in (0, 1).
  TORCH_ARG(double, threshold) = 0.5;

  /// As for torch_gumbel::gumbel_sigmoid.
  TORCH_ARG(bool, recompute) = false;

  /// Learn the temperature, as its logarithm: it stays > 0.
  TORCH_ARG(bool, learnable_tau) = false;

  TORCH_ARG(GateEvalMode, eval_mode) = GateEvalMode::kThreshold;
};

/// Samples of logits of any shape in training; in evaluation what `eval_mode` says. Its temperature is
/// saved with it, under the names of the Python module: a buffer `_extra_state`, float64 and on the CPU
/// whatever `to` does, or a parameter `log_temperature` [1] if it is learned. A captured CUDA graph follows
/// set_tau if the module was moved to its device.
class TORCH_GUMBEL_API GumbelSigmoidImpl : public torch::nn::Cloneable<GumbelSigmoidImpl> {
 public:
  /// \throws c10::ValueError  tau not positive and finite, threshold not in (0, 1).
  explicit GumbelSigmoidImpl(GumbelSigmoidOptions options = {});

  void reset() override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// \return  shape and dtype of `logits`; as torch_gumbel::gumbel_sigmoid, with its errors.
  at::Tensor forward(const at::Tensor& logits,
                     std::optional<at::Generator> generator = std::nullopt,
                     std::optional<at::Tensor> key = std::nullopt);

  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

  /// \throws c10::ValueError  a saved temperature that is not positive and finite.
  void load(torch::serialize::InputArchive& archive) override;

  /// The temperature, a 0-d tensor; on the CPU if it is not learned.
  at::Tensor tau() const;

  /// Changes it, as a schedule does.
  /// \throws c10::ValueError  not positive and finite.
  void set_tau(double value);

  GumbelSigmoidOptions options;

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

TORCH_MODULE(GumbelSigmoid);

/// Options of HardConcrete.
struct HardConcreteOptions {
  explicit HardConcreteOptions(std::vector<int64_t> shape) : shape_(std::move(shape)) {}

  /// Of the gates, which broadcast against the input from the right.
  TORCH_ARG(std::vector<int64_t>, shape);

  /// sigmoid of the first log_alpha, in (0, 1).
  TORCH_ARG(double, init_open) = 0.5;

  /// As for torch_gumbel::hard_concrete.
  TORCH_ARG(double, tau) = 2.0 / 3.0;
  TORCH_ARG(double, lower) = -0.1;
  TORCH_ARG(double, upper) = 1.1;
};

/// Gates that learn to be exactly 0: in training the input times one sample of hard_concrete for each
/// gate, in evaluation times test_gate(). Its parameter is `log_alpha`.
class TORCH_GUMBEL_API HardConcreteImpl : public torch::nn::Cloneable<HardConcreteImpl> {
 public:
  /// \throws c10::ValueError  an option out of range.
  explicit HardConcreteImpl(HardConcreteOptions options);

  void reset() override;

  /// Sets log_alpha to logit(init_open).
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// \param input  [*, *shape].
  /// \return  its shape and dtype.
  at::Tensor forward(const at::Tensor& input, std::optional<at::Generator> generator = std::nullopt,
                     std::optional<at::Tensor> key = std::nullopt);

  /// clamp(sigmoid(log_alpha) (upper - lower) + lower, 0, 1).
  at::Tensor test_gate() const;

  /// The expected number of gates that are not 0, a 0-d tensor.
  at::Tensor penalty() const;

  /// The number of gates that are not 0 in evaluation.
  int64_t num_open() const;

  HardConcreteOptions options;
  at::Tensor log_alpha;

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(std::optional<at::Generator>())},
                           {2, torch::nn::AnyValue(std::optional<at::Tensor>())})
};

TORCH_MODULE(HardConcrete);

}  // namespace torch_gumbel::nn
