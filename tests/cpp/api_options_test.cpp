// SPDX-License-Identifier: Apache-2.0
// Named options say the same as arguments by position.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch_gumbel/torch_gumbel.h>

namespace torch_gumbel {
namespace {

using SoftmaxOptions = GumbelSoftmaxFuncOptions;
using ArgmaxOptions = GumbelArgmaxFuncOptions;
using std::nullopt;

at::Tensor logits() { return at::arange(60, at::kFloat).sin().view({3, 4, 5}); }
at::Generator generator() { return at::make_generator<at::CPUGeneratorImpl>(7); }

TEST(Options, OfASoftmaxAreItsArguments) {
  const auto x = logits();
  EXPECT_TRUE(at::equal(gumbel_softmax(x, SoftmaxOptions().key(key(5))),
                        gumbel_softmax(x, 1.0, false, -1, false, nullopt, key(5))));
  EXPECT_TRUE(at::equal(gumbel_softmax(x, SoftmaxOptions().tau(0.5).hard(true).dim(1).key(key(5))),
                        gumbel_softmax(x, 0.5, true, 1, false, nullopt, key(5))));
  EXPECT_TRUE(at::equal(gumbel_softmax(x, SoftmaxOptions().tau(2).generator(generator())),
                        gumbel_softmax(x, 2.0, false, -1, false, generator())));
}

TEST(Options, TakeATensorAsTemperatureAndGiveItItsGradient) {
  const auto tau = at::full({3, 1, 5}, 0.7).set_requires_grad(true);
  const auto y = gumbel_softmax(logits(), SoftmaxOptions().tau(tau).dim(1).key(key(5)));
  EXPECT_TRUE(at::equal(y, gumbel_softmax(logits(), tau, false, 1, false, nullopt, key(5))));
  (y * logits()).sum().backward();
  EXPECT_EQ(tau.grad().sizes(), tau.sizes());
  EXPECT_GT(tau.grad().abs().max().item<double>(), 0);
}

TEST(Options, OfAnArgmaxAreItsArguments) {
  const auto x = logits();
  EXPECT_TRUE(at::equal(gumbel_argmax(x, ArgmaxOptions().key(key(5))),
                        gumbel_argmax(x, -1, false, nullopt, 1.0, nullopt, key(5))));
  const auto options = ArgmaxOptions().dim(1).keepdim(true).temperature(0.5);
  EXPECT_TRUE(at::equal(gumbel_argmax(x, ArgmaxOptions(options).generator(generator())),
                        gumbel_argmax(x, 1, true, nullopt, 0.5, generator())));
}

TEST(Options, OfAnArgmaxTakeATensorAndANumberOfSamples) {
  const auto x = logits(), rows = at::full({3, 1, 5}, 0.5);
  const auto drawn =
      gumbel_argmax(x, ArgmaxOptions().temperature(rows).dim(1).num_samples(7).key(key(5)));
  EXPECT_TRUE(at::equal(drawn, gumbel_argmax(x, 1, false, 7, 0.5, nullopt, key(5))));
  EXPECT_EQ(drawn.sizes(), (at::IntArrayRef{7, 3, 5}));
}

bool equal(const std::tuple<at::Tensor, at::Tensor>& a,
           const std::tuple<at::Tensor, at::Tensor>& b) {
  return at::equal(std::get<0>(a), std::get<0>(b)) && at::equal(std::get<1>(a), std::get<1>(b));
}

TEST(Options, OfATopkAreItsArguments) {
  const auto x = logits();
  EXPECT_TRUE(equal(gumbel_topk(x, GumbelTopkFuncOptions(3).dim(1).temperature(0.5).key(key(5))),
                    gumbel_topk(x, 3, 1, 0.5, nullopt, key(5))));
  EXPECT_TRUE(equal(gumbel_topk(x, GumbelTopkFuncOptions(3).temperature(at::ones({})).key(key(5))),
                    gumbel_topk(x, 3, at::ones({}), -1, nullopt, key(5))));
}

TEST(Options, OfASampleFromProbabilitiesAreItsArguments) {
  const auto p = logits().softmax(1), tau = at::full({3, 1, 5}, 0.7);
  EXPECT_TRUE(at::equal(
      sample_categorical(p, SampleCategoricalFuncOptions(0.5).hard(true).dim(1).key(key(5))),
      sample_categorical(p, 0.5, true, 1, true, nullopt, key(5))));
  EXPECT_TRUE(at::equal(sample_categorical(p, SampleCategoricalFuncOptions(tau).dim(1).key(key(5))),
                        sample_categorical(p, tau, false, 1, true, nullopt, key(5))));
  EXPECT_THROW(sample_categorical(-p, SampleCategoricalFuncOptions(0.5)), c10::ValueError);
  EXPECT_NO_THROW(sample_categorical(-p, SampleCategoricalFuncOptions(0.5).validate_args(false)));
}

TEST(Options, OfALookupAreItsArguments) {
  const auto x = logits(), codes = at::arange(10, at::kFloat).view({5, 2});
  const auto options = StraightThroughLookupFuncOptions().tau(0.5).key(key(5));
  EXPECT_TRUE(equal(straight_through_lookup(x, codes, options),
                    straight_through_lookup(x, codes, 0.5, true, false, nullopt, key(5))));
  EXPECT_TRUE(
      equal(straight_through_lookup(
                x, codes, StraightThroughLookupFuncOptions(options).hard(false).return_index(true)),
            straight_through_lookup(x, codes, 0.5, false, true, nullopt, key(5))));
}

TEST(Options, ThatAreWrongAreRefusedByName) {
  EXPECT_THROW(gumbel_softmax(logits(), SoftmaxOptions().tau(-1)), c10::ValueError);
  EXPECT_THROW(gumbel_softmax(logits(), SoftmaxOptions().dim(3)), c10::IndexError);
  EXPECT_THROW(gumbel_softmax(logits(), SoftmaxOptions().generator(generator()).key(key(5))),
               c10::ValueError);
  EXPECT_THROW(gumbel_argmax(logits(), ArgmaxOptions().temperature(-1)), c10::ValueError);
}

}  // namespace
}  // namespace torch_gumbel
