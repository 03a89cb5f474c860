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
                        gumbel_softmax(x, 1.0, false, -1, nullopt, key(5))));
  EXPECT_TRUE(at::equal(gumbel_softmax(x, SoftmaxOptions().tau(0.5).hard(true).dim(1).key(key(5))),
                        gumbel_softmax(x, 0.5, true, 1, nullopt, key(5))));
  EXPECT_TRUE(at::equal(gumbel_softmax(x, SoftmaxOptions().tau(2).generator(generator())),
                        gumbel_softmax(x, 2.0, false, -1, generator())));
}

TEST(Options, TakeATensorAsTemperatureAndGiveItItsGradient) {
  const auto tau = at::full({3, 1, 5}, 0.7).set_requires_grad(true);
  const auto y = gumbel_softmax(logits(), SoftmaxOptions().tau(tau).dim(1).key(key(5)));
  EXPECT_TRUE(at::equal(y, gumbel_softmax(logits(), tau, false, 1, nullopt, key(5))));
  (y * logits()).sum().backward();
  EXPECT_EQ(tau.grad().sizes(), tau.sizes());
  EXPECT_GT(tau.grad().abs().max().item<double>(), 0);
}

TEST(Options, OfAnArgmaxAreItsArguments) {
  const auto x = logits();
  EXPECT_TRUE(at::equal(gumbel_argmax(x, ArgmaxOptions().key(key(5))),
                        gumbel_argmax(x, -1, false, 1.0, nullopt, key(5))));
  const auto options = ArgmaxOptions().dim(1).keepdim(true).temperature(0.5);
  EXPECT_TRUE(at::equal(gumbel_argmax(x, ArgmaxOptions(options).generator(generator())),
                        gumbel_argmax(x, 1, true, 0.5, generator())));
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
