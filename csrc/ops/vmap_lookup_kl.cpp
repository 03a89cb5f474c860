// SPDX-License-Identifier: Apache-2.0
// Batching rules of lookup and relative entropy: see vmap.cpp.
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include "batching.h"
#include "kl.h"
#include "lookup.h"

namespace torch_gumbel::ops {
namespace {

using std::optional;

LookupResult wrapped(const VmapLevel& level, const LookupResult& result) {
  const auto& [output, index, defined] = result;
  return {level.wrap(output, false), level.wrap(index, false), level.wrap(defined, false)};
}

/// Where every example has a codebook of its own.
LookupResult lookup_per_example(const VmapLevel& level, const Tensor& logits,
                                const Tensor& codebook, const Tensor& tau, const Tensor& key) {
  const auto x = level.each(logits), codes = level.each(codebook), temperatures = level.each(tau),
             keys = level.each(key);
  std::vector<Tensor> outputs, indices, defined;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto [output, index, is_defined] =
        lookup().call(x[i], codes[i], temperatures[i], keys[i]);
    outputs.push_back(output);
    indices.push_back(index);
    defined.push_back(is_defined);
  }
  return {at::stack(outputs), at::stack(indices), at::stack(defined)};
}

LookupResult lookup_batch(const Tensor& logits, const Tensor& codebook, const Tensor& tau,
                          const Tensor& key) {
  const NoBatching guard(DispatchKey::FuncTorchBatched);
  const VmapLevel level;
  if (!level.any({&logits, &codebook, &tau, &key}))
    return lookup().call(logits, codebook, tau, key);
  if (level.any({&codebook}))
    return wrapped(level, lookup_per_example(level, logits, codebook, tau, key));
  const Tensor x = level.operand(logits);
  return wrapped(level, lookup().call(x, level.unbatched(codebook), level.temperature(tau, x),
                                      level.key(key)));
}

/// A prior stays aligned with the right end of the rows, as a temperature does.
optional<Tensor> prior_of(const VmapLevel& level, const optional<Tensor>& log_prior,
                          const Tensor& x) {
  if (!log_prior.has_value()) return std::nullopt;
  return level.temperature(*log_prior, x);
}

KlResult kl_batch(const Tensor& values, const optional<Tensor>& log_prior, int64_t dim,
                  bool from_probs) {
  const NoBatching guard(DispatchKey::FuncTorchBatched);
  const VmapLevel level;
  const bool prior = log_prior.has_value() && level.any({&*log_prior});
  if (!prior && !level.any({&values})) return kl().call(values, log_prior, dim, from_probs);
  const Tensor x = level.operand(values);
  const auto [value, base, log_sum] =
      kl().call(x, prior_of(level, log_prior, x), dim + 1, from_probs);
  return {level.wrap(value, false), level.wrap(base, false), level.wrap(log_sum, false)};
}

Tensor kl_backward_batch(const Tensor& grad_rows, const Tensor& values, const Tensor& kl_rows,
                         const Tensor& base_rows, const Tensor& log_sum_rows,
                         const optional<Tensor>& log_prior, int64_t dim, bool from_probs) {
  const NoBatching guard(DispatchKey::FuncTorchBatched);
  const VmapLevel level;
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

TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchBatched, m) {
  m.impl("_straight_through_lookup", TORCH_FN(lookup_batch));
  m.impl("_kl_categorical", TORCH_FN(kl_batch));
  m.impl("_kl_categorical_backward", TORCH_FN(kl_backward_batch));
}

}  // namespace
}  // namespace torch_gumbel::ops
