// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples and their gradient on the execution model, beside the reference.
#include "../../cuda/subset.h"

#include "../cpp/subset_problem.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

RunSubset on_model(cuda_model::Order order) {
  return [order](const SubsetParams& a) {
    const GuardedBuffer workspace(cuda::subset_workspace_bytes(a));
    cuda_model::settings() = {order, tally().cases, true};
    try {
      cuda::subset(a, workspace.get(), nullptr);
    } catch (const cuda_model::Fault& fault) {
      ADD_FAILURE() << fault.what();
    }
    cuda_model::settings() = {};
    for (const auto& launch : cuda_model::take_launches()) tally().kernels.insert(launch.kernel);
  };
}

void check(const Subset& wanted) {
  SCOPED_TRACE(::testing::Message() << text_of(wanted.layout) << ", k " << wanted.k);
  ++tally().cases;
  const SubsetProblem forward(wanted, on_model(cuda_model::Order::kForward), kDeviceAllowance);
  const SubsetProblem reverse(wanted, on_model(cuda_model::Order::kReverse), kDeviceAllowance);
  EXPECT_TRUE(forward.results() == reverse.results());
}

TEST(SubsetOnModel, EveryLayoutMatchesTheReference) {
  for (const DType type : {DType::kFloat32, DType::kFloat64})
    for (const int64_t classes : {1, 3, 33, 300, 1500})
      for (const bool row_value : {false, true}) {
        if (HasFailure()) return;
        Case along = subset_case(type, {5, classes}, 1);
        along.row_value = row_value;
        check({along, std::min<int64_t>(classes, 4)});
        Case spatial = subset_case(type, {classes, 9}, 0);
        spatial.tau_per_row = true, spatial.row_value = row_value;
        check({spatial, std::min<int64_t>(classes, 3)});
      }
}

TEST(SubsetOnModel, MoreRowsThanBlocksProcessAtATimeMatchTheReference) {
  if (kSmall) return;  // half a million classes
  check({subset_case(DType::kFloat32, {515, 1000}, 1), 1});
}

TEST(SubsetOnModel, NothingIsLaunchedForNothing) {
  cuda_model::take_launches();
  cuda::subset(SubsetParams{}, nullptr, nullptr);
  EXPECT_TRUE(cuda_model::take_launches().empty());
}

}  // namespace
}  // namespace torch_gumbel::testing
