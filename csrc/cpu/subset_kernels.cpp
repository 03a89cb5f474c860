// SPDX-License-Identifier: Apache-2.0
// The table of relaxed k-hot samples of one instruction set.
#include "kernels/subset_backward.h"

#define TG_TABLE_OF(isa) subset_##isa
#define TG_TABLE(isa) TG_TABLE_OF(isa)

namespace torch_gumbel::cpu {
namespace TG_ISA {
namespace {

void forward(const SubsetCall& a, int64_t begin, int64_t end, void* scratch) {
  a.plan.opmath == DType::kFloat64 ? subset_forward(a, begin, end, static_cast<double*>(scratch))
                                   : subset_forward(a, begin, end, static_cast<float*>(scratch));
}

void backward(const SubsetCall& a, int64_t begin, int64_t end, void* scratch) {
  a.plan.opmath == DType::kFloat64 ? subset_backward(a, begin, end, static_cast<double*>(scratch))
                                   : subset_backward(a, begin, end, static_cast<float*>(scratch));
}

}  // namespace
}  // namespace TG_ISA

extern const SubsetKernels TG_TABLE(TG_ISA);
const SubsetKernels TG_TABLE(TG_ISA) = {TG_ISA::forward, TG_ISA::backward};

}  // namespace torch_gumbel::cpu
