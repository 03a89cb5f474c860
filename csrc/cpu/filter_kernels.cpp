// SPDX-License-Identifier: Apache-2.0
// The kernel of filtered draws for one instruction set, compiled apart from kernels.cpp, with which
// it shares no code but templates.
#pragma GCC diagnostic ignored "-Wunused-function"
#include "kernels/filter.h"

#define TG_FILTER_OF(isa) filter_##isa
#define TG_FILTER(isa) TG_FILTER_OF(isa)

namespace torch_gumbel::cpu {

void TG_FILTER(TG_ISA)(const FilterParams& a, int64_t begin, int64_t end, void* scratch) {
  a.input_type == DType::kFloat64 ? TG_ISA::filter_rows<double>(a, begin, end, scratch)
                                  : TG_ISA::filter_rows<float>(a, begin, end, scratch);
}

}  // namespace torch_gumbel::cpu
