// SPDX-License-Identifier: Apache-2.0
// Batching rules of filtered draws and of the noise of some classes, as those of vmap.cpp.
#include <torch/library.h>

#include "batching.h"
#include "noise_at.h"

namespace torch_gumbel::ops {
namespace {

using Shape = OptionalSymIntArrayRef;

/// The filters of examples stay aligned with the right end of logits, as a temperature does.
struct BatchedFilters {
  const std::optional<Tensor>&top_k, &top_p, &min_p;

  bool any(const RuleLevel& level) const {
    const auto batched = [&](const auto& filter) { return filter && level.any({&*filter}); };
    return batched(top_k) || batched(top_p) || batched(min_p);
  }
  static std::optional<Tensor> rows(const RuleLevel& level, const std::optional<Tensor>& filter,
                                    const Tensor& logits) {
    if (!filter) return std::nullopt;
    return level.temperature(*filter, logits);
  }
};

FilterResult sample_logits_batch(const Tensor& logits, const Tensor& temperature, const Tensor& key,
                                 int64_t dim, const std::optional<Tensor>& top_k,
                                 const std::optional<Tensor>& top_p,
                                 const std::optional<Tensor>& min_p, bool log_prob, bool entropy,
                                 Shape full_shape, Shape start) {
  const RuleLevel level;
  const BatchedFilters filters = {top_k, top_p, min_p};
  if (!level.any({&logits, &temperature, &key}) && !filters.any(level))
    return sample_logits().call(logits, temperature, key, dim, top_k, top_p, min_p, log_prob,
                                entropy, full_shape, start);
  const Tensor x = level.operand(logits);
  const auto rows = [&](const auto& filter) { return filters.rows(level, filter, x); };
  const auto [index, log_probs, entropies] = sample_logits().call(
      x, level.temperature(temperature, x), level.key(key), dim + 1, rows(top_k), rows(top_p),
      rows(min_p), log_prob, entropy, full_shape, start);
  const bool scalar = level.rank(logits) == 0;
  const auto wrapped = [&](const Tensor& result, bool wanted) {
    return wanted ? level.wrap(result, scalar) : result;
  };
  return {wrapped(index, true), wrapped(log_probs, log_prob), wrapped(entropies, entropy)};
}

Tensor filter_logits_batch(const Tensor& logits, const Tensor& temperature, int64_t dim,
                           const std::optional<Tensor>& top_k, const std::optional<Tensor>& top_p,
                           const std::optional<Tensor>& min_p) {
  const RuleLevel level;
  const BatchedFilters filters = {top_k, top_p, min_p};
  if (!level.any({&logits, &temperature}) && !filters.any(level))
    return filter_logits().call(logits, temperature, dim, top_k, top_p, min_p);
  const Tensor x = level.operand(logits);
  const auto rows = [&](const auto& filter) { return filters.rows(level, filter, x); };
  return level.wrap(filter_logits().call(x, level.temperature(temperature, x), dim + 1, rows(top_k),
                                         rows(top_p), rows(min_p)),
                    level.rank(logits) == 0);
}

Tensor noise_at_batch(const Tensor& index, SymInt classes, const Tensor& key, ScalarType dtype) {
  const RuleLevel level;
  if (!level.any({&index, &key})) return noise_at().call(index, std::move(classes), key, dtype);
  return level.wrap(
      noise_at().call(level.operand(index), std::move(classes), level.key(key), dtype),
      level.rank(index) == 0);
}

TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchBatched, m) {
  m.impl("_sample_logits", TORCH_FN(sample_logits_batch));
  m.impl("_gumbel_at", TORCH_FN(noise_at_batch));
  m.impl("_filter_logits", TORCH_FN(filter_logits_batch));
}

}  // namespace
}  // namespace torch_gumbel::ops
