// SPDX-License-Identifier: Apache-2.0
// The backward of one-hot samples on every build, by every estimator, over layouts and element types.
#include "one_hot.h"

#include "isa_probe.h"

namespace torch_gumbel::testing {
namespace {

std::vector<uint64_t> run_on(const cpu::Kernels& kernels, const Case& wanted, Estimator estimator,
                             int32_t draws, bool at_tau, bool reference) {
  OneHotProblem one(wanted, estimator, draws);
  if (!at_tau) one.arguments().row_value = nullptr;
  cpu::PlannedParams a = {one.arguments(), Op::kHardBackward, {}};
  a.plan = cpu::make_one_hot_plan(a, wanted.nontemporal_bytes);
  const GuardedBuffer scratch(a.plan.scratch_bytes);
  // In two parts, as two threads would.
  const int64_t call = a.plan.rows_per_call, half = (a.rows.count / call + 1) / 2 * call;
  const int64_t middle = std::min(half, a.rows.count);
  kernels.one_hot_backward(a, 0, middle, scratch.get());
  kernels.one_hot_backward(a, middle, a.rows.count, scratch.get());
  one.problem().expect_surroundings_intact();
  if (reference) one.expect_reference(1);
  one.arguments().index = nullptr;  // an operand
  return one.problem().results();
}

/// `at_tau`: with the gradient at the temperature, where the estimator has one.
void check(const Case& wanted, int32_t draws = 3, bool at_tau = true) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  for (const Estimator estimator : kAllEstimators) {
    std::vector<uint64_t> first;
    for (int i = 0; i < count && !::testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE(::testing::Message()
                   << builds[i].kernels->name << " " << name_of(wanted.input) << ", estimator "
                   << static_cast<int>(estimator) << ", dim " << wanted.dim << " of "
                   << ::testing::PrintToString(wanted.sizes) << ", tau " << wanted.tau);
      const auto bits = run_on(*builds[i].kernels, wanted, estimator, draws, at_tau, i == 0);
      if (i == 0) first = bits;
      EXPECT_TRUE(first == bits) << "bits differ from those of the first build";
    }
  }
}

Case case_of(DType type, Sizes sizes, int dim) {
  Case layout;
  layout.input = layout.output = type;
  layout.grad = type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  layout.sizes = std::move(sizes);
  layout.dim = dim;
  layout.tau = 0.7;
  return layout;
}

TEST(OneHot, EveryRowLengthMatchesTheReference) {
  for (const DType type : kAllTypes)
    for (const int64_t classes : {1, 2, 3, 15, 16, 17, 32, 33, 100, 1000, 2048, 2049, 9000}) {
      if (HasFailure()) return;
      check(case_of(type, {std::min<int64_t>(67, 2048 / classes) + 3, classes}, 1));
    }
}

TEST(OneHot, RowsInRegistersHaveTheBitsOfTheGeneralForm) {
  for (const int64_t classes : {1, 2, 5, 8, 15, 16, 17, 24, 31, 32, 33})
    for (const double tau : {0.3, 1.0, 2.0}) {
      Case layout = case_of(DType::kFloat32, {70, classes}, 1);
      layout.tau = tau;
      check(layout, 1, /*at_tau=*/false);
    }
}

TEST(OneHot, EveryTemperatureMatchesTheReference) {
  for (const double tau : {0.1, 0.5, 1.0, 4.0})
    for (const DType type : {DType::kFloat32, DType::kFloat64}) {
      Case layout = case_of(type, {9, 50}, 1);
      layout.tau = tau;
      check(layout, 10);
      layout.tau_per_row = true;
      check(layout, 1);
    }
}

TEST(OneHot, EveryDimensionAndPlacementMatchesTheReference) {
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kBFloat16})
    for (const Placement place :
         {Placement::kContiguous, Placement::kGaps, Placement::kStepped, Placement::kTransposed})
      for (const int dim : {0, 1, 2}) {
        if (HasFailure()) return;
        Case layout = case_of(type, {5, 37, 19}, dim);
        layout.input_place = layout.output_place = place;
        if (dim > 0) layout.key_batch = 1;
        check(layout, 2);
        layout.nontemporal_bytes = 0;
        check(layout, 1);
      }
}

TEST(OneHot, LongRowsAcrossMemoryMatchTheReference) {
  check(case_of(DType::kFloat32, {5000, 20}, 0), 1);
  check(case_of(DType::kFloat16, {2, 3000, 70}, 1), 1);
}

}  // namespace
}  // namespace torch_gumbel::testing
