// SPDX-License-Identifier: Apache-2.0
// The functions around the op, from C++: their values and gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch_gumbel/torch_gumbel.h>

#include <cmath>

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::nullopt;

Tensor logits() { return at::arange(60, at::kDouble).mul(0.7).sin().mul(3).view({3, 4, 5}); }

TEST(Noise, IsWhatAnIndexAdds) {
  const Tensor x = logits().to(at::kFloat);
  const Tensor noise = sample_gumbel(x.sizes(), {}, nullopt, key(5));
  EXPECT_TRUE(at::equal(noise, gumbel_like(x, nullopt, nullopt, key(5))));
  EXPECT_TRUE(at::equal((x + noise).argmax(-1),
                        gumbel_argmax(x, -1, false, nullopt, 1.0, nullopt, key(5))));
  EXPECT_EQ(sample_gumbel({3}, at::kHalf).scalar_type(), at::kHalf);
  EXPECT_EQ(gumbel_like(x, at::kDouble).scalar_type(), at::kDouble);
  EXPECT_THROW(sample_gumbel({-1}), c10::ValueError);
  EXPECT_THROW(sample_gumbel({3}, at::kInt), c10::TypeError);
}

TEST(Argmax, AtTemperatureZeroIsGreedy) {
  const Tensor x = logits(), rows = at::tensor({0.0, 1.0, 0.0}).view({3, 1, 1});
  EXPECT_TRUE(at::equal(gumbel_argmax(x, -1, false, nullopt, 0.0), x.argmax(-1)));
  const Tensor drawn = gumbel_argmax(x, rows, -1, false, nullopt, nullopt, key(5));
  EXPECT_TRUE(at::equal(drawn[0], x[0].argmax(-1)));
  EXPECT_TRUE(at::equal(drawn[1], gumbel_argmax(x, -1, false, nullopt, 1.0, nullopt, key(5))[1]));
}

TEST(GumbelAt, IsTheNoiseOfThoseClasses) {
  const Tensor noise = sample_gumbel({4, 100}, {}, nullopt, key(5));
  const Tensor index = at::randint(100, {4, 7}, at::kLong);
  EXPECT_TRUE(at::equal(gumbel_at(index, 100, key(5)), noise.gather(1, index)));
  EXPECT_EQ(gumbel_at(index, 100, key(5), at::kHalf).scalar_type(), at::kHalf);
  EXPECT_TRUE(gumbel_at(index + 100, 100, key(5)).isnan().all().item<bool>());
  EXPECT_THROW(gumbel_at(index, 0, key(5)), c10::ValueError);
  EXPECT_THROW(gumbel_at(index.to(at::kInt), 100, key(5)), c10::TypeError);
}

TEST(Topk, IsTheLargestScoresInOrder) {
  const Tensor x = logits();
  const auto [values, indices] = gumbel_topk(x, 3, 1, 1.0, nullopt, key(5));
  const auto sorted = (x + gumbel_like(x, nullopt, nullopt, key(5))).sort(1, true);
  EXPECT_TRUE(at::equal(values, std::get<0>(sorted).narrow(1, 0, 3)));
  EXPECT_TRUE(at::equal(indices, std::get<1>(sorted).narrow(1, 0, 3)));
  EXPECT_THROW(gumbel_topk(x, 5, 1), c10::ValueError);
  EXPECT_THROW(gumbel_topk(x, 0, 1), c10::ValueError);
}

TEST(Subset, IsOneSampleOfKClasses) {
  const Tensor x = logits().set_requires_grad(true);
  const Tensor y = gumbel_subset(x, 2, 0.5, false, 1, nullopt, key(5));
  EXPECT_TRUE(at::allclose(y.sum(1), at::full({3, 5}, 2.0, at::kDouble)));
  const Tensor hard = gumbel_subset(x, 2, at::tensor(0.5), true, 1, nullopt, key(5));
  const Tensor found = std::get<1>(gumbel_topk(x, 2, 1, 1.0, nullopt, key(5)));
  EXPECT_TRUE(at::equal(hard, at::zeros_like(x).scatter(1, found, 1.0)));
  y.square().sum().backward();
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
  EXPECT_THROW(gumbel_subset(x, 5, 1.0, false, 1), c10::ValueError);
  EXPECT_THROW(gumbel_subset(x, 2, 0.0), c10::ValueError);
}

TEST(Posterior, HasItsLargestAtTheIndex) {
  const Tensor x = logits(), index = x.argmin(1);
  const Tensor drawn = gumbel_posterior(x, index, 1, nullopt, nullopt, nullopt, key(5));
  EXPECT_TRUE(at::equal(drawn.argmax(1), index));
  const Tensor known = gumbel_posterior(x, index, 1, at::tensor(0.5), 2, nullopt, key(5));
  EXPECT_EQ(known.sizes(), (std::vector<int64_t>{2, 3, 4, 5}));
  EXPECT_TRUE((known.amax(2) == 0.5).all().item<bool>());
  EXPECT_THROW(gumbel_posterior(x, index), c10::ValueError);
  EXPECT_THROW(gumbel_posterior(x, index.to(at::kInt), 1), c10::TypeError);
}

TEST(TopkLogProb, IsThatOfDrawsFromWhatIsLeft) {
  const Tensor x = at::tensor({0.5, 0.3, 0.2}).log();
  const Tensor draw = at::tensor({2, 0}, at::kLong);
  EXPECT_NEAR(gumbel_topk_log_prob(x, draw).exp().item<double>(), 0.2 * 0.5 / 0.8, 1e-7);
  EXPECT_NEAR(gumbel_topk_log_prob(x, draw, at::tensor(1.0)).exp().item<double>(), 0.125, 1e-7);
  EXPECT_THROW(gumbel_topk_log_prob(x, draw.unsqueeze(0)), c10::ValueError);
  EXPECT_THROW(gumbel_topk_log_prob(x, draw, 0, 0.0), c10::ValueError);
}

TEST(Gates, AreTheirOptionsAndTheirFormula) {
  const Tensor x = logits().set_requires_grad(true);
  const Tensor y = gumbel_sigmoid(x, 0.5, false, 0.5, false, nullopt, key(5));
  EXPECT_TRUE(at::equal(y, gumbel_sigmoid(x, GumbelSigmoidFuncOptions().tau(0.5).key(key(5)))));
  const Tensor hard = gumbel_sigmoid(
      x, GumbelSigmoidFuncOptions().tau(at::full({5}, 0.5)).hard(true).threshold(0.3).key(key(5)));
  EXPECT_TRUE(at::equal(hard, (y > 0.3).to(at::kDouble)));
  (hard * 2).sum().backward();
  EXPECT_TRUE(at::allclose(x.grad(), 2 * y * (1 - y) / 0.5));
  const Tensor z = hard_concrete(x, HardConcreteFuncOptions().tau(0.5).lower(-0.2).key(key(5)));
  EXPECT_TRUE(at::allclose(z, (y * 1.3 - 0.2).clamp(0, 1)));
  EXPECT_TRUE(
      at::allclose(hard_concrete_penalty(x, 0.5, -0.2), (x - 0.5 * std::log(0.2 / 1.1)).sigmoid()));
  EXPECT_THROW(gumbel_sigmoid(x, 0.0), c10::ValueError);
  EXPECT_THROW(gumbel_sigmoid(x, 1.0, false, 1.0), c10::ValueError);
  EXPECT_THROW(hard_concrete(x, 0.5, 0.1), c10::ValueError);
  EXPECT_THROW(hard_concrete_penalty(x, 0.5, -0.1, 0.9), c10::ValueError);
}

TEST(Probabilities, ZerosStayZeros) {
  Tensor p = at::tensor({3.0, 0.0, 1.0}, at::kDouble).set_requires_grad(true);
  const Tensor y = sample_categorical(p, 0.5, false, -1, true, nullopt, key(5));
  (y * at::tensor({1.0, 2.0, 5.0}, at::kDouble)).sum().backward();
  EXPECT_EQ(y[1].item<double>(), 0);
  EXPECT_EQ(p.grad()[1].item<double>(), 0);
  EXPECT_NE(p.grad()[0].item<double>(), 0);
  EXPECT_THROW(sample_categorical(-p, 0.5), c10::ValueError);
  EXPECT_TRUE(sample_categorical(-p, 0.5, false, -1, false).isnan().all().item<bool>());
}

TEST(Information, KlIsItsFormula) {
  const Tensor x = logits().set_requires_grad(true), y = logits().set_requires_grad(true);
  const Tensor log_q = y.log_softmax(1);
  const Tensor formula = (log_q.exp() * (log_q + std::log(4.0))).sum(1);
  const Tensor kl = kl_categorical(x, nullopt, nullopt, 1);
  EXPECT_TRUE(at::allclose(kl, formula));
  kl.sum().backward();
  formula.sum().backward();
  EXPECT_TRUE(at::allclose(x.grad(), y.grad()));
  EXPECT_TRUE(at::allclose(kl_categorical(nullopt, logits().softmax(1), nullopt, 1), formula));
  EXPECT_THROW(kl_categorical(nullopt), c10::ValueError);
}

TEST(Information, ElboAndPerplexity) {
  const Tensor x = logits(), likelihood = at::zeros({3}, at::kDouble);
  EXPECT_TRUE(at::allclose(categorical_elbo(likelihood, x), -kl_categorical(x).sum(-1)));
  const Tensor codes = at::eye(4).index_select(0, at::tensor({0, 1, 0, 1}, at::kLong));
  EXPECT_NEAR(perplexity(codes).item<double>(), 2, 1e-6);
  EXPECT_EQ(perplexity(x.softmax(-1), -1, at::IntArrayRef{0}).sizes(), (at::IntArrayRef{4}));
}

TEST(LogProbEntropy, IsItsFormulaWithItsGradients) {
  const Tensor x = logits().set_requires_grad(true), y = logits().set_requires_grad(true);
  const Tensor t = at::full({}, 0.7, at::kDouble).set_requires_grad(true);
  const Tensor index = gumbel_argmax(x, 1, false, nullopt, 0.7, nullopt, key(5));
  const auto [log_prob, entropy] = log_prob_entropy(x, index, t, 1);
  const Tensor log_p = (y / 0.7).log_softmax(1);
  const Tensor chosen = log_p.gather(1, index.unsqueeze(1)).squeeze(1);
  EXPECT_TRUE(at::allclose(log_prob, chosen));
  EXPECT_TRUE(at::allclose(entropy, -(log_p.exp() * log_p).sum(1)));
  (log_prob.sum() + entropy.sum()).backward();
  (chosen.sum() - (log_p.exp() * log_p).sum()).backward();
  EXPECT_TRUE(at::allclose(x.grad(), y.grad()));
  EXPECT_TRUE(t.grad().abs().item<double>() > 0);
  const auto by_number = log_prob_entropy(x.detach(), index, 1, 0.7);
  EXPECT_TRUE(at::equal(std::get<0>(by_number), log_prob.detach()));
  EXPECT_THROW(log_prob_entropy(x, index + 100, 1), c10::IndexError);
  EXPECT_THROW(log_prob_entropy(x, index.to(at::kInt), 1), c10::TypeError);
  EXPECT_THROW(log_prob_entropy(x, index.unsqueeze(0), 1), c10::ValueError);
  EXPECT_THROW(log_prob_entropy(x, index, 1, 0.0), c10::ValueError);
}

TEST(Lookup, IsTheProductWithTheOneHot) {
  const Tensor codes = at::arange(10, at::kDouble).view({5, 2}).cos();
  const auto run = [&](auto&& look) {
    const Tensor x = logits().set_requires_grad(true), c = codes.clone().set_requires_grad(true);
    const Tensor out = look(x, c);
    out.pow(2).sum().backward();
    return std::vector<Tensor>{out, x.grad(), c.grad()};
  };
  const auto ours = run([](const Tensor& x, const Tensor& c) {
    return std::get<0>(straight_through_lookup(x, c, 0.5, true, false, nullopt, key(5)));
  });
  const auto product = run([](const Tensor& x, const Tensor& c) {
    return gumbel_softmax(x, 0.5, true, -1, false, nullopt, key(5)).matmul(c);
  });
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(at::allclose(ours[i], product[i])) << i;
}

TEST(OneHot, IsDrawnAsAnIndexAndHasTheGradientOfItsEstimator) {
  const Tensor x = logits().set_requires_grad(true), g = logits().cos();
  const auto gradient = [&](const SampleOneHotFuncOptions& options) {
    const auto [z, index] = sample_one_hot(x, options);
    const auto drawn =
        gumbel_argmax(x.detach(), options.dim(), false, nullopt, 1.0, nullopt, key(5));
    EXPECT_TRUE(at::equal(index, drawn));
    EXPECT_TRUE(at::equal(z.argmax(options.dim()), drawn));
    EXPECT_TRUE(at::equal(z.sum(options.dim()), at::ones_like(z.sum(options.dim()))));
    return torch::autograd::grad({z}, {x}, {g})[0];
  };
  const auto of = [](const char* name) {
    return SampleOneHotFuncOptions(name).dim(1).key(key(5)).return_index(true);
  };
  for (const char* name : {"gumbel", "gumbel-rao", "gapped", "decoupled"})
    EXPECT_TRUE(gradient(of(name)).isfinite().all().item<bool>()) << name;
  const Tensor q = (x / 2.0).softmax(1);
  const Tensor wanted = q * (g - (q * g).sum(1, true)) / 2.0;
  EXPECT_TRUE(at::allclose(gradient(of("straight-through").tau(2.0)), wanted));
  EXPECT_TRUE(at::allclose(gradient(of("reinmax")), gradient(of("zgr"))));
  EXPECT_THROW(sample_one_hot(x, of("zgr").tau(1.0)), c10::ValueError);
  EXPECT_THROW(sample_one_hot(x, of("zgr").samples(3)), c10::ValueError);
  EXPECT_THROW(sample_one_hot(x, {"best"}), c10::ValueError);
}

TEST(OneHot, OfALookup) {
  const Tensor x = logits(), codes = at::arange(10, at::kDouble).view({5, 2}).cos();
  const auto options = StraightThroughLookupFuncOptions().estimator("zgr").key(key(5));
  const auto [output, index] = straight_through_lookup(x, codes, options);
  EXPECT_TRUE(at::equal(output, codes.index_select(0, index.flatten()).view({3, 4, 2})));
}

}  // namespace
}  // namespace torch_gumbel
