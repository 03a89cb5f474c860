// SPDX-License-Identifier: Apache-2.0
// Memory of results, asked for before a key is drawn: a call that runs out of it moves no
// generator.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

namespace torch_gumbel::ops {

/// Bytes of a result with one element for each of `like`; cut at 2^63 - 1, and 0 where sizes are
/// symbols.
int64_t bytes_of(const at::Tensor& like, at::ScalarType type);

/// The same with `times` elements for each row of logits with that class dimension.
int64_t bytes_of_rows(const at::Tensor& logits, int64_t dim, at::ScalarType type,
                      const c10::SymInt& times = 1);

/// Throws what an allocation throws if memory for all of these results at once cannot be had on the
/// device of `on`. Small ones are not tried, nor is anything where tensors have no memory.
void reserve(const at::Tensor& on, std::initializer_list<int64_t> bytes);

}  // namespace torch_gumbel::ops
