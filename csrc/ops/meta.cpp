// SPDX-License-Identifier: Apache-2.0
// Shapes and dtypes without data, for tracers and the meta device.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "backend.h"
#include "keys.h"
#include "log_prob.h"
#include "noise_at.h"

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

Tensor gate_meta(const Tensor& logits, const Tensor&, const Tensor&, bool, double, double, double,
                 SymShape, SymShape) {
  check_meta(logits);
  return empty_like_shape(logits, logits.scalar_type());
}

TensorPair gate_keep_meta(const Tensor& logits, const Tensor&, const Tensor&, bool, double, double,
                          double, SymShape, SymShape) {
  check_meta(logits);
  return {empty_like_shape(logits, logits.scalar_type()),
          empty_like_shape(logits, logits.scalar_type())};
}

TensorPair gate_backward_meta(const Tensor&, const Tensor& kept, const Tensor&, double, double,
                              bool tau_grad) {
  check_meta(kept);
  const auto type = opmath_type(kept.scalar_type());
  return {empty_like_shape(kept, kept.scalar_type()),
          tau_grad ? empty_like_shape(kept, type) : no_rows(kept)};
}

Tensor gate_recompute_meta(const Tensor& logits, const Tensor& tau, const Tensor& key, bool hard,
                           double threshold, SymShape full_shape, SymShape start) {
  return gate_meta(logits, tau, key, hard, threshold, 0, 1, full_shape, start);
}

TensorPair gate_recompute_backward_meta(const Tensor& grad, const Tensor& logits, const Tensor& tau,
                                        const Tensor&, bool tau_grad, SymShape, SymShape) {
  return gate_backward_meta(grad, logits, tau, 0, 1, tau_grad);
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

Tensor noise_at_meta(const Tensor& index, c10::SymInt classes, const Tensor& key,
                     ScalarType dtype) {
  check_meta(index);
  return empty_noise_at(index, classes, key, dtype);
}

OneHotResult one_hot_meta(const Tensor& logits, const Tensor&, const Tensor&, int64_t dim,
                          c10::string_view, int64_t, double, std::optional<ScalarType> dtype,
                          bool keep, SymShape, SymShape) {
  check_meta(logits);
  const auto type = logits.scalar_type();
  return {empty_like_shape(logits, dtype.value_or(type)),
          keep ? empty_like_shape(logits, type) : no_elements(logits, type),
          empty_choices(logits, dim, /*keepdim=*/true, at::kLong)};
}

TensorPair one_hot_backward_meta(const Tensor& grad, const Tensor& logits, const Tensor&,
                                 const Tensor& tau, const Tensor&, int64_t dim, c10::string_view,
                                 int64_t, double, bool tau_grad, SymShape, SymShape) {
  return backward_meta(grad, logits, tau, dim, std::nullopt, tau_grad);
}

KlResult kl_meta(const Tensor& values, const std::optional<Tensor>&, int64_t dim, bool) {
  check_meta(values);
  const auto rows = [&] { return empty_rows(values, dim, opmath_type(values.scalar_type())); };
  return {rows(), rows(), rows()};
}

Tensor kl_backward_meta(const Tensor&, const Tensor& values, const Tensor&, const Tensor&,
                        const Tensor&, const std::optional<Tensor>&, int64_t, bool) {
  check_meta(values);
  return empty_like_shape(values, values.scalar_type());
}

LogProbResult log_prob_meta(const Tensor& logits, const Tensor&, const Tensor&, int64_t dim) {
  check_meta(logits);
  const auto rows = [&] { return empty_rows(logits, dim, opmath_type(logits.scalar_type())); };
  return {rows(), rows(), rows(), rows(), rows()};
}

TensorPair log_prob_backward_meta(const std::optional<Tensor>&, const std::optional<Tensor>&,
                                  const Tensor& logits, const Tensor&, const Tensor& temperature,
                                  const Tensor&, const Tensor&, const Tensor&, int64_t dim,
                                  bool temperature_grad) {
  return backward_meta(logits, logits, temperature, dim, std::nullopt, temperature_grad);
}

FilterResult sample_logits_meta(const Tensor& logits, const Tensor&, const Tensor&, int64_t dim,
                                const std::optional<Tensor>&, const std::optional<Tensor>&,
                                const std::optional<Tensor>&, bool log_prob, bool entropy, SymShape,
                                SymShape) {
  check_meta(logits);
  const auto type = opmath_type(logits.scalar_type());
  const auto rows = [&](bool wanted) {
    return wanted ? empty_rows(logits, dim, type) : no_rows(logits);
  };
  return {empty_rows(logits, dim, at::kLong), rows(log_prob), rows(entropy)};
}

Tensor filter_logits_meta(const Tensor& logits, const Tensor&, int64_t,
                          const std::optional<Tensor>&, const std::optional<Tensor>&,
                          const std::optional<Tensor>&) {
  check_meta(logits);
  return empty_like_shape(logits, logits.scalar_type());
}

Tensor new_key_meta(const Tensor& anchor, std::optional<at::Generator>) {
  return at::empty({2}, anchor.options().dtype(at::kUInt64));
}

Tensor split_meta(const Tensor& key, c10::SymInt num) { return empty_split(key, num); }
Tensor fold_in_meta(const Tensor& key, c10::SymInt) { return empty_fold(key); }

Tensor fold_in_tensor_meta(const Tensor& key, const Tensor& data) {
  check_fold_data(key, data);
  return empty_fold(key);
}

TORCH_LIBRARY_IMPL(torch_gumbel, Meta, m) {
  m.impl("_gumbel_softmax", TORCH_FN(softmax_meta));
  m.impl("_gumbel_softmax_hard", TORCH_FN(hard_meta));
  m.impl("_gumbel_softmax_hard_soft", TORCH_FN(hard_soft_meta));
  m.impl("_gumbel_softmax_lse", TORCH_FN(softmax_lse_meta));
  m.impl("_gumbel_softmax_backward", TORCH_FN(backward_meta));
  m.impl("_gumbel_softmax_hard_backward", TORCH_FN(hard_backward_meta));
  m.impl("_gumbel_gate", TORCH_FN(gate_meta));
  m.impl("_gumbel_gate_keep", TORCH_FN(gate_keep_meta));
  m.impl("_gumbel_gate_backward", TORCH_FN(gate_backward_meta));
  m.impl("_gumbel_gate_recompute", TORCH_FN(gate_recompute_meta));
  m.impl("_gumbel_gate_recompute_backward", TORCH_FN(gate_recompute_backward_meta));
  m.impl("_gumbel_max", TORCH_FN(max_meta));
  m.impl("_gumbel_argmax", TORCH_FN(argmax_meta));
  m.impl("_gumbel_noise", TORCH_FN(noise_meta));
  m.impl("_gumbel_at", TORCH_FN(noise_at_meta));
  m.impl("_sample_one_hot", TORCH_FN(one_hot_meta));
  m.impl("_sample_one_hot_backward", TORCH_FN(one_hot_backward_meta));
  m.impl("_kl_categorical", TORCH_FN(kl_meta));
  m.impl("_kl_categorical_backward", TORCH_FN(kl_backward_meta));
  m.impl("_log_prob_entropy", TORCH_FN(log_prob_meta));
  m.impl("_log_prob_entropy_backward", TORCH_FN(log_prob_backward_meta));
  m.impl("_sample_logits", TORCH_FN(sample_logits_meta));
  m.impl("_filter_logits", TORCH_FN(filter_logits_meta));
  m.impl("_new_key", TORCH_FN(new_key_meta));
  m.impl("_split_key", TORCH_FN(split_meta));
  m.impl("_fold_in_key", TORCH_FN(fold_in_meta));
  m.impl("_fold_in_key.tensor", TORCH_FN(fold_in_tensor_meta));
}

}  // namespace
}  // namespace torch_gumbel::ops
