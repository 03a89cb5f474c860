// SPDX-License-Identifier: Apache-2.0
// The table of log-probabilities and entropies of one instruction set.
#include "kernels/log_prob.h"

#define TG_TABLE_OF(isa) log_prob_##isa
#define TG_TABLE(isa) TG_TABLE_OF(isa)

namespace torch_gumbel::cpu {
namespace TG_ISA {
namespace {

void forward(const LogProbCall& a, int64_t begin, int64_t end, void* scratch) {
  a.plan.opmath == DType::kFloat64 ? log_prob_forward(a, begin, end, static_cast<double*>(scratch))
                                   : log_prob_forward(a, begin, end, static_cast<float*>(scratch));
}

void backward(const LogProbCall& a, int64_t begin, int64_t end, void* scratch) {
  a.plan.opmath == DType::kFloat64 ? log_prob_backward(a, begin, end, static_cast<double*>(scratch))
                                   : log_prob_backward(a, begin, end, static_cast<float*>(scratch));
}

}  // namespace
}  // namespace TG_ISA

extern const LogProbKernels TG_TABLE(TG_ISA);
const LogProbKernels TG_TABLE(TG_ISA) = {TG_ISA::forward, TG_ISA::backward};

}  // namespace torch_gumbel::cpu
