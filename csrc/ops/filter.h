// SPDX-License-Identifier: Apache-2.0
// What the public and the private ops of filtered draws share.
#pragma once

#include <torch_gumbel/export.h>

#include <optional>

#include "ops.h"

namespace torch_gumbel::ops {

/// The filters of a private op: one value, or one per row (size 1 at dim); absent: off.
struct Filters {
  const std::optional<Tensor>&top_k, &top_p, &min_p;
};

/// ValueError or TypeError if a filter does not fit.
TORCH_GUMBEL_API void check_filter(const char* who, const char* name, const Tensor& filter,
                                   const Tensor& logits, int64_t dim);

/// A filter, checked, on the device of logits and of that type, one value for each row in their order
/// ([*, 1, *], contiguous), or 0-d.
TORCH_GUMBEL_API Tensor filter_rows(const char* who, const char* name, const Tensor& filter,
                                    const Tensor& logits, int64_t dim, ScalarType type);

}  // namespace torch_gumbel::ops
