// SPDX-License-Identifier: Apache-2.0
#include <c10/core/InferenceMode.h>
#include <torch/serialize/input-archive.h>
#include <torch/utils.h>
#include <torch_gumbel/nn.h>
#include <torch_gumbel/one_hot.h>
#include <torch_gumbel/sampling.h>

#include <cmath>
#include <memory>
#include <optional>
#include <utility>

namespace torch_gumbel::nn {
namespace {

constexpr const char* kNumber = "_extra_state";  // as PyTorch calls what a module saves beside

double checked(double tau) {
  TORCH_CHECK_VALUE(tau > 0 && std::isfinite(tau),
                    "GumbelSoftmax: tau must be > 0 and finite, got ", tau);
  return tau;
}

/// NaN rows where a sample would be NaN.
at::Tensor one_hot_of_largest(const at::Tensor& logits, int64_t dim) {
  const auto [largest, index] = logits.detach().max(dim, /*keepdim=*/true);
  return torch::zeros_like(logits)
      .scatter_(dim, index, 1.0)
      .masked_fill_(largest.isfinite().logical_not(), std::nan(""));
}

/// softmax(logits / tau) in float32 (float64 for float64), relative to the largest logit, so that
/// no finite logit or temperature overflows. A mask is kept out of the division, whose gradient it
/// would make NaN.
at::Tensor softmax_without_noise(const at::Tensor& logits, const at::Tensor& tau, int64_t dim) {
  if (logits.numel() == 0) return logits.softmax(dim);
  const auto type = at::promote_types(logits.scalar_type(), at::kFloat);
  const at::Tensor x = logits.to(type), masked = x == -INFINITY, t = tau.to(x.device());
  const at::Tensor top = x.detach().amax(dim, /*keepdim=*/true);
  const at::Tensor above_1 = torch::where(t > 1, t, 1), below_1 = torch::where(t > 1, 1, t);
  const at::Tensor centred = x.masked_fill(masked, 0) / above_1 - top / above_1;
  return (centred / below_1)
      .to(type)
      .masked_fill(masked, -INFINITY)
      .softmax(dim)
      .to(logits.scalar_type());
}

const char* name_of(EvalMode mode) {
  switch (mode) {
    case EvalMode::kArgmax:
      return "argmax";
    case EvalMode::kSample:
      return "sample";
    case EvalMode::kSoft:
      return "soft";
  }
  return "?";
}

}  // namespace

GumbelSoftmaxImpl::GumbelSoftmaxImpl(GumbelSoftmaxOptions given) : options(std::move(given)) {
  checked(options.tau());
  TORCH_CHECK_VALUE(options.estimator() == "gumbel" || (options.hard() && !options.recompute()),
                    "GumbelSoftmax: estimator is an argument of hard samples without recompute, "
                    "got \"",
                    options.estimator(), "\"");
  reset();
}

void GumbelSoftmaxImpl::reset() {
  number_ = log_temperature_ = kept_ = at::Tensor();
  if (options.learnable_tau())
    log_temperature_ = register_parameter("log_temperature", torch::empty({1}));
  else
    number_ = register_buffer(kNumber, torch::empty({}, torch::kDouble));
  reset_parameters();
}

void GumbelSoftmaxImpl::reset_parameters() { set_tau(options.tau()); }

void GumbelSoftmaxImpl::pretty_print(std::ostream& stream) const {
  stream << std::boolalpha << "torch_gumbel::nn::GumbelSoftmax(tau=";
  options.learnable_tau() ? stream << "learned" : stream << number_.item<double>();
  stream << ", hard=" << options.hard() << ", dim=" << options.dim()
         << ", recompute=" << options.recompute() << ", learnable_tau=" << options.learnable_tau()
         << ", eval_mode=" << name_of(options.eval_mode()) << ")";
}

at::Tensor GumbelSoftmaxImpl::tau() const {
  return options.learnable_tau() ? log_temperature_.to(torch::kDouble).exp().reshape({}) : number_;
}

void GumbelSoftmaxImpl::set_tau(double value) {
  const torch::NoGradGuard guard;
  checked(value);
  if (options.learnable_tau()) {
    log_temperature_.fill_(std::log(value));
    return;
  }
  number_.fill_(value);
  if (kept_.defined()) kept_.fill_(kept_value_ = value);
}

// The number stays as it is: a cast would change it, and a copy on a device be read from there.
template <class Move>
void GumbelSoftmaxImpl::move(const Move& to, std::optional<torch::Device> device) {
  const auto number = options.learnable_tau() ? 0 : number_.item<double>();
  to();
  if (options.learnable_tau()) return;
  number_.set_data(torch::scalar_tensor(number, torch::kDouble));
  if (device) keep_on(*device);
}

void GumbelSoftmaxImpl::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  move([&] { Cloneable::to(device, dtype, non_blocking); }, device);
}

void GumbelSoftmaxImpl::to(torch::Dtype dtype, bool non_blocking) {
  move([&] { Cloneable::to(dtype, non_blocking); }, std::nullopt);
}

void GumbelSoftmaxImpl::to(torch::Device device, bool non_blocking) {
  move([&] { Cloneable::to(device, non_blocking); }, device);
}

std::shared_ptr<torch::nn::Module> GumbelSoftmaxImpl::clone(
    const std::optional<torch::Device>& device) const {
  auto copy = Cloneable::clone(device);
  auto& module = static_cast<GumbelSoftmaxImpl&>(*copy);
  const auto place = device ? device : kept_.defined() ? kept_.device() : device;
  module.move([] {}, place);
  return copy;
}

void GumbelSoftmaxImpl::load(torch::serialize::InputArchive& archive) {
  if (options.learnable_tau()) {
    Cloneable::load(archive);
    log_temperature_.set_data(log_temperature_.detach().reshape({1}));
    return;
  }
  at::Tensor saved;
  if (!archive.try_read(kNumber, saved, /*is_buffer=*/true) &&
      !archive.try_read("temperature", saved, /*is_buffer=*/true))
    archive.read(kNumber, saved, /*is_buffer=*/true);  // which says that there is none
  set_tau(saved.item<double>());
}

// A graph that is captured reads the number where its device can follow it.
void GumbelSoftmaxImpl::keep_on(torch::Device device) {
  const c10::InferenceMode guard(false);
  kept_value_ = number_.item<double>();
  kept_ = device.is_cuda() ? number_.to(device) : at::Tensor();
}

at::Tensor GumbelSoftmaxImpl::tau_for(const at::Tensor& logits) {
  if (!kept_.defined() || kept_.device() != logits.device()) return tau();
  // The buffer may have been written by its name.
  if (number_.item<double>() != kept_value_) set_tau(number_.item<double>());
  return kept_;
}

at::Tensor GumbelSoftmaxImpl::forward(const at::Tensor& logits,
                                      std::optional<at::Generator> generator,
                                      std::optional<at::Tensor> key) {
  const bool samples = is_training() || options.eval_mode() == EvalMode::kSample;
  if (samples && options.estimator() != "gumbel") {
    SampleOneHotFuncOptions how(options.estimator());
    if (options.estimator() != "zgr") how.tau(tau_for(logits));
    return std::get<0>(sample_one_hot(
        logits, how.dim(options.dim()).generator(std::move(generator)).key(std::move(key))));
  }
  if (samples)
    return gumbel_softmax(logits, tau_for(logits), options.hard(), options.dim(),
                          options.recompute(), std::move(generator), key);
  if (options.eval_mode() == EvalMode::kSoft)
    return softmax_without_noise(logits, tau(), options.dim());
  return one_hot_of_largest(logits, options.dim());
}

}  // namespace torch_gumbel::nn
