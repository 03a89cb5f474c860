// SPDX-License-Identifier: Apache-2.0
// The hard lookup as a private op.
#pragma once

#include "ops.h"

namespace torch_gumbel::ops {

/// (output [*, D], index [*], defined [*]) of logits [*, K], codebook [K, D], tau, and key.
using LookupResult = std::tuple<Tensor, Tensor, Tensor>;
using LookupSignature = LookupResult(const Tensor&, const Tensor&, const Tensor&, const Tensor&);

inline const c10::TypedOperatorHandle<LookupSignature>& lookup() {
  static const auto handle = find<LookupSignature>("torch_gumbel::_straight_through_lookup");
  return handle;
}

}  // namespace torch_gumbel::ops
