// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples and their gradient, of every build, over layouts and element types.
#include <gtest/gtest.h>

#include "cpu/subset_params.h"
#include "isa_probe.h"
#include "subset_problem.h"

namespace torch_gumbel::testing {
namespace {

/// Runs the rows in two parts, as two threads would.
RunSubset on(const cpu::SubsetKernels& kernels) {
  return [&](const SubsetParams& params) {
    const bool backward = params.grad != nullptr;
    const cpu::SubsetCall a = {params, cpu::make_subset_plan(params, backward)};
    const GuardedBuffer scratch(a.plan.scratch_bytes);
    const auto rows = backward ? kernels.backward : kernels.forward;
    rows(a, 0, a.rows.count / 2, scratch.get());
    rows(a, a.rows.count / 2, a.rows.count, scratch.get());
  };
}

/// Every build has the bits of the first one.
void check(const Subset& wanted) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  std::vector<double> first;
  for (int i = 0; i < count && !::testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(::testing::Message()
                 << builds[i].kernels->name << " " << name_of(wanted.layout.input) << ", dim "
                 << wanted.layout.dim << " of size " << wanted.layout.sizes[wanted.layout.dim]
                 << ", k " << wanted.k);
    const SubsetProblem run(wanted, on(cpu::subset_kernels(*builds[i].kernels)));
    if (first.empty()) first = run.results();
    EXPECT_TRUE(run.results() == first) << "other bits";
  }
}

constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat64};

TEST(Subset, EveryRowLengthMatchesTheReference) {
  for (const DType type : kTypes)
    for (const int64_t classes : {1, 2, 3, 8, 15, 16, 17, 33, 100, 256, 1000, 2049})
      for (const int64_t k : {1, 2, 8}) {
        if (HasFailure()) return;
        if (k <= classes) check({subset_case(type, {7, classes}, 1), k});
      }
}

TEST(Subset, EveryDimensionAndPlacementMatchesTheReference) {
  for (const DType type : kTypes)
    for (const Placement place :
         {Placement::kContiguous, Placement::kGaps, Placement::kStepped, Placement::kTransposed})
      for (const int dim : {0, 1, 2})
        for (const bool row_value : {false, true}) {
          if (HasFailure()) return;
          Case layout = subset_case(type, {9, 37, 19}, dim);
          layout.input_place = layout.grad_place = layout.output_place = place;
          layout.tau_per_row = true, layout.row_value = row_value;
          check({layout, 3});
        }
}

TEST(Subset, TheMostRoundsMatchTheReference) {
  for (const DType type : kTypes) check({subset_case(type, {3, 400}, 1), math::kMostRounds});
}

}  // namespace
}  // namespace torch_gumbel::testing
