// SPDX-License-Identifier: Apache-2.0
// The plan of relaxed k-hot samples.
#include <algorithm>

#include "subset_params.h"

namespace torch_gumbel::cpu {

Plan make_subset_plan(const SubsetParams& a, bool backward) {
  const SubsetCall sizes = {a, {}};
  const bool along =
      a.rows.step(Operand::kInput) == 1 && (!backward || a.rows.step(Operand::kGrad) == 1);
  Plan plan;
  plan.opmath = a.input_type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  plan.rows_per_group = along ? 1 : kMinSpatialRows;
  plan.grain = std::max<int64_t>(1, kElementsPerThread / (a.rows.classes * a.k));
  const int64_t matrices = plan.rows_per_group * (backward ? 3 : 2);
  const int64_t of_rounds = backward ? a.k * (a.row_value == nullptr ? 1 : 2) : 0;
  const int64_t of_row = 2 + (backward ? 2 : 0) + of_rounds;
  plan.scratch_bytes = (matrices + of_row) * sizes.pitch() * element_size(plan.opmath);
  return plan;
}

}  // namespace torch_gumbel::cpu
