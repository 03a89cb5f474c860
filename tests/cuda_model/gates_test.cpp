// SPDX-License-Identifier: Apache-2.0
// Gates on the execution model: the formulas, and, of hard ones, the bits of the CPU's.
#include <gtest/gtest.h>

#include "../../cuda/kernels.h"
#include "../cpp/gate_problem.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

std::vector<char> run_on_model(const GateCase& wanted, cuda_model::Order order) {
  const GateProblem problem(wanted);
  cuda_model::settings() = {order, tally().cases, true};
  try {
    cuda::gates(wanted.op, problem.params(), nullptr);
  } catch (const cuda_model::Fault& fault) {
    ADD_FAILURE() << fault.what();
  }
  cuda_model::settings() = {};
  for (const auto& launch : cuda_model::take_launches()) tally().kernels.insert(launch.kernel);
  problem.expect_right(kDeviceAllowance);
  return problem.bytes();
}

void check_gates_on_model(const GateCase& wanted) {
  SCOPED_TRACE(text_of(wanted));
  ++tally().cases;
  const auto forward = run_on_model(wanted, cuda_model::Order::kForward);
  EXPECT_TRUE(run_on_model(wanted, cuda_model::Order::kReverse) == forward);
  if (!wanted.hard || wanted.keeps) return;
  const GateProblem on_cpu(wanted);
  cpu::selected_kernels().gates(wanted.op, on_cpu.params(), 0, on_cpu.count());
  EXPECT_TRUE(on_cpu.bytes() == forward) << "other bits than the CPU op's";
}

TEST(GatesOnModel, AreTheirFormulas) {
  std::vector<int64_t> lengths = {1, 4, 9, 1027};
  if (!kSmall) lengths.insert(lengths.end(), {8, 2048, 5001});
  for (const DType type : kAllTypes)
    for (const int64_t columns : lengths) {
      check_gates_on_model({.type = type, .columns = columns});
      check_gates_on_model({.type = type, .columns = columns, .hard = true});
      check_gates_on_model({.type = type, .columns = columns, .stretched = true, .tau = 1.0});
      check_gates_on_model({.type = type, .columns = columns, .keeps = true, .stretched = true});
      check_gates_on_model(
          {.type = type, .columns = columns, .hard = true, .keeps = true, .keys = Source::kOne});
      for (const GateOp op : {GateOp::kBackward, GateOp::kRecompute})
        check_gates_on_model({.op = op,
                              .type = type,
                              .columns = columns,
                              .at_tau = columns % 2 == 1,
                              .taus = Source::kOne,
                              .keys = Source::kOne});
      if (HasFailure()) return;
    }
}

TEST(GatesOnModel, OfAnyLayoutAndSourceToo) {
  for (const DType type : kAllTypes)
    for (const GateOp op : {GateOp::kSample, GateOp::kBackward, GateOp::kRecompute}) {
      check_gates_on_model({.op = op, .type = type, .columns = 70, .offset = 1});
      check_gates_on_model({.op = op, .type = type, .columns = 70, .step = 2, .first_word = 5});
      check_gates_on_model({.op = op,
                            .type = type,
                            .rows = 3,
                            .columns = 41,
                            .at_tau = op != GateOp::kSample,
                            .taus = Source::kEach,
                            .keys = Source::kEach});
      if (HasFailure()) return;
    }
}

TEST(GatesOnModel, WordsOfBothEndsAreExtended) {
  for (const uint64_t at : extended_gate_positions())
    for (const bool hard : {false, true}) {
      const math::Key key = {kExtendedGateSeed, 0};
      check_gates_on_model(
          {.columns = 40, .hard = hard, .tau = 5, .first_word = at / 4 * 4 - 20, .key = key});
      check_gates_on_model({.op = GateOp::kRecompute,
                            .columns = 40,
                            .tau = 5,
                            .first_word = at / 4 * 4 - 20,
                            .key = key});
    }
}

TEST(GatesOnModel, NothingIsLaunchedForNothing) {
  cuda_model::take_launches();
  cuda::gates(GateOp::kSample, GateParams{}, nullptr);
  EXPECT_TRUE(cuda_model::take_launches().empty());
}

}  // namespace
}  // namespace torch_gumbel::testing
