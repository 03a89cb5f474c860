// SPDX-License-Identifier: Apache-2.0
// Probabilities as logits. Rows need not sum to 1.
#pragma once

#include <ATen/core/Tensor.h>

namespace torch_gumbel::ops {

/// log p in the opmath type: -inf where p is 0, with a gradient of exactly 0 there; NaN where p is
/// negative or NaN, so that its row has no distribution.
at::Tensor log_probabilities(const at::Tensor& probs);

/// Every value >= 0 and finite, and one in each row of classes positive; ValueError. Reads them on
/// the host.
void check_probabilities(const char* who, const char* name, const at::Tensor& probs, int64_t dim);

}  // namespace torch_gumbel::ops
