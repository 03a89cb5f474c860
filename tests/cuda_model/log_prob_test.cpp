// SPDX-License-Identifier: Apache-2.0
// Log-probabilities, entropies, and their gradient on the execution model, beside the reference.
#include "../../cuda/log_prob.h"

#include "../cpp/log_prob_problem.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

std::vector<double> run_on(const Case& wanted, cuda_model::Order order) {
  LogProbProblem of(wanted);
  cuda_model::settings() = {order, tally().cases, true};
  try {
    cuda::log_prob(of.params(), nullptr);
    cuda::log_prob_backward(of.params(), nullptr);
  } catch (const cuda_model::Fault& fault) {
    ADD_FAILURE() << fault.what();
  }
  cuda_model::settings() = {};
  for (const auto& launch : cuda_model::take_launches()) tally().kernels.insert(launch.kernel);
  of.expect_reference(kDeviceAllowance);
  return of.results();
}

Case case_of(DType type, Sizes sizes, int dim) {
  Case wanted;
  wanted.input = wanted.output = type;
  wanted.grad = type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  wanted.sizes = std::move(sizes), wanted.dim = dim, wanted.tau = 0.7;
  return wanted;
}

void check(const Case& wanted) {
  SCOPED_TRACE(text_of(wanted));
  ++tally().cases;
  const auto forward = run_on(wanted, cuda_model::Order::kForward);
  EXPECT_TRUE(forward == run_on(wanted, cuda_model::Order::kReverse));
}

TEST(LogProbOnModel, EveryLayoutMatchesTheReference) {
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kBFloat16})
    for (const int64_t classes : {1, 3, 33, 300, 1500}) {
      if (HasFailure()) return;
      check(case_of(type, {5, classes}, 1));
      Case spatial = case_of(type, {classes, 9}, 0);
      spatial.tau_per_row = true;
      check(spatial);
    }
}

TEST(LogProbOnModel, NothingIsLaunchedForNothing) {
  cuda_model::take_launches();
  cuda::log_prob(LogProbParams{}, nullptr);
  cuda::log_prob_backward(LogProbParams{}, nullptr);
  EXPECT_TRUE(cuda_model::take_launches().empty());
}

}  // namespace
}  // namespace torch_gumbel::testing
