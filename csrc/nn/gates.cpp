// SPDX-License-Identifier: Apache-2.0
#include <c10/core/InferenceMode.h>
#include <torch/serialize/input-archive.h>
#include <torch/utils.h>
#include <torch_gumbel/gates.h>
#include <torch_gumbel/nn_gates.h>

#include <cmath>
#include <memory>
#include <optional>
#include <utility>

namespace torch_gumbel::nn {
namespace {

constexpr const char* kNumber = "_extra_state";  // as PyTorch calls what a module saves beside

double checked_tau(const char* who, double tau) {
  TORCH_CHECK_VALUE(tau > 0 && std::isfinite(tau), who, ": tau must be > 0 and finite, got ", tau);
  return tau;
}

double checked_share(const char* who, const char* name, double share) {
  TORCH_CHECK_VALUE(share > 0 && share < 1, who, ": ", name, " must be in (0, 1), got ", share);
  return share;
}

/// sigmoid(logits / tau) in float32 (float64 for float64). Infinite logits are kept out of the
/// division, whose gradient they would make NaN.
at::Tensor sigmoid_without_noise(const at::Tensor& logits, const at::Tensor& tau) {
  const auto type = at::promote_types(logits.scalar_type(), at::kFloat);
  const at::Tensor x = logits.to(type), infinite = x.isinf();
  const at::Tensor scaled = (x.masked_fill(infinite, 0) / tau.to(x.device())).to(type).sigmoid();
  return at::where(infinite, (x.detach() > 0).to(type), scaled).to(logits.scalar_type());
}

const char* name_of(GateEvalMode mode) {
  switch (mode) {
    case GateEvalMode::kThreshold:
      return "threshold";
    case GateEvalMode::kSample:
      return "sample";
    case GateEvalMode::kSoft:
      return "soft";
  }
  return "?";
}

}  // namespace

GumbelSigmoidImpl::GumbelSigmoidImpl(GumbelSigmoidOptions given) : options(std::move(given)) {
  checked_tau("GumbelSigmoid", options.tau());
  checked_share("GumbelSigmoid", "threshold", options.threshold());
  reset();
}

void GumbelSigmoidImpl::reset() {
  number_ = log_temperature_ = kept_ = at::Tensor();
  if (options.learnable_tau())
    log_temperature_ = register_parameter("log_temperature", torch::empty({1}));
  else
    number_ = register_buffer(kNumber, torch::empty({}, torch::kDouble));
  reset_parameters();
}

void GumbelSigmoidImpl::reset_parameters() { set_tau(options.tau()); }

void GumbelSigmoidImpl::pretty_print(std::ostream& stream) const {
  stream << std::boolalpha << "torch_gumbel::nn::GumbelSigmoid(tau=";
  options.learnable_tau() ? stream << "learned" : stream << number_.item<double>();
  stream << ", hard=" << options.hard() << ", threshold=" << options.threshold()
         << ", recompute=" << options.recompute() << ", learnable_tau=" << options.learnable_tau()
         << ", eval_mode=" << name_of(options.eval_mode()) << ")";
}

at::Tensor GumbelSigmoidImpl::tau() const {
  return options.learnable_tau() ? log_temperature_.to(torch::kDouble).exp().reshape({}) : number_;
}

void GumbelSigmoidImpl::set_tau(double value) {
  const torch::NoGradGuard guard;
  checked_tau("GumbelSigmoid", value);
  if (options.learnable_tau()) {
    log_temperature_.fill_(std::log(value));
    return;
  }
  number_.fill_(value);
  if (kept_.defined()) kept_.fill_(kept_value_ = value);
}

// The number stays as it is: a cast would change it, and a copy on a device be read from there.
template <class Move>
void GumbelSigmoidImpl::move(const Move& to, std::optional<torch::Device> device) {
  const double number = options.learnable_tau() ? 0 : number_.item<double>();
  to();
  if (options.learnable_tau()) return;
  number_.set_data(torch::scalar_tensor(number, torch::kDouble));
  if (device) keep_on(*device);
}

void GumbelSigmoidImpl::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  move([&] { Cloneable::to(device, dtype, non_blocking); }, device);
}

void GumbelSigmoidImpl::to(torch::Dtype dtype, bool non_blocking) {
  move([&] { Cloneable::to(dtype, non_blocking); }, std::nullopt);
}

void GumbelSigmoidImpl::to(torch::Device device, bool non_blocking) {
  move([&] { Cloneable::to(device, non_blocking); }, device);
}

std::shared_ptr<torch::nn::Module> GumbelSigmoidImpl::clone(
    const std::optional<torch::Device>& device) const {
  auto copy = Cloneable::clone(device);
  auto& module = static_cast<GumbelSigmoidImpl&>(*copy);
  const auto place = device ? device : kept_.defined() ? kept_.device() : device;
  module.move([] {}, place);
  return copy;
}

void GumbelSigmoidImpl::load(torch::serialize::InputArchive& archive) {
  if (options.learnable_tau()) return Cloneable::load(archive);
  at::Tensor saved;
  archive.read(kNumber, saved, /*is_buffer=*/true);
  set_tau(saved.item<double>());
}

// A graph that is captured reads the number where its device can follow it.
void GumbelSigmoidImpl::keep_on(torch::Device device) {
  const c10::InferenceMode guard(false);
  kept_value_ = number_.item<double>();
  kept_ = device.is_cuda() ? number_.to(device) : at::Tensor();
}

at::Tensor GumbelSigmoidImpl::tau_for(const at::Tensor& logits) {
  if (!kept_.defined() || kept_.device() != logits.device()) return tau();
  // The buffer may have been written by its name.
  if (number_.item<double>() != kept_value_) set_tau(number_.item<double>());
  return kept_;
}

at::Tensor GumbelSigmoidImpl::forward(const at::Tensor& logits,
                                      std::optional<at::Generator> generator,
                                      std::optional<at::Tensor> key) {
  if (is_training() || options.eval_mode() == GateEvalMode::kSample)
    return gumbel_sigmoid(logits, tau_for(logits), options.hard(), options.threshold(),
                          options.recompute(), std::move(generator), key);
  if (options.eval_mode() == GateEvalMode::kSoft) return sigmoid_without_noise(logits, tau());
  const at::Tensor share = logits.detach().to(torch::kDouble).sigmoid();
  return (share > options.threshold())
      .to(logits.scalar_type())
      .masked_fill(share.isnan(), std::nan(""));
}

HardConcreteImpl::HardConcreteImpl(HardConcreteOptions given) : options(std::move(given)) {
  constexpr const char* kWho = "HardConcrete";
  checked_share(kWho, "init_open", options.init_open());
  checked_tau(kWho, options.tau());
  TORCH_CHECK_VALUE(options.lower() < 0 && std::isfinite(options.lower()), kWho,
                    ": lower must be < 0 and finite, got ", options.lower());
  TORCH_CHECK_VALUE(options.upper() >= 1 && std::isfinite(options.upper()), kWho,
                    ": upper must be >= 1 and finite, got ", options.upper());
  reset();
}

void HardConcreteImpl::reset() {
  log_alpha = register_parameter("log_alpha", torch::empty(options.shape()));
  reset_parameters();
}

void HardConcreteImpl::reset_parameters() {
  const torch::NoGradGuard guard;
  log_alpha.fill_(std::log(options.init_open()) - std::log1p(-options.init_open()));
}

void HardConcreteImpl::pretty_print(std::ostream& stream) const {
  stream << "torch_gumbel::nn::HardConcrete(" << log_alpha.sizes()
         << ", init_open=" << options.init_open() << ", tau=" << options.tau()
         << ", lower=" << options.lower() << ", upper=" << options.upper() << ")";
}

at::Tensor HardConcreteImpl::forward(const at::Tensor& input,
                                     std::optional<at::Generator> generator,
                                     std::optional<at::Tensor> key) {
  const at::Tensor gates = is_training() ? hard_concrete(log_alpha, options.tau(), options.lower(),
                                                         options.upper(), std::move(generator), key)
                                         : test_gate();
  return input * gates.to(input.scalar_type());
}

at::Tensor HardConcreteImpl::test_gate() const {
  return (log_alpha.sigmoid() * (options.upper() - options.lower()) + options.lower()).clamp(0, 1);
}

at::Tensor HardConcreteImpl::penalty() const {
  return hard_concrete_penalty(log_alpha, options.tau(), options.lower(), options.upper()).sum();
}

int64_t HardConcreteImpl::num_open() const { return (test_gate() > 0).sum().item<int64_t>(); }

}  // namespace torch_gumbel::nn
