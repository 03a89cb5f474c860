// SPDX-License-Identifier: Apache-2.0
#include "probabilities.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>

#include <limits>

#include "params.h"

namespace torch_gumbel::ops {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

namespace {

/// Without repetition in memory: a dimension of stride 0 is left with size 1.
at::Tensor once(const at::Tensor& values) {
  at::Tensor result = values;
  if (!c10::asIntArrayRefSlowOpt(values.sym_sizes())) return result;
  for (int64_t i = 0; i < values.dim(); ++i)
    if (values.size(i) > 1 && values.sym_strides()[i] == 0) result = result.narrow(i, 0, 1);
  return result;
}

}  // namespace

at::Tensor log_probabilities(const at::Tensor& probs) {
  const at::Tensor unique = once(probs), wide = unique.to(opmath_type(probs.scalar_type()));
  const at::Tensor zero = wide == 0;
  const at::Tensor logs = at::where(zero, 1, wide).log().masked_fill(zero, -kInfinity);
  return unique.is_same(probs) ? logs : logs.expand_symint(probs.sym_sizes());
}

void check_probabilities(const char* who, const char* name, const at::Tensor& probs, int64_t dim) {
  if (probs.sym_numel() == 0) return;
  const at::Tensor wide = probs.detach();
  const bool in_range = (wide >= 0).logical_and(wide < kInfinity).all().item<bool>();
  TORCH_CHECK_VALUE(in_range, who, ": ", name, " must be >= 0 and finite, got ",
                    wide.min().item<double>(), " as the least and ", wide.max().item<double>(),
                    " as the largest");
  const bool somewhere = (wide > 0).any(dim).all().item<bool>();
  TORCH_CHECK_VALUE(somewhere, who, ": ", name,
                    " must have a positive value in every row, got a row of zeros");
}

}  // namespace torch_gumbel::ops
