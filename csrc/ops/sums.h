// SPDX-License-Identifier: Apache-2.0
// Sums whose bits do not depend on the number of threads.
//
// Of a large CPU tensor, ATen's sum gives each thread a part, so that its rounding changes with
// their number. Here the parts are of one size, and added in one order.
#pragma once

#include <ATen/core/Tensor.h>

namespace torch_gumbel::ops {

/// at::sum_to.
at::Tensor sum_to_shape(const at::Tensor& values, c10::SymIntArrayRef shape);

/// values.sum(dim, keepdim=True).
at::Tensor sum_of_rows(const at::Tensor& values, int64_t dim);

}  // namespace torch_gumbel::ops
