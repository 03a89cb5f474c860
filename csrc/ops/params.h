// SPDX-License-Identifier: Apache-2.0
// From tensors to the Torch-free KernelParams of a kernel.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>

#include "../math/rows.h"

namespace torch_gumbel::ops {

/// The tensors of one private op. Undefined ones are not used by it.
struct Operands {
  at::Tensor input = {};      // logits, or y in the backward from y
  at::Tensor grad = {};       // same shape
  at::Tensor log_prior = {};  // same shape; relative entropy alone, without grad
  at::Tensor output = {};     // same shape, contiguous
  at::Tensor one_hot = {};    // shape, strides, and type of output
  at::Tensor tau = {};        // broadcasts, size 1 at dim
  at::Tensor key = {};        // [*batch, 2]
  at::Tensor row_value = {};  // one per row, contiguous
  at::Tensor index = {};      // one per row, contiguous
  int64_t dim = 0;            // in [0, rank)
  at::OptionalIntArrayRef full_shape = {};
  at::OptionalIntArrayRef start = {};
};

/// A kernel's parameters, with the tensors whose memory they point into.
struct Launch {
  KernelParams params;
  std::vector<at::Tensor> alive;
};

/// Checks that the operands fit each other (a private op can be called by anyone) and makes the
/// kernel's parameters. Throws ValueError.
TORCH_GUMBEL_API Launch make_params(const char* who, const Operands& operands);

/// The same checks, and the rows alone, of operands without tau and key. Tensors whose dimensions
/// cannot be merged are replaced by copies.
Rows make_rows(const char* who, Operands& operands);

/// Throws TypeError for what the kernels do not read.
DType dtype_of(const char* who, const at::Tensor& tensor);

/// Shape of one value per row: size 1 at `dim` (0-d stays 0-d).
TORCH_GUMBEL_API c10::SymDimVector rows_shape(const at::Tensor& like, int64_t dim);

/// What an op on `type` computes in, and gives its per-row results in.
inline at::ScalarType opmath_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace torch_gumbel::ops
