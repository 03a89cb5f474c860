// SPDX-License-Identifier: Apache-2.0
// The largest scores of each row, with equal ones in the order of their classes.
#pragma once

#include <ATen/core/Tensor.h>

namespace torch_gumbel::ops {

/// Classes of the k largest of `scores`, [*, K, *] -> int64 [*, k, *], in falling order; of equal
/// scores the smaller class first, -inf last. A NaN or +inf in a row is among its first. Without a
/// gradient. Plain eager calls on a CPU take one read of the scores and memory for k of them;
/// others sort numbers that hold score and class, and refuse more than 2^28 classes of float32
/// (ValueError).
at::Tensor largest(const char* who, const at::Tensor& scores, const c10::SymInt& k, int64_t dim);

}  // namespace torch_gumbel::ops
