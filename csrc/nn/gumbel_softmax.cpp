// SPDX-License-Identifier: Apache-2.0
#include <torch/utils.h>
#include <torch_gumbel/nn.h>
#include <torch_gumbel/sampling.h>

#include <cmath>

namespace torch_gumbel::nn {
namespace {

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
  reset();
}

void GumbelSoftmaxImpl::reset() {
  temperature_ = options.learnable_tau()
                     ? register_parameter("log_temperature", torch::tensor(std::log(options.tau())))
                     : register_buffer("temperature", torch::tensor(options.tau()));
}

void GumbelSoftmaxImpl::pretty_print(std::ostream& stream) const {
  stream << std::boolalpha << "torch_gumbel::nn::GumbelSoftmax(tau=" << tau().item<double>()
         << ", hard=" << options.hard() << ", dim=" << options.dim()
         << ", learnable_tau=" << options.learnable_tau()
         << ", eval_mode=" << name_of(options.eval_mode()) << ")";
}

at::Tensor GumbelSoftmaxImpl::tau() const {
  return options.learnable_tau() ? temperature_.exp() : temperature_;
}

void GumbelSoftmaxImpl::set_tau(double value) {
  const torch::NoGradGuard guard;
  temperature_.fill_(options.learnable_tau() ? std::log(checked(value)) : checked(value));
}

at::Tensor GumbelSoftmaxImpl::forward(const at::Tensor& logits,
                                      std::optional<at::Generator> generator,
                                      std::optional<at::Tensor> key) {
  if (is_training() || options.eval_mode() == EvalMode::kSample)
    return gumbel_softmax(logits, tau(), options.hard(), options.dim(), false, std::move(generator),
                          key);
  if (options.eval_mode() == EvalMode::kSoft)
    return softmax_without_noise(logits, tau(), options.dim());
  return one_hot_of_largest(logits, options.dim());
}

}  // namespace torch_gumbel::nn
