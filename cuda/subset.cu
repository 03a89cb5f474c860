// SPDX-License-Identifier: Apache-2.0
// How the kernels of relaxed k-hot samples are launched.
#include <cuda_runtime.h>

#include "kernels/subset.cuh"
#include "plan.h"
#include "subset.h"

namespace torch_gumbel::cuda {

namespace {

/// More than run at a time on any GPU (three on each of 148 multiprocessors): more would take more
/// memory and no less time.
constexpr int64_t kMostBlocks = 512;

struct SubsetLaunch {
  Plan plan;
  SubsetProblem problem;
};

SubsetLaunch plan_subset(const SubsetParams& a) {
  SubsetLaunch launch;
  launch.plan = planning::generic_plan(a.grad == nullptr ? Op::kSoft : Op::kBackward, a);
  launch.plan.blocks = planning::at_most(launch.plan.blocks, kMostBlocks);
  launch.problem.a = a;
  launch.problem.k = a.k;
  launch.problem.spatial = launch.plan.spatial;
  launch.problem.threads_per_row = launch.plan.threads_per_row;
  launch.problem.rows_at_once = launch.plan.blocks * (kThreads / launch.plan.threads_per_row);
  return launch;
}

template <typename T>
void (*kernel_of(bool backward))(SubsetProblem) {
  return backward ? subset_backward_generic_kernel<T> : subset_generic_kernel<T>;
}

}  // namespace

int64_t subset_workspace_bytes(const SubsetParams& a) {
  const SubsetProblem problem = plan_subset(a).problem;
  return a.input_type == DType::kFloat64 ? subset_workspace_bytes<double>(problem)
                                         : subset_workspace_bytes<float>(problem);
}

void subset(const SubsetParams& a, void* workspace, cudaStream_t stream) {
  if (a.rows.count == 0 || a.rows.classes == 0) return;
  SubsetLaunch launch = plan_subset(a);
  launch.problem.workspace = workspace;
  const bool backward = a.grad != nullptr;
  const auto kernel =
      a.input_type == DType::kFloat64 ? kernel_of<double>(backward) : kernel_of<float>(backward);
  void* arguments[] = {&launch.problem};
  (void)cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(launch.plan.blocks)),
                         dim3(static_cast<unsigned>(launch.plan.threads)), arguments, 0, stream);
}

}  // namespace torch_gumbel::cuda
