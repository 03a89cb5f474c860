// SPDX-License-Identifier: Apache-2.0
// The module: training, evaluation, a temperature that is saved.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn.h>
#include <torch/optim.h>
#include <torch/serialize.h>
#include <torch_gumbel/nn.h>
#include <torch_gumbel/torch_gumbel.h>

#include <cmath>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace torch_gumbel {
namespace {

using nn::EvalMode;
using nn::GumbelSoftmax;
using nn::GumbelSoftmaxOptions;
using torch::Tensor;

Tensor logits() { return torch::arange(60, torch::kFloat).sin().view({3, 4, 5}); }

TEST(Module, SamplesInTraining) {
  GumbelSoftmax sample(GumbelSoftmaxOptions().tau(0.5).hard(true).dim(1));
  EXPECT_TRUE(torch::equal(sample->forward(logits(), {}, key(5)),
                           gumbel_softmax(logits(), 0.5, true, 1, false, {}, key(5))));
  torch::manual_seed(1);
  const Tensor drawn = sample->forward(logits());
  torch::manual_seed(1);
  EXPECT_TRUE(torch::equal(drawn, gumbel_softmax(logits(), 0.5, true, 1)));
}

TEST(Module, SwitchesWhatItGivesInEvaluation) {
  const auto options = GumbelSoftmaxOptions().tau(0.5).hard(true).dim(1);
  const auto evaluated = [&](EvalMode mode) {
    GumbelSoftmax sample(GumbelSoftmaxOptions(options).eval_mode(mode));
    sample->eval();
    return sample->forward(logits(), {}, key(5));
  };
  const Tensor before = torch::rand({1});  // of the default generator
  torch::manual_seed(3);
  const Tensor argmax = evaluated(EvalMode::kArgmax);
  EXPECT_TRUE(torch::equal(argmax.argmax(1), logits().argmax(1)));
  EXPECT_EQ(argmax.sum().item<double>(), 15);
  EXPECT_TRUE(torch::allclose(evaluated(EvalMode::kSoft), (logits() / 0.5).softmax(1)));
  EXPECT_TRUE(torch::equal(evaluated(EvalMode::kSample),
                           gumbel_softmax(logits(), 0.5, true, 1, false, {}, key(5))));
  GumbelSoftmax sample(options);
  sample->eval();
  sample->train();
  EXPECT_TRUE(torch::equal(sample->forward(logits(), {}, key(5)),
                           gumbel_softmax(logits(), 0.5, true, 1, false, {}, key(5))));
}

TEST(Module, EvaluatesWithoutOverflowAndGivesNanWhereASampleWould) {
  const auto evaluated = [](EvalMode mode, const Tensor& x) {
    GumbelSoftmax sample(GumbelSoftmaxOptions().tau(1e-3).eval_mode(mode));
    sample->eval();
    return sample->forward(x);
  };
  const Tensor wanted = torch::tensor({1.0f, 0.0f});
  for (const Tensor& x : {torch::tensor({100.0f, 0.0f}).to(torch::kHalf),
                          torch::tensor({1e36f, 0.0f}), torch::tensor({3e38f, -3e38f})})
    EXPECT_TRUE(torch::equal(evaluated(EvalMode::kSoft, x).to(torch::kFloat), wanted)) << x;
  const Tensor undefined = torch::tensor({NAN, 1.0f, -INFINITY, -INFINITY}).view({2, 2});
  for (const EvalMode mode : {EvalMode::kArgmax, EvalMode::kSoft, EvalMode::kSample})
    EXPECT_TRUE(evaluated(mode, undefined).isnan().all().item<bool>());
}

TEST(Module, DrawsNothingInEvaluation) {
  GumbelSoftmax sample;
  sample->eval();
  torch::manual_seed(3);
  const Tensor wanted = torch::rand({4});
  torch::manual_seed(3);
  sample->forward(logits());
  EXPECT_TRUE(torch::equal(torch::rand({4}), wanted));
}

TEST(Module, RefusesATemperatureThatIsNone) {
  for (const double tau : {0.0, -1.0, double(INFINITY), std::nan("")}) {
    EXPECT_THROW(GumbelSoftmax(GumbelSoftmaxOptions().tau(tau)), c10::ValueError);
    GumbelSoftmax sample;
    EXPECT_THROW(sample->set_tau(tau), c10::ValueError);
    EXPECT_EQ(sample->tau().item<double>(), 1);
  }
}

TEST(Module, LearnsItsTemperature) {
  GumbelSoftmax sample(GumbelSoftmaxOptions().tau(2).learnable_tau(true));
  ASSERT_EQ(sample->parameters().size(), 1);
  EXPECT_NEAR(sample->tau().item<double>(), 2, 1e-6);
  torch::optim::SGD optimizer(sample->parameters(), 0.5);
  const Tensor entropy = at::special_entr(sample->forward(logits(), {}, key(5))).sum();
  entropy.backward();  // less entropy: colder
  optimizer.step();
  EXPECT_LT(sample->tau().item<double>(), 2);
  EXPECT_GT(sample->tau().item<double>(), 0);
}

TEST(Module, IsCopiedByClone) {
  GumbelSoftmax sample(GumbelSoftmaxOptions().learnable_tau(true));
  sample->set_tau(0.25);
  const auto copy = std::dynamic_pointer_cast<nn::GumbelSoftmaxImpl>(sample->clone());
  sample->set_tau(3);
  EXPECT_NEAR(copy->tau().item<double>(), 0.25, 1e-6);
}

TEST(Module, TakesPartInASequential) {
  torch::nn::Sequential model(torch::nn::Linear(5, 4),
                              GumbelSoftmax(GumbelSoftmaxOptions().hard(true)));
  const Tensor y = model->forward(torch::randn({7, 5}));
  EXPECT_EQ(y.sum().item<double>(), 7);
  std::ostringstream shown;
  shown << *model;
  EXPECT_NE(shown.str().find("GumbelSoftmax(tau=1, hard=true, dim=-1"), std::string::npos);
  shown << GumbelSoftmax(GumbelSoftmaxOptions().learnable_tau(true));
  EXPECT_NE(shown.str().find("GumbelSoftmax(tau=learned, hard=false"), std::string::npos);
}

void save(const torch::nn::Module& module, std::ostream& file) {
  torch::serialize::OutputArchive archive;
  module.save(archive);
  archive.save_to(file);
}

/// As an older version saved it.
void save(const char* name, const Tensor& value, bool is_buffer, std::ostream& file) {
  torch::serialize::OutputArchive archive;
  archive.write(name, value, is_buffer);
  archive.save_to(file);
}

TEST(Module, KeepsItsTemperatureExactly) {
  for (const double tau : {1e-8, 1e-50, 1e300, 0.37}) {
    GumbelSoftmax sample(GumbelSoftmaxOptions().tau(tau));
    sample->to(torch::kHalf);
    sample->to(torch::kCPU, torch::kHalf);
    const auto copy = std::dynamic_pointer_cast<nn::GumbelSoftmaxImpl>(sample->clone());
    std::stringstream file;
    save(*copy, file);
    GumbelSoftmax loaded;
    torch::load(loaded, file);
    EXPECT_EQ(loaded->tau().item<double>(), tau);
    const Tensor y = loaded->forward(logits().to(torch::kHalf), {}, key(5));
    EXPECT_TRUE(torch::equal(
        y, gumbel_softmax(logits().to(torch::kHalf), tau, false, -1, false, {}, key(5))));
    loaded->set_tau(0.5);
    loaded->reset_parameters();
    EXPECT_EQ(loaded->tau().item<double>(), 1);
  }
}

TEST(Module, SharesNamesOfAStateDictWithPython) {
  GumbelSoftmax fixed, learned(GumbelSoftmaxOptions().learnable_tau(true));
  EXPECT_EQ(fixed->named_buffers().keys(), std::vector<std::string>{"_extra_state"});
  EXPECT_EQ(learned->named_parameters().keys(), std::vector<std::string>{"log_temperature"});
  EXPECT_EQ(learned->parameters()[0].sizes(), at::IntArrayRef({1}));
  fixed->named_buffers()["_extra_state"].copy_(torch::tensor(0.25, torch::kDouble));
  EXPECT_TRUE(torch::equal(fixed->forward(logits(), {}, key(5)),
                           gumbel_softmax(logits(), 0.25, false, -1, false, {}, key(5))));
}

TEST(Module, LoadsWhatOlderVersionsSaved) {
  std::stringstream buffer, parameter, wrong, none;
  save("temperature", torch::tensor(0.25), true, buffer);
  save("log_temperature", torch::tensor(std::log(0.25f)), false, parameter);
  save("temperature", torch::tensor(0.0), true, wrong);
  save("other", torch::tensor(1.0), true, none);
  GumbelSoftmax fixed, learned(GumbelSoftmaxOptions().learnable_tau(true));
  torch::load(fixed, buffer);
  torch::load(learned, parameter);
  EXPECT_EQ(fixed->tau().item<double>(), 0.25);
  EXPECT_NEAR(learned->tau().item<double>(), 0.25, 1e-7);
  EXPECT_EQ(learned->parameters()[0].sizes(), at::IntArrayRef({1}));
  EXPECT_TRUE(learned->parameters()[0].requires_grad());
  EXPECT_THROW(torch::load(fixed, wrong), c10::ValueError);
  EXPECT_THROW(torch::load(fixed, none), c10::Error);
  EXPECT_EQ(fixed->tau().item<double>(), 0.25);
}

TEST(Module, RecomputesIfAsked) {
  for (const bool recompute : {false, true}) {
    GumbelSoftmax sample(GumbelSoftmaxOptions().hard(true).recompute(recompute));
    const Tensor x = logits().requires_grad_();
    const Tensor y = sample->forward(x, {}, key(5));
    const Tensor wanted = gumbel_softmax(x, 1.0, true, -1, recompute, {}, key(5));
    EXPECT_TRUE(torch::equal(y, wanted));
    EXPECT_EQ(y.grad_fn()->name(), wanted.grad_fn()->name());
  }
}

struct ModelImpl : torch::nn::Module {
  explicit ModelImpl(bool learnable)
      : encoder(register_module("encoder", torch::nn::Linear(6, 8))),
        sample(register_module(
            "sample",
            GumbelSoftmax(GumbelSoftmaxOptions().tau(1).hard(true).learnable_tau(learnable)))),
        decoder(register_module("decoder", torch::nn::Linear(8, 6))) {}
  Tensor forward(const Tensor& x, const std::optional<Tensor>& key = {}) {
    return decoder->forward(sample->forward(encoder->forward(x), {}, key));
  }
  torch::nn::Linear encoder;
  GumbelSoftmax sample;
  torch::nn::Linear decoder;
};
TORCH_MODULE(Model);

TEST(Module, TrainedSavedAndLoadedGivesTheSame) {
  for (const bool learnable : {false, true}) {
    torch::manual_seed(1);
    Model model(learnable);
    torch::optim::Adam optimizer(model->parameters(), 0.02);
    const Tensor x = torch::eye(6);
    double first = 0, last = 0;
    for (int step = 0; step < 200; ++step) {
      if (!learnable) model->sample->set_tau(std::max(0.5, std::exp(-0.01 * step)));
      optimizer.zero_grad();
      const Tensor loss = (model->forward(x) - x).pow(2).mean();
      loss.backward();
      optimizer.step();
      (step == 0 ? first : last) = loss.item<double>();
    }
    EXPECT_LT(last, 0.6 * first);

    std::stringstream file;
    torch::save(model, file);
    Model loaded(learnable);
    torch::load(loaded, file);
    EXPECT_TRUE(torch::equal(loaded->sample->tau(), model->sample->tau()));
    EXPECT_NE(loaded->sample->tau().item<double>(), 1);
    for (const bool training : {true, false}) {
      model->train(training);
      loaded->train(training);
      EXPECT_TRUE(torch::equal(loaded->forward(x, key(7)), model->forward(x, key(7))));
    }
  }
}

}  // namespace
}  // namespace torch_gumbel
