// SPDX-License-Identifier: Apache-2.0
// The modules of gates: training, evaluation, what is saved.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn.h>
#include <torch/serialize.h>
#include <torch_gumbel/nn.h>
#include <torch_gumbel/torch_gumbel.h>

#include <cmath>
#include <memory>
#include <sstream>

namespace torch_gumbel {
namespace {

using nn::GateEvalMode;
using nn::GumbelSigmoid;
using nn::GumbelSigmoidOptions;
using nn::HardConcrete;
using nn::HardConcreteOptions;
using torch::Tensor;

Tensor logits() { return torch::arange(20, torch::kFloat).sin().mul(3).view({4, 5}); }

TEST(GateModule, SamplesInTrainingAndThresholdsInEvaluation) {
  GumbelSigmoid gate(GumbelSigmoidOptions().tau(0.5).hard(true).threshold(0.3));
  EXPECT_TRUE(torch::equal(gate->forward(logits(), {}, key(5)),
                           gumbel_sigmoid(logits(), 0.5, true, 0.3, false, {}, key(5))));
  gate->eval();
  EXPECT_TRUE(torch::equal(gate->forward(logits()), (logits().sigmoid() > 0.3).to(torch::kFloat)));
  GumbelSigmoid soft(GumbelSigmoidOptions().tau(0.5).eval_mode(GateEvalMode::kSoft));
  soft->eval();
  EXPECT_TRUE(torch::allclose(soft->forward(logits()), (logits() / 0.5).sigmoid()));
  EXPECT_THROW(GumbelSigmoid(GumbelSigmoidOptions().tau(0)), c10::ValueError);
  EXPECT_THROW(GumbelSigmoid(GumbelSigmoidOptions().threshold(1)), c10::ValueError);
}

TEST(GateModule, ItsTemperatureIsSavedCastAndLearned) {
  GumbelSigmoid gate(GumbelSigmoidOptions().tau(0.1)), loaded;
  gate->to(torch::kHalf);
  std::stringstream file;
  torch::save(gate, file);
  torch::load(loaded, file);
  EXPECT_EQ(loaded->tau().item<double>(), 0.1);
  gate->set_tau(0.25);
  const auto copy = std::dynamic_pointer_cast<nn::GumbelSigmoidImpl>(gate->clone());
  gate->set_tau(3);
  EXPECT_EQ(copy->tau().item<double>(), 0.25);
  torch::serialize::OutputArchive archive;
  archive.write("_extra_state", torch::tensor(0.0, torch::kDouble), /*is_buffer=*/true);
  std::stringstream wrong;
  archive.save_to(wrong);
  EXPECT_THROW(torch::load(loaded, wrong), c10::ValueError);
  EXPECT_EQ(loaded->tau().item<double>(), 0.1);
  GumbelSigmoid learned(GumbelSigmoidOptions().tau(0.5).learnable_tau(true));
  learned->forward(logits()).sum().backward();
  EXPECT_TRUE(learned->named_parameters()["log_temperature"].grad().defined());
  EXPECT_NEAR(learned->tau().item<double>(), 0.5, 1e-6);
}

TEST(HardConcreteModule, GatesItsInputAndStatesItsPenalty) {
  HardConcrete gates(HardConcreteOptions({5}).init_open(0.7));
  const Tensor x = logits();
  EXPECT_TRUE(torch::equal(gates->forward(x, {}, key(5)),
                           x * hard_concrete(gates->log_alpha, 2.0 / 3.0, -0.1, 1.1, {}, key(5))));
  EXPECT_NEAR(gates->log_alpha[0].sigmoid().item<double>(), 0.7, 1e-6);
  EXPECT_TRUE(torch::allclose(gates->penalty(), hard_concrete_penalty(gates->log_alpha).sum()));
  gates->penalty().backward();
  EXPECT_TRUE(gates->log_alpha.grad().defined());
  gates->eval();
  EXPECT_TRUE(torch::equal(gates->forward(x), gates->forward(x)));
  {
    const torch::NoGradGuard guard;
    gates->log_alpha[0].fill_(-9);
  }
  EXPECT_EQ(gates->num_open(), 4);
  EXPECT_THROW(HardConcrete(HardConcreteOptions({5}).init_open(1)), c10::ValueError);
  EXPECT_THROW(HardConcrete(HardConcreteOptions({5}).lower(0)), c10::ValueError);
}

}  // namespace
}  // namespace torch_gumbel
