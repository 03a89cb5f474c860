// SPDX-License-Identifier: Apache-2.0
// The public header: values, shapes, dtypes, layouts.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <torch_gumbel/torch_gumbel.h>

#include <cmath>
#include <string>
#include <vector>

#include "math/gumbel.h"
#include "math/philox.h"

namespace torch_gumbel {
namespace {

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16};

at::Tensor some_logits(at::IntArrayRef shape, at::ScalarType type = at::kFloat) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(count, at::kDouble).mul(0.7).sin().mul(3).view(shape).to(type);
}

/// (logits + noise) / tau in float64, from the words of a key.
at::Tensor scores(const at::Tensor& logits, math::Key key) {
  at::Tensor sum = logits.to(at::kDouble).contiguous().clone();
  auto* values = sum.data_ptr<double>();
  for (int64_t i = 0; i < sum.numel(); ++i)
    values[i] +=
        math::gumbel(math::key_word(key, i), math::key_word(key, i, math::Plane::kExtension));
  return sum;
}

TEST(GumbelSoftmax, IsTheSoftmaxOfLogitsPlusNoise) {
  for (const int64_t dim : {0, 1, 2, -1})
    for (const double tau : {0.5, 1.0, 3.0}) {
      const auto logits = some_logits({5, 6, 7});
      const auto y = gumbel_softmax(logits, tau, false, dim, false, std::nullopt, key(11));
      const auto expected = scores(logits, {11, 0}).div(tau).softmax(dim);
      EXPECT_TRUE(at::allclose(y.to(at::kDouble), expected, 3e-5, 1e-9)) << dim << " " << tau;
    }
}

TEST(GumbelSoftmax, HardIsTheOneHotOfTheLargestScore) {
  for (const int64_t dim : {0, 1, 2}) {
    const auto logits = some_logits({5, 6, 7});
    const auto hard = gumbel_softmax(logits, 0.5, true, dim, false, std::nullopt, key(11));
    const auto position = scores(logits, {11, 0}).argmax(dim, /*keepdim=*/true);
    const auto expected = at::zeros_like(logits).scatter(dim, position, 1.0);
    EXPECT_TRUE(at::equal(hard, expected)) << dim;
  }
}

TEST(GumbelSoftmax, KeepsShapeAndDtypeAndIsContiguous) {
  const std::vector<std::vector<int64_t>> shapes = {{}, {1}, {7}, {3, 1}, {2, 3, 4, 5}, {4, 9000}};
  for (const auto type : kTypes)
    for (const auto& shape : shapes)
      for (const bool hard : {false, true}) {
        const auto logits = some_logits(shape, type);
        const auto y = gumbel_softmax(logits, 1.0, hard, -1, false, std::nullopt, key(1));
        EXPECT_EQ(y.sizes(), logits.sizes());
        EXPECT_EQ(y.scalar_type(), type);
        EXPECT_TRUE(y.is_contiguous());
        const auto sum = y.to(at::kDouble).sum(-1);
        EXPECT_TRUE(at::allclose(sum, at::ones_like(sum), 0.01, 0.02)) << type;
      }
}

TEST(GumbelSoftmax, ZeroDimensionsAndOneClassGiveOne) {
  for (const bool hard : {false, true}) {
    EXPECT_EQ(gumbel_softmax(at::scalar_tensor(-4.0), 1.0, hard).item<double>(), 1);
    EXPECT_TRUE(at::equal(gumbel_softmax(some_logits({6, 1}), 1.0, hard), at::ones({6, 1})));
  }
  EXPECT_EQ(gumbel_argmax(at::scalar_tensor(-4.0)).item<int64_t>(), 0);
}

TEST(GumbelSoftmax, EmptyTensorsStayEmpty) {
  for (const bool hard : {false, true})
    EXPECT_EQ(gumbel_softmax(at::empty({0, 5}), 1.0, hard).sizes(), at::IntArrayRef({0, 5}));
  EXPECT_EQ(gumbel_softmax(at::empty({5, 0})).sizes(), at::IntArrayRef({5, 0}));
  EXPECT_EQ(gumbel_argmax(at::empty({0, 5})).sizes(), at::IntArrayRef({0}));
  EXPECT_EQ(gumbel_argmax(at::empty({3, 5, 0}), 1).sizes(), at::IntArrayRef({3, 0}));
}

TEST(GumbelSoftmax, LayoutsThreadsAndCallsDoNotChangeBits) {
  const auto logits = some_logits({4, 6, 130, 5});
  const int threads = at::get_num_threads();
  for (const int64_t dim : {0, 1, 2, 3})
    for (const bool hard : {false, true}) {
      const auto y = gumbel_softmax(logits, 0.7, hard, dim, false, std::nullopt, key(3));
      const auto same = [&](const at::Tensor& other) {
        EXPECT_TRUE(
            at::equal(y, gumbel_softmax(other, 0.7, hard, dim, false, std::nullopt, key(3))));
      };
      same(logits.transpose(0, 2).contiguous().transpose(0, 2));
      same(logits.contiguous(at::MemoryFormat::ChannelsLast));
      same(at::repeat_interleave(logits, 2, 2).slice(2, 0, 260, 2));
      at::set_num_threads(1);
      same(logits);
      at::set_num_threads(threads);
    }
}

TEST(GumbelSoftmax, TemperatureMayBeATensor) {
  const auto logits = some_logits({5, 6, 7});
  const auto y = gumbel_softmax(logits, 0.5, false, 1, false, std::nullopt, key(2));
  for (const auto& tau : {at::scalar_tensor(0.5), at::scalar_tensor(0.5, at::kDouble),
                          at::full({1}, 0.5), at::full({5, 1, 7}, 0.5), at::full({1, 7}, 0.5)})
    EXPECT_TRUE(at::equal(y, gumbel_softmax(logits, tau, false, 1, false, std::nullopt, key(2))));
  auto taus = at::full({5, 1, 1}, 0.5);
  taus[2] = -1;
  const auto partly = gumbel_softmax(logits, taus, false, 1, false, std::nullopt, key(2));
  EXPECT_TRUE(partly[2].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(partly[3], y[3]));
}

TEST(GumbelSoftmax, MaskedClassesHaveNoProbability) {
  auto logits = some_logits({50, 20});
  logits.slice(1, 0, 10).fill_(-INFINITY);
  const auto y = gumbel_softmax(logits, 1.0);
  EXPECT_EQ(y.slice(1, 0, 10).abs().max().item<double>(), 0);
  EXPECT_GE(gumbel_argmax(logits).min().item<int64_t>(), 10);
  logits[7].fill_(-INFINITY);
  EXPECT_TRUE(gumbel_softmax(logits, 1.0, true)[7].isnan().all().item<bool>());
  EXPECT_EQ(gumbel_argmax(logits)[7].item<int64_t>(), 0);
}

/// As softmax on the CPU, which autocast leaves alone there.
TEST(GumbelSoftmax, AutocastOnTheCpuKeepsTheDtype) {
  at::autocast::set_autocast_enabled(at::kCPU, true);
  for (const auto type : kTypes)
    EXPECT_EQ(gumbel_softmax(some_logits({3, 4}, type)).scalar_type(), type);
  at::autocast::set_autocast_enabled(at::kCPU, false);
}

TEST(GumbelArgmax, IsThePositionOfTheOne) {
  for (const auto type : kTypes)
    for (const int64_t dim : {0, 1, 2}) {
      const auto logits = some_logits({4, 300, 3}, type);
      const auto hard = gumbel_softmax(logits, 1.0, true, dim, false, std::nullopt, key(4));
      const auto index = gumbel_argmax(logits, dim, false, std::nullopt, 1.0, std::nullopt, key(4));
      EXPECT_EQ(index.scalar_type(), at::kLong);
      EXPECT_TRUE(at::equal(index, hard.argmax(dim)));
      const auto kept = gumbel_argmax(logits, dim, true, std::nullopt, 1.0, std::nullopt, key(4));
      EXPECT_TRUE(at::equal(kept, index.unsqueeze(dim)));
    }
}

TEST(GumbelArgmax, TemperatureDividesTheLogitsOnly) {
  const auto logits = some_logits({100, 30});
  const auto index = gumbel_argmax(logits, -1, false, std::nullopt, 0.5, std::nullopt, key(4));
  EXPECT_TRUE(at::equal(index, scores(logits * 2, {4, 0}).argmax(-1)));
  const auto cold = gumbel_argmax(logits, -1, false, std::nullopt, 1e-30, std::nullopt, key(4));
  EXPECT_TRUE(at::equal(cold, logits.argmax(-1)));
}

TEST(GumbelArgmax, CountsFollowTheProbabilities) {
  const auto logits = at::tensor({0.5, 0.25, 0.15, 0.1}, at::kFloat).log();
  const int64_t draws = 400000;
  const auto index =
      gumbel_argmax(logits.expand({draws, 4}), -1, false, std::nullopt, 1.0, std::nullopt, key(9));
  const auto counts = index.bincount({}, 4).to(at::kDouble);
  const auto expected = logits.to(at::kDouble).exp() * draws;
  const auto chi_square = ((counts - expected).square() / expected).sum().item<double>();
  EXPECT_LT(chi_square, 30.7);  // 3 degrees of freedom: exceeded once in a million keys
}

TEST(InferenceMode, OpsWorkAndResultsAreInferenceTensors) {
  const c10::InferenceMode guard;
  const auto logits = some_logits({3, 4}).set_requires_grad(false);
  EXPECT_TRUE(gumbel_softmax(logits).is_inference());
  EXPECT_TRUE(gumbel_softmax(logits, 1.0, true).is_inference());
  EXPECT_EQ(gumbel_argmax(logits).size(0), 3);
}

TEST(BuildInformation, IsFilledIn) {
  const BuildInfo info = build_info();
  EXPECT_FALSE(info.version.empty());
  EXPECT_EQ(info.torch.compare(0, 2, "2."), 0) << info.torch;
  EXPECT_EQ(info.cuda.empty(), info.cuda_architectures.empty());
  EXPECT_NE(info.cpu_builds.find("generic"), std::string::npos);
  EXPECT_NE(info.cpu_builds.find(info.cpu_selected), std::string::npos);
}

}  // namespace
}  // namespace torch_gumbel
