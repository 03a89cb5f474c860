// SPDX-License-Identifier: Apache-2.0
// Shapes and dtypes without data, for tracers and the meta device.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "backend.h"

namespace torch_gumbel::ops {
namespace {

using SymShape = at::OptionalSymIntArrayRef;

Tensor softmax_meta(const Tensor& logits, const Tensor&, const Tensor&, int64_t, bool,
                    std::optional<ScalarType> dtype, SymShape, SymShape) {
  check_meta(logits);
  return empty_like_shape(logits, dtype.value_or(logits.scalar_type()));
}

Tensor hard_meta(const Tensor& logits, const Tensor& tau, const Tensor& key, int64_t dim,
                 std::optional<ScalarType> dtype, SymShape full_shape, SymShape start) {
  return softmax_meta(logits, tau, key, dim, true, dtype, full_shape, start);
}

TensorPair hard_soft_meta(const Tensor& logits, const Tensor&, const Tensor&, int64_t,
                          std::optional<ScalarType> dtype, SymShape, SymShape) {
  check_meta(logits);
  const auto type = dtype.value_or(logits.scalar_type());
  return {empty_like_shape(logits, type), empty_like_shape(logits, type)};
}

TensorPair softmax_lse_meta(const Tensor& logits, const Tensor&, const Tensor&, int64_t dim,
                            std::optional<ScalarType> dtype, SymShape, SymShape) {
  check_meta(logits);
  return {empty_like_shape(logits, dtype.value_or(logits.scalar_type())),
          empty_rows(logits, dim, opmath_type(logits.scalar_type()))};
}

TensorPair backward_meta(const Tensor&, const Tensor& output, const Tensor&, int64_t dim,
                         std::optional<ScalarType> dtype, bool tau_grad) {
  check_meta(output);
  const auto type = opmath_type(output.scalar_type());
  return {empty_like_shape(output, dtype.value_or(output.scalar_type())),
          tau_grad ? empty_rows(output, dim, type) : no_rows(output)};
}

TensorPair hard_backward_meta(const Tensor& grad, const Tensor& logits, const Tensor& tau,
                              const Tensor&, int64_t dim, bool tau_grad, SymShape, SymShape) {
  return backward_meta(grad, logits, tau, dim, std::nullopt, tau_grad);
}

TensorPair max_meta(const Tensor& logits, const Tensor&, const Tensor&, int64_t dim, bool keepdim,
                    SymShape, SymShape) {
  check_meta(logits);
  return {empty_choices(logits, dim, keepdim, opmath_type(logits.scalar_type())),
          empty_choices(logits, dim, keepdim, at::kLong)};
}

Tensor argmax_meta(const Tensor& logits, const Tensor&, const Tensor&, int64_t dim, bool keepdim,
                   SymShape, SymShape) {
  check_meta(logits);
  return empty_choices(logits, dim, keepdim, at::kLong);
}

Tensor noise_meta(const Tensor& like, const Tensor&, SymShape, SymShape) {
  check_meta(like);
  return empty_like_shape(like, opmath_type(like.scalar_type()));
}

TORCH_LIBRARY_IMPL(torch_gumbel, Meta, m) {
  m.impl("_gumbel_softmax", TORCH_FN(softmax_meta));
  m.impl("_gumbel_softmax_hard", TORCH_FN(hard_meta));
  m.impl("_gumbel_softmax_hard_soft", TORCH_FN(hard_soft_meta));
  m.impl("_gumbel_softmax_lse", TORCH_FN(softmax_lse_meta));
  m.impl("_gumbel_softmax_backward", TORCH_FN(backward_meta));
  m.impl("_gumbel_softmax_hard_backward", TORCH_FN(hard_backward_meta));
  m.impl("_gumbel_max", TORCH_FN(max_meta));
  m.impl("_gumbel_argmax", TORCH_FN(argmax_meta));
  m.impl("_gumbel_noise", TORCH_FN(noise_meta));
}

}  // namespace
}  // namespace torch_gumbel::ops
