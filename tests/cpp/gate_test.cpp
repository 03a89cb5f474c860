// SPDX-License-Identifier: Apache-2.0
// Gates of every build, over types, layouts, and sources of temperatures and keys.
#include <gtest/gtest.h>

#include "cpu/kernels.h"
#include "gate_problem.h"

namespace torch_gumbel::testing {
namespace {

std::vector<const cpu::Kernels*> builds() {
  std::vector<const cpu::Kernels*> all;
  for (const char* name : {"generic", "avx2", "avx512"})
    if (const cpu::Kernels* kernels = cpu::kernels_by_name(name)) all.push_back(kernels);
  return all;
}

std::vector<char> run(const cpu::Kernels& kernels, const GateCase& wanted, bool nontemporal) {
  const GateProblem problem(wanted);
  GateParams a = problem.params();
  a.nontemporal = nontemporal;
  const int64_t half = problem.count() / 2;
  kernels.gates(wanted.op, a, 0, half);
  kernels.gates(wanted.op, a, half, problem.count());
  problem.expect_right(1);
  return problem.bytes();
}

std::vector<GateCase> some_cases() {
  std::vector<GateCase> cases;
  for (const DType type : kAllTypes) {
    for (const int64_t columns : {1, 3, 16, 257, 5000}) {
      cases.push_back({.type = type, .columns = columns, .hard = true});
      cases.push_back({.type = type, .columns = columns, .hard = true, .keeps = true, .offset = 3});
      cases.push_back({.type = type, .columns = columns, .tau = 1.0, .offset = 1, .first_word = 7});
      cases.push_back({.type = type, .columns = columns, .keeps = true, .step = 3});
      cases.push_back({.type = type, .columns = columns, .keeps = true, .stretched = true});
      for (const GateOp op : {GateOp::kBackward, GateOp::kRecompute})
        cases.push_back({.op = op, .type = type, .columns = columns, .at_tau = columns % 2 == 1});
    }
    for (const GateOp op : {GateOp::kSample, GateOp::kBackward, GateOp::kRecompute}) {
      cases.push_back({.op = op,
                       .type = type,
                       .rows = 5,
                       .columns = 70,
                       .taus = Source::kEach,
                       .keys = Source::kEach});
      cases.push_back(
          {.op = op, .type = type, .columns = 70, .taus = Source::kOne, .keys = Source::kOne});
    }
    cases.push_back(
        {.op = GateOp::kBackward, .type = type, .columns = 99, .stretched = true, .at_tau = true});
    cases.push_back({.type = type,
                     .rows = 9,
                     .columns = 5,
                     .hard = true,
                     .keeps = true,
                     .taus = Source::kEach,
                     .keys = Source::kEach});
  }
  return cases;
}

TEST(Gates, AreTheirFormulasOnEveryBuild) {
  for (const GateCase& wanted : some_cases()) {
    SCOPED_TRACE(text_of(wanted));
    for (const cpu::Kernels* kernels : builds()) {
      const auto bytes = run(*kernels, wanted, false);
      EXPECT_TRUE(run(*kernels, wanted, true) == bytes) << kernels->name << ", nontemporal";
      if (HasFailure()) return;
    }
  }
}

TEST(Gates, HardOnesHaveTheSameBitsOnEveryBuild) {
  for (const DType type : kAllTypes)
    for (const double tau : {0.7, 30.0}) {
      const GateCase wanted = {.type = type, .columns = 20000, .hard = true, .tau = tau};
      const auto first = run(*builds().front(), wanted, false);
      for (const cpu::Kernels* kernels : builds())
        EXPECT_TRUE(run(*kernels, wanted, false) == first) << kernels->name;
    }
}

TEST(Gates, WordsOfBothEndsAreExtended) {
  for (const uint64_t at : extended_gate_positions())
    for (const double tau : {1.0, 5.0})
      for (const bool hard : {false, true})
        for (const cpu::Kernels* kernels : builds())
          run(*kernels,
              {.columns = 40,
               .hard = hard,
               .keeps = hard,
               .tau = tau,
               .first_word = at - 20,
               .key = {kExtendedGateSeed, 0}},
              false);
}

}  // namespace
}  // namespace torch_gumbel::testing
