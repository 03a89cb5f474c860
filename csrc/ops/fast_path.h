// SPDX-License-Identifier: Apache-2.0
// Fast path for eager calls outside any mode, trace, or transform, so that small calls take little
// more time than their tensors do.
#pragma once

#include <ATen/core/Tensor.h>

namespace torch_gumbel::ops {

/// Whether nothing records, transforms, or replays this call.
bool on_fast_path(const at::Tensor& logits);

/// A number given as a temperature, as the private ops take it: float64, on the CPU, without
/// dimensions. Plain eager calls of a thread share the last one; nothing ever writes into it.
at::Tensor temperature_of_call(const at::Tensor& logits, double value);

}  // namespace torch_gumbel::ops
