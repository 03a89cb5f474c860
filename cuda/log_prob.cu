// SPDX-License-Identifier: Apache-2.0
// How the kernels of log-probabilities and entropies are launched.
#include <cuda_runtime.h>

#include "kernels/log_prob.cuh"
#include "log_prob.h"
#include "plan.h"

namespace torch_gumbel::cuda {

namespace {

void start(void (*kernel)(LogProbProblem), const LogProbParams& a, cudaStream_t stream) {
  const Plan plan = planning::generic_plan(Op::kBackward, a);
  LogProbProblem problem;
  problem.a = a;
  problem.spatial = plan.spatial;
  problem.threads_per_row = plan.threads_per_row;
  problem.log_prob = a.log_prob, problem.entropy = a.entropy;
  problem.max = a.max, problem.sum = a.sum, problem.mean = a.mean;
  problem.grad_log_prob = a.grad_log_prob, problem.grad_entropy = a.grad_entropy;
  void* arguments[] = {&problem};
  (void)cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(plan.blocks)),
                         dim3(static_cast<unsigned>(plan.threads)), arguments, 0, stream);
}

}  // namespace

void log_prob(const LogProbParams& a, cudaStream_t stream) {
  if (a.rows.count == 0 || a.rows.classes == 0) return;
  start(a.input_type == DType::kFloat64 ? log_prob_generic_kernel<double>
                                        : log_prob_generic_kernel<float>,
        a, stream);
}

void log_prob_backward(const LogProbParams& a, cudaStream_t stream) {
  if (a.rows.count == 0 || a.rows.classes == 0) return;
  start(a.input_type == DType::kFloat64 ? log_prob_backward_generic_kernel<double>
                                        : log_prob_backward_generic_kernel<float>,
        a, stream);
}

}  // namespace torch_gumbel::cuda
