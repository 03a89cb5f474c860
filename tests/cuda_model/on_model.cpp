// SPDX-License-Identifier: Apache-2.0
#include "on_model.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "../../cuda/kernels.h"
#include "../cpp/reference.h"

namespace torch_gumbel::testing {
namespace {

using cuda_model::Order;

void note_launches() {
  for (const cuda_model::Launch& launch : cuda_model::take_launches())
    tally().kernels.insert(launch.kernel);
}

void expect_cpu_bits(const Case& wanted, const Change& change, const Problem& on_model) {
  Problem on_cpu(wanted);
  if (change) change(on_cpu);
  on_cpu.run(cpu::selected_kernels());
  EXPECT_TRUE(on_model.results() == on_cpu.results()) << "other bits than the CPU op's";
}

}  // namespace

bool deep() {
  static const bool wanted = std::getenv("TORCH_GUMBEL_MODEL_DEEP") != nullptr;
  return wanted;
}

bool is_exact(Op op) { return op == Op::kHard || op == Op::kArgmax || op == Op::kNoise; }

Tally& tally() {
  static Tally the_tally;
  return the_tally;
}

void launch(Op op, const Arguments& a) {
  using Function = void (*)(const Arguments&, cudaStream_t);
  constexpr Function kFunctions[] = {cuda::soft_forward, cuda::hard_forward,  cuda::argmax,
                                     cuda::backward,     cuda::hard_backward, cuda::noise};
  kFunctions[static_cast<int>(op)](a, nullptr);
}

void run_on_model(Problem& problem, Order order) {
  cuda_model::settings() = {order, 1, true};
  try {
    launch(problem.wanted().op, problem.arguments());
  } catch (const cuda_model::Fault& fault) {
    ADD_FAILURE() << fault.what();
  }
  cuda_model::settings() = {};
  note_launches();
  problem.expect_surroundings_intact();
}

std::string text_of(const Case& wanted) {
  std::string text = std::string(name_of(wanted.op)) + " of " + name_of(wanted.input) + " to " +
                     name_of(wanted.output) + ", dim " + std::to_string(wanted.dim) + " of";
  for (const int64_t size : wanted.sizes) text.append(" ").append(std::to_string(size));
  return text;
}

void check_on_model(const Case& wanted, const Change& change) {
  SCOPED_TRACE(text_of(wanted));
  ++tally().cases;
  std::vector<uint64_t> first;
  for (const Order order : {Order::kForward, Order::kReverse, Order::kShuffled}) {
    Problem problem(wanted);
    if (change) change(problem);
    run_on_model(problem, order);
    if (::testing::Test::HasFailure()) return;
    if (order != Order::kForward) {
      EXPECT_TRUE(problem.results() == first) << "order " << static_cast<int>(order);
      continue;
    }
    first = problem.results();
    if (is_exact(wanted.op))
      expect_cpu_bits(wanted, change, problem);
    else
      expect_reference(problem, kDeviceAllowance);
  }
}

}  // namespace torch_gumbel::testing
