// SPDX-License-Identifier: Apache-2.0
// Gradients through the public header.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch_gumbel/torch_gumbel.h>

#include <cmath>

namespace torch_gumbel {
namespace {

using std::nullopt;
using torch::autograd::grad;

at::Tensor some(at::IntArrayRef shape, double phase, at::ScalarType type = at::kDouble) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(count, at::kDouble).mul(0.9).add(phase).sin().mul(2).view(shape).to(type);
}

at::Tensor sample(const at::Tensor& logits, const at::Tensor& tau, bool hard = false,
                  int64_t dim = -1) {
  return gumbel_softmax(logits, tau, hard, dim, false, nullopt, key(7));
}

/// The gradient at `x` of sum(weights * f(x)), by central differences in float64.
template <typename F>
at::Tensor differences(const at::Tensor& x, const at::Tensor& weights, F&& f) {
  constexpr double kStep = 1e-6;
  const at::Tensor base = x.detach().clone();
  at::Tensor gradient = at::zeros_like(base);
  for (int64_t i = 0; i < base.numel(); ++i) {
    at::Tensor up = base.clone(), down = base.clone();
    up.view(-1)[i] += kStep;
    down.view(-1)[i] -= kStep;
    const auto change = (weights * (f(up) - f(down))).sum();
    gradient.view(-1)[i] = change.template item<double>() / (2 * kStep);
  }
  return gradient;
}

TEST(Gradient, OfLogitsMatchesDifferences) {
  const auto tau = at::scalar_tensor(0.8, at::kDouble);
  for (const int64_t dim : {0, 1, 2}) {
    const auto logits = some({3, 4, 5}, 0).set_requires_grad(true);
    const auto weights = some({3, 4, 5}, 1);
    const auto y = sample(logits, tau, false, dim);
    const auto got = grad({y}, {logits}, {weights})[0];
    const auto wanted =
        differences(logits, weights, [&](const auto& x) { return sample(x, tau, false, dim); });
    EXPECT_TRUE(at::allclose(got, wanted, 1e-6, 1e-8)) << dim;
  }
}

TEST(Gradient, OfTemperatureMatchesDifferences) {
  const auto logits = some({3, 4, 5}, 0), weights = some({3, 4, 5}, 1);
  for (const auto& start : {at::scalar_tensor(0.8, at::kDouble), some({3, 1, 5}, 2).abs() + 0.4,
                            some({1, 5}, 2).abs() + 0.4, some({3, 1, 1}, 2).abs() + 0.4}) {
    const auto tau = start.clone().set_requires_grad(true);
    const auto got = grad({sample(logits, tau, false, 1)}, {tau}, {weights})[0];
    const auto wanted =
        differences(tau, weights, [&](const auto& t) { return sample(logits, t, false, 1); });
    EXPECT_EQ(got.sizes(), tau.sizes());
    EXPECT_TRUE(at::allclose(got, wanted, 1e-6, 1e-8)) << tau.sizes();
  }
}

TEST(Gradient, OfHardIsThatOfSoftForTheSameNoise) {
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16})
    for (const int64_t classes : {5, 300, 9000}) {
      const auto logits = some({3, classes}, 0, type).set_requires_grad(true);
      const auto tau = at::scalar_tensor(0.7, at::kDouble).set_requires_grad(true);
      const auto weights = some({3, classes}, 1, type);
      const auto soft = grad({sample(logits, tau)}, {logits, tau}, {weights});
      const auto hard = grad({sample(logits, tau, true)}, {logits, tau}, {weights});
      const bool half = type == at::kHalf || type == at::kBFloat16;  // soft keeps a rounded y
      const double relative = half ? 0.05 : 1e-5, absolute = half ? 2e-2 : 1e-9;
      EXPECT_TRUE(at::allclose(soft[0], hard[0], relative, absolute)) << type << " " << classes;
      EXPECT_EQ(hard[0].scalar_type(), type);
    }
}

TEST(Gradient, OfHardIsBitwiseThatOfSoftInFloat32AndFloat64) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto logits = some({7, 40}, 0, type).set_requires_grad(true);
    const auto weights = some({7, 40}, 1, type);
    const auto tau = at::scalar_tensor(0.7, at::kDouble);
    const auto soft = grad({sample(logits, tau)}, {logits}, {weights})[0];
    const auto hard = grad({sample(logits, tau, true)}, {logits}, {weights})[0];
    EXPECT_TRUE(at::equal(soft, hard)) << type;
  }
}

TEST(Gradient, OfASecondOrderMatchesDifferences) {
  const auto logits = some({2, 5}, 0).set_requires_grad(true);
  const auto tau = at::scalar_tensor(0.8, at::kDouble).set_requires_grad(true);
  const auto weights = some({2, 5}, 1), outer = some({2, 5}, 3);
  const auto first = [&](const at::Tensor& x) {
    const auto leaf = x.detach().clone().set_requires_grad(true);
    return grad({sample(leaf, tau)}, {leaf}, {weights})[0].detach();
  };
  const auto slope = grad({sample(logits, tau)}, {logits}, {weights}, true, true)[0];
  const auto got = grad({slope}, {logits}, {outer})[0];
  EXPECT_TRUE(at::allclose(got, differences(logits, outer, first), 1e-5, 1e-7));
}

TEST(Gradient, OfMaskedClassesIsZero) {
  auto values = some({4, 6}, 0, at::kFloat);
  values.slice(1, 2, 4).fill_(-INFINITY);
  const auto logits = values.set_requires_grad(true);
  for (const bool hard : {false, true}) {
    const auto got =
        grad({gumbel_softmax(logits, 0.5, hard)}, {logits}, {some({4, 6}, 1, at::kFloat)})[0];
    EXPECT_EQ(got.slice(1, 2, 4).abs().max().item<double>(), 0);
    EXPECT_TRUE(got.isfinite().all().item<bool>());
  }
}

TEST(Gradient, ReachesLeavesByBackward) {
  const auto logits = some({4, 6}, 0, at::kFloat).set_requires_grad(true);
  (gumbel_softmax(logits, 0.5, true) * some({4, 6}, 1, at::kFloat)).sum().backward();
  ASSERT_TRUE(logits.grad().defined());
  EXPECT_GT(logits.grad().abs().sum().item<double>(), 0);
  EXPECT_LT(logits.grad().sum(-1).abs().max().item<double>(), 1e-5);
}

TEST(Gradient, IsTrackedOnlyWhereWanted) {
  const auto logits = some({4, 6}, 0).set_requires_grad(true);
  EXPECT_TRUE(gumbel_softmax(logits).requires_grad());
  EXPECT_TRUE(gumbel_softmax(logits, 1.0, true).requires_grad());
  EXPECT_FALSE(gumbel_softmax(logits.detach()).requires_grad());
  EXPECT_FALSE(gumbel_argmax(logits).requires_grad());
  const c10::NoGradGuard guard;
  EXPECT_FALSE(gumbel_softmax(logits).requires_grad());
  EXPECT_FALSE(gumbel_softmax(logits, 1.0, true).requires_grad());
}

TEST(Gradient, IsNotTrackedInInferenceMode) {
  const c10::InferenceMode guard;
  const auto logits = some({4, 6}, 0).set_requires_grad(true);
  EXPECT_FALSE(gumbel_softmax(logits, 1.0, true).requires_grad());
}

TEST(Gradient, RefusesEditedLogitsOfWhichTheNoiseIsMadeAgain) {
  const auto leaf = some({4, 6}, 0).set_requires_grad(true);
  for (const bool recompute : {false, true}) {
    auto logits = leaf * 1;
    const auto y = gumbel_softmax(logits, 1.0, true, -1, recompute);
    logits.add_(1);
    if (recompute)
      EXPECT_THROW(y.sum().backward(), c10::Error);
    else
      EXPECT_NO_THROW(y.sum().backward());
  }
}

}  // namespace
}  // namespace torch_gumbel
