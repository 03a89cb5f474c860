// SPDX-License-Identifier: Apache-2.0
// The plan of log-probabilities and entropies, and which build of their kernels runs.
#include <cstring>

#include "log_prob_params.h"

namespace torch_gumbel::cpu {

extern const LogProbKernels log_prob_generic;
#ifdef TORCH_GUMBEL_X86
extern const LogProbKernels log_prob_avx2;
extern const LogProbKernels log_prob_avx512;
#endif

const LogProbKernels& log_prob_kernels_of([[maybe_unused]] const char* name) {
#ifdef TORCH_GUMBEL_X86
  if (std::strcmp(name, "avx512") == 0) return log_prob_avx512;
  if (std::strcmp(name, "avx2") == 0) return log_prob_avx2;
#endif
  return log_prob_generic;
}

Plan make_log_prob_plan(const KernelParams& a, int64_t nontemporal_bytes) {
  Plan plan = make_kl_plan(a.rows, a.input_type);
  const int64_t classes = a.rows.classes;
  plan.nontemporal = a.rows.count * classes * element_size(a.output_type) >= nontemporal_bytes;
  // Of rows of few lines, most lines would be shared with the next row.
  plan.direct_gradients =
      a.rows.step(Operand::kOutput) == 1 && (!plan.nontemporal || classes >= kShortRow);
  return plan;
}

}  // namespace torch_gumbel::cpu
