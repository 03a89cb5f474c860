// SPDX-License-Identifier: Apache-2.0
// The backward of one-hot samples by every estimator, beside its reference.
#include "../cpp/one_hot.h"

#include "../../cuda/kernels.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

std::vector<uint64_t> run_on(Case wanted, Estimator estimator, int32_t draws,
                             cuda_model::Order order) {
  // Draws are added up in the output, which is no half type then: csrc/ops/backend.h.
  if (estimator == Estimator::kGumbelRao && wanted.output != DType::kFloat64)
    wanted.output = DType::kFloat32;
  OneHotProblem one(wanted, estimator, draws);
  cuda_model::settings() = {order, tally().cases, true};
  try {
    cuda::one_hot_backward(one.arguments(), nullptr);
  } catch (const cuda_model::Fault& fault) {
    ADD_FAILURE() << fault.what();
  }
  cuda_model::settings() = {};
  for (const auto& launch : cuda_model::take_launches()) tally().kernels.insert(launch.kernel);
  one.problem().expect_surroundings_intact();
  one.expect_reference(kDeviceAllowance);
  one.arguments().index = nullptr;  // an operand
  return one.problem().results();
}

void check(Case wanted, int32_t draws = 3) {
  for (const Estimator estimator : kAllEstimators) {
    SCOPED_TRACE(text_of(wanted) + ", estimator " + std::to_string(static_cast<int>(estimator)));
    ++tally().cases;
    const auto forward = run_on(wanted, estimator, draws, cuda_model::Order::kForward);
    EXPECT_TRUE(forward == run_on(wanted, estimator, draws, cuda_model::Order::kReverse));
    if (::testing::Test::HasFailure()) return;
  }
}

Case case_of(DType type, Sizes sizes, int dim) {
  Case wanted;
  wanted.input = wanted.output = type;
  wanted.grad = type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  wanted.sizes = std::move(sizes), wanted.dim = dim, wanted.tau = 0.7;
  return wanted;
}

TEST(OneHotOnModel, EveryLayoutMatchesTheReference) {
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kBFloat16})
    for (const int64_t classes : {1, 3, 33, 300}) {
      if (HasFailure()) return;
      check(case_of(type, {5, classes}, 1));
      Case spatial = case_of(type, {classes, 9}, 0);
      spatial.tau_per_row = true;
      check(spatial, 1);
    }
}

TEST(OneHotOnModel, ManyDrawsAddUp) {
  for (const double tau : {0.5, 1.0, 2.0}) {
    Case wanted = case_of(DType::kFloat32, {3, 20}, 1);
    wanted.tau = tau, wanted.key_batch = 1;
    check(wanted, 19);
  }
}

}  // namespace
}  // namespace torch_gumbel::testing
