// SPDX-License-Identifier: Apache-2.0
// Rows of temperatures so high that only logits near the largest number still tell classes apart.
#pragma once

#include "../../math/rows.h"

namespace torch_gumbel::cpu {

/// Whether some row's temperature is so high that exp((score - max) / tau) would go wrong: the
/// difference overflows, or 1 / tau has too few bits.
bool any_huge_tau(const KernelParams& a);

/// Such rows once more, class by class in float64: soft samples with their log-sum-exp (a one-hot
/// beside them is right already), or the gradients of hard ones.
void redo_huge_tau(Op op, const KernelParams& a);

}  // namespace torch_gumbel::cpu
