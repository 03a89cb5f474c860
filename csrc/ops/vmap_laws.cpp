// SPDX-License-Identifier: Apache-2.0
// Batching rules of relative entropies, log-probabilities, and entropies, as those of vmap.cpp.
#include <torch/library.h>

#include "batching.h"
#include "log_prob.h"

namespace torch_gumbel::ops {
namespace {

/// A prior stays aligned with the right end of the rows, as a temperature does.
std::optional<Tensor> prior_of(const VmapLevel& level, const std::optional<Tensor>& log_prior,
                               const Tensor& x) {
  if (!log_prior.has_value()) return std::nullopt;
  return level.temperature(*log_prior, x);
}

KlResult kl_batch(const Tensor& values, const std::optional<Tensor>& log_prior, int64_t dim,
                  bool from_probs) {
  const RuleLevel level;
  const bool prior = log_prior.has_value() && level.any({&*log_prior});
  if (!prior && !level.any({&values})) return kl().call(values, log_prior, dim, from_probs);
  const Tensor x = level.operand(values);
  return level.wrap(kl().call(x, prior_of(level, log_prior, x), dim + 1, from_probs), false);
}

Tensor kl_backward_batch(const Tensor& grad_rows, const Tensor& values, const Tensor& kl_rows,
                         const Tensor& base_rows, const Tensor& log_sum_rows,
                         const std::optional<Tensor>& log_prior, int64_t dim, bool from_probs) {
  const RuleLevel level;
  const bool prior = log_prior.has_value() && level.any({&*log_prior});
  if (!prior && !level.any({&grad_rows, &values, &kl_rows, &base_rows, &log_sum_rows}))
    return kl_backward().call(grad_rows, values, kl_rows, base_rows, log_sum_rows, log_prior, dim,
                              from_probs);
  const Tensor x = level.operand(values);
  const Tensor gradient = kl_backward().call(level.operand(grad_rows), x, level.operand(kl_rows),
                                             level.operand(base_rows), level.operand(log_sum_rows),
                                             prior_of(level, log_prior, x), dim + 1, from_probs);
  return level.wrap(gradient, false);
}

LogProbResult log_prob_batch(const Tensor& logits, const Tensor& index, const Tensor& temperature,
                             int64_t dim) {
  const RuleLevel level;
  if (!level.any({&logits, &index, &temperature}))
    return log_prob().call(logits, index, temperature, dim);
  const Tensor x = level.operand(logits);
  return level.wrap(
      log_prob().call(x, level.operand(index), level.temperature(temperature, x), dim + 1),
      level.rank(logits) == 0);
}

TensorPair log_prob_backward_batch(const std::optional<Tensor>& grad_log_prob,
                                   const std::optional<Tensor>& grad_entropy, const Tensor& logits,
                                   const Tensor& index, const Tensor& temperature,
                                   const Tensor& max, const Tensor& sum, const Tensor& mean,
                                   int64_t dim, bool temperature_grad) {
  const RuleLevel level;
  const auto batched = [&](const std::optional<Tensor>& rows) {
    return rows.has_value() && level.any({&*rows});
  };
  if (!batched(grad_log_prob) && !batched(grad_entropy) &&
      !level.any({&logits, &index, &temperature, &max, &sum, &mean}))
    return log_prob_backward().call(grad_log_prob, grad_entropy, logits, index, temperature, max,
                                    sum, mean, dim, temperature_grad);
  const auto rows_of = [&](const std::optional<Tensor>& rows) {
    return rows.has_value() ? std::optional<Tensor>(level.operand(*rows)) : std::nullopt;
  };
  const Tensor x = level.operand(logits);
  const auto gradients = log_prob_backward().call(
      rows_of(grad_log_prob), rows_of(grad_entropy), x, level.operand(index),
      level.temperature(temperature, x), level.operand(max), level.operand(sum),
      level.operand(mean), dim + 1, temperature_grad);
  return wrap_gradients(level, gradients, level.rank(logits) == 0, temperature_grad);
}

TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchBatched, m) {
  m.impl("_kl_categorical", TORCH_FN(kl_batch));
  m.impl("_kl_categorical_backward", TORCH_FN(kl_backward_batch));
  m.impl("_log_prob_entropy", TORCH_FN(log_prob_batch));
  m.impl("_log_prob_entropy_backward", TORCH_FN(log_prob_backward_batch));
}

}  // namespace
}  // namespace torch_gumbel::ops
