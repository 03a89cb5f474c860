// SPDX-License-Identifier: Apache-2.0
// The plan of log-probabilities and entropies.
#include "log_prob_params.h"

namespace torch_gumbel::cpu {

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
