// SPDX-License-Identifier: Apache-2.0
// Log-probabilities, entropies, and their gradient, of every build, over layouts and element types.
#include <gtest/gtest.h>

#include "cpu/log_prob_params.h"
#include "isa_probe.h"
#include "log_prob_problem.h"

namespace torch_gumbel::testing {
namespace {

std::vector<double> run_on(const cpu::LogProbKernels& kernels, const Case& wanted,
                           bool nontemporal) {
  LogProbProblem of(wanted);
  const int64_t count = of.problem().rows();
  const cpu::LogProbCall a = {
      of.params(), cpu::make_log_prob_plan(of.params(), nontemporal ? 0 : cpu::kNontemporalBytes)};
  const GuardedBuffer scratch(a.plan.scratch_bytes);
  kernels.forward(a, 0, count, scratch.get());
  // In two parts, as two threads would.
  kernels.backward(a, 0, count / 2, scratch.get());
  kernels.backward(a, count / 2, count, scratch.get());
  of.expect_reference(1);
  return of.results();
}

/// Every build has the bits of the first one, however it stores.
void check(const Case& wanted) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  std::vector<double> first;
  for (int i = 0; i < count && !::testing::Test::HasFailure(); ++i)
    for (const bool nontemporal : {false, true}) {
      const auto& kernels = cpu::log_prob_kernels(*builds[i].kernels);
      SCOPED_TRACE(::testing::Message()
                   << builds[i].kernels->name << " " << name_of(wanted.input) << ", dim "
                   << wanted.dim << " of size " << wanted.sizes[wanted.dim]);
      const auto results = run_on(kernels, wanted, nontemporal);
      if (first.empty()) first = results;
      EXPECT_TRUE(results == first) << "other bits";
    }
}

Case case_of(DType type, Sizes sizes, int dim) {
  Case wanted;
  wanted.input = wanted.output = type;
  wanted.grad = type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  wanted.sizes = std::move(sizes), wanted.dim = dim, wanted.tau = 0.7;
  return wanted;
}

TEST(LogProb, EveryRowLengthMatchesTheReference) {
  for (const DType type : kAllTypes)
    for (const int64_t classes : {1, 2, 3, 15, 16, 17, 33, 100, 255, 256, 1000, 2047, 2049, 9000}) {
      if (HasFailure()) return;
      check(case_of(type, {std::min<int64_t>(cpu::kKlRows, cpu::kTile / classes) + 3, classes}, 1));
    }
}

TEST(LogProb, EveryDimensionAndPlacementMatchesTheReference) {
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kBFloat16})
    for (const Placement place :
         {Placement::kContiguous, Placement::kGaps, Placement::kStepped, Placement::kTransposed})
      for (const int dim : {0, 1, 2}) {
        if (HasFailure()) return;
        Case layout = case_of(type, {5, 37, 19}, dim);
        layout.input_place = layout.output_place = place;
        layout.tau_per_row = true;
        check(layout);
      }
}

TEST(LogProb, LongRowsAcrossMemoryMatchTheReference) {
  check(case_of(DType::kFloat32, {5000, 20}, 0));
  check(case_of(DType::kFloat16, {2, 3000, 70}, 1));
}

}  // namespace
}  // namespace torch_gumbel::testing
