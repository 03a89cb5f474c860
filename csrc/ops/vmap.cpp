// SPDX-License-Identifier: Apache-2.0
// Batching rules. The batch dimension of vmap becomes a leading dimension with a key per example,
// so an example draws as if it were alone.
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include "batching.h"

namespace torch_gumbel::ops {
namespace {

using Shape = OptionalSymIntArrayRef;
using c10::SymInt;

/// Ops of (logits, temperature, key, dim, ...).
template <auto handle, typename Handle = std::remove_cvref_t<decltype(handle())>>
struct Draw;

template <auto handle, typename Result, typename... Rest>
struct Draw<handle, c10::TypedOperatorHandle<Result(const Tensor&, const Tensor&, const Tensor&,
                                                    int64_t, Rest...)>> {
  static Result batch(const Tensor& logits, const Tensor& tau, const Tensor& key, int64_t dim,
                      Rest... rest) {
    const RuleLevel level;
    if (!level.any({&logits, &tau, &key})) return handle().call(logits, tau, key, dim, rest...);
    const Tensor x = level.operand(logits);
    return level.wrap(handle().call(x, level.temperature(tau, x), level.key(key), dim + 1, rest...),
                      level.rank(logits) == 0);
  }
};

/// The same with a keepdim: the class dimension that a 0-d example is given is dropped last.
template <auto handle>
auto choice_batch(const Tensor& logits, const Tensor& temperature, const Tensor& key, int64_t dim,
                  bool keepdim, Shape full_shape, Shape start) {
  return Draw<handle>::batch(logits, temperature, key, dim, keepdim || logits.dim() == 0,
                             full_shape, start);
}

/// The copy of the logits is an unbatched empty tensor unless it was asked for.
OneHotResult one_hot_batch(const Tensor& logits, const Tensor& tau, const Tensor& key, int64_t dim,
                           c10::string_view estimator, int64_t draws, double gap,
                           std::optional<ScalarType> dtype, bool keep, Shape full_shape,
                           Shape start) {
  const RuleLevel level;
  const auto call = [&](const Tensor& x, const Tensor& temperature, const Tensor& keys,
                        int64_t at) {
    return one_hot().call(x, temperature, keys, at, estimator, draws, gap, dtype, keep, full_shape,
                          start);
  };
  if (!level.any({&logits, &tau, &key})) return call(logits, tau, key, dim);
  const Tensor x = level.operand(logits);
  const auto [sample, kept, index] = call(x, level.temperature(tau, x), level.key(key), dim + 1);
  const bool scalar = level.rank(logits) == 0;
  return {level.wrap(sample, scalar), keep ? level.wrap(kept, scalar) : kept,
          level.wrap(index, scalar)};
}

TensorPair backward_batch(const Tensor& grad, const Tensor& output, const Tensor& tau, int64_t dim,
                          std::optional<ScalarType> dtype, bool tau_grad) {
  const RuleLevel level;
  if (!level.any({&grad, &output, &tau}))
    return backward().call(grad, output, tau, dim, dtype, tau_grad);
  const Tensor y = level.operand(output);
  const auto gradients =
      backward().call(level.operand(grad), y, level.temperature(tau, y), dim + 1, dtype, tau_grad);
  return wrap_gradients(level, gradients, level.rank(output) == 0, tau_grad);
}

TensorPair hard_backward_batch(const Tensor& grad, const Tensor& logits, const Tensor& tau,
                               const Tensor& key, int64_t dim, bool tau_grad, Shape full_shape,
                               Shape start) {
  const RuleLevel level;
  if (!level.any({&grad, &logits, &tau, &key}))
    return hard_backward().call(grad, logits, tau, key, dim, tau_grad, full_shape, start);
  const Tensor x = level.operand(logits);
  const auto gradients = hard_backward().call(level.operand(grad), x, level.temperature(tau, x),
                                              level.key(key), dim + 1, tau_grad, full_shape, start);
  return wrap_gradients(level, gradients, level.rank(logits) == 0, tau_grad);
}

/// Ops of (logits, temperature, key, ...) on elements.
template <auto handle, typename Handle = std::remove_cvref_t<decltype(handle())>>
struct GateDraw;

template <auto handle, typename Result, typename... Rest>
struct GateDraw<handle, c10::TypedOperatorHandle<Result(const Tensor&, const Tensor&, const Tensor&,
                                                        Rest...)>> {
  static Result batch(const Tensor& logits, const Tensor& tau, const Tensor& key, Rest... rest) {
    const RuleLevel level;
    if (!level.any({&logits, &tau, &key})) return handle().call(logits, tau, key, rest...);
    const Tensor x = level.operand(logits);
    return level.wrap(handle().call(x, level.temperature(tau, x), level.key(key), rest...),
                      level.rank(logits) == 0);
  }
};

TensorPair gate_backward_batch(const Tensor& grad, const Tensor& kept, const Tensor& tau,
                               double lower, double upper, bool tau_grad) {
  const RuleLevel level;
  if (!level.any({&grad, &kept, &tau}))
    return gate_backward().call(grad, kept, tau, lower, upper, tau_grad);
  const Tensor y = level.operand(kept);
  const auto gradients = gate_backward().call(level.operand(grad), y, level.temperature(tau, y),
                                              lower, upper, tau_grad);
  return wrap_gradients(level, gradients, level.rank(kept) == 0, tau_grad);
}

TensorPair gate_recompute_backward_batch(const Tensor& grad, const Tensor& logits,
                                         const Tensor& tau, const Tensor& key, bool tau_grad,
                                         Shape full_shape, Shape start) {
  const RuleLevel level;
  if (!level.any({&grad, &logits, &tau, &key}))
    return gate_recompute_backward().call(grad, logits, tau, key, tau_grad, full_shape, start);
  const Tensor x = level.operand(logits);
  const auto gradients =
      gate_recompute_backward().call(level.operand(grad), x, level.temperature(tau, x),
                                     level.key(key), tau_grad, full_shape, start);
  return wrap_gradients(level, gradients, level.rank(logits) == 0, tau_grad);
}

TensorPair one_hot_backward_batch(const Tensor& grad, const Tensor& logits, const Tensor& index,
                                  const Tensor& tau, const Tensor& key, int64_t dim,
                                  c10::string_view estimator, int64_t draws, double gap,
                                  bool tau_grad, Shape full_shape, Shape start) {
  const RuleLevel level;
  if (!level.any({&grad, &logits, &index, &tau, &key}))
    return one_hot_backward().call(grad, logits, index, tau, key, dim, estimator, draws, gap,
                                   tau_grad, full_shape, start);
  const Tensor x = level.operand(logits);
  const auto gradients = one_hot_backward().call(
      level.operand(grad), x, level.operand(index), level.temperature(tau, x), level.key(key),
      dim + 1, estimator, draws, gap, tau_grad, full_shape, start);
  return wrap_gradients(level, gradients, level.rank(logits) == 0, tau_grad);
}

Tensor noise_batch(const Tensor& like, const Tensor& key, Shape full_shape, Shape start) {
  const RuleLevel level;
  if (!level.any({&like, &key})) return noise().call(like, key, full_shape, start);
  return level.wrap(noise().call(level.operand(like), level.key(key), full_shape, start),
                    level.rank(like) == 0);
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
  const RuleLevel level;
  if (!level.any({&logits, &codebook, &tau, &key}))
    return lookup().call(logits, codebook, tau, key);
  if (level.any({&codebook}))
    return level.wrap(lookup_per_example(level, logits, codebook, tau, key), false);
  const Tensor x = level.operand(logits);
  return level.wrap(
      lookup().call(x, level.unbatched(codebook), level.temperature(tau, x), level.key(key)),
      false);
}

Tensor split_key_batch(const Tensor& key, SymInt num) {
  const RuleLevel level;
  if (!level.any({&key})) return split_key().call(key, std::move(num));
  return at::functorch::makeBatched(split_key().call(level.key(key), std::move(num)), 1,
                                    level.id());
}

Tensor fold_in_key_batch(const Tensor& key, SymInt data) {
  const RuleLevel level;
  if (!level.any({&key})) return fold_in_key().call(key, std::move(data));
  return level.wrap(fold_in_key().call(level.key(key), std::move(data)), false);
}

/// An example folds its own number in.
Tensor fold_in_key_tensor_batch(const Tensor& key, const Tensor& data) {
  const RuleLevel level;
  if (!level.any({&key, &data})) return fold_in_key_tensor().call(key, data);
  const auto keys = level.key(key).unbind(0), numbers = level.key(data).unbind(0);
  std::vector<Tensor> folded;
  for (size_t i = 0; i < keys.size(); ++i)
    folded.push_back(fold_in_key_tensor().call(keys[i], numbers[i]));
  return level.wrap(at::stack(folded), false);
}

/// The rule of vmap(randomness=): "error" raises, "same" draws one key, "different" one per
/// example.
Tensor new_key_in_vmap(const Tensor& anchor, std::optional<at::Generator> generator) {
  const c10::impl::ExcludeDispatchKeyGuard guard(DispatchKey::FuncTorchVmapMode);
  const VmapLevel level;
  const auto layer = current_layer();
  TORCH_CHECK(layer.randomness() != at::functorch::RandomnessType::Error,
              "vmap: torch_gumbel was called without a key, which draws random numbers, in "
              "randomness error mode. "
              "Pass key=, or vmap(..., randomness='same' or 'different').");
  const Tensor key = new_key().call(anchor, generator);
  if (layer.randomness() == at::functorch::RandomnessType::Same) return key;
  return at::functorch::makeBatched(split_key().call(key, level.size()), 0, level.id());
}

TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchBatched, m) {
  m.impl("_gumbel_softmax", TORCH_FN(Draw<softmax>::batch));
  m.impl("_gumbel_softmax_hard", TORCH_FN(Draw<hard>::batch));
  m.impl("_gumbel_softmax_hard_soft", TORCH_FN(Draw<hard_soft>::batch));
  m.impl("_gumbel_softmax_lse", TORCH_FN(Draw<softmax_lse>::batch));
  m.impl("_gumbel_softmax_backward", TORCH_FN(backward_batch));
  m.impl("_gumbel_softmax_hard_backward", TORCH_FN(hard_backward_batch));
  m.impl("_gumbel_gate", TORCH_FN(GateDraw<gate>::batch));
  m.impl("_gumbel_gate_keep", TORCH_FN(GateDraw<gate_keep>::batch));
  m.impl("_gumbel_gate_backward", TORCH_FN(gate_backward_batch));
  m.impl("_gumbel_gate_recompute", TORCH_FN(GateDraw<gate_recompute>::batch));
  m.impl("_gumbel_gate_recompute_backward", TORCH_FN(gate_recompute_backward_batch));
  m.impl("_gumbel_max", TORCH_FN(choice_batch<max>));
  m.impl("_gumbel_argmax", TORCH_FN(choice_batch<argmax>));
  m.impl("_gumbel_noise", TORCH_FN(noise_batch));
  m.impl("_sample_one_hot", TORCH_FN(one_hot_batch));
  m.impl("_sample_one_hot_backward", TORCH_FN(one_hot_backward_batch));
  m.impl("_straight_through_lookup", TORCH_FN(lookup_batch));
  m.impl("_split_key", TORCH_FN(split_key_batch));
  m.impl("_fold_in_key", TORCH_FN(fold_in_key_batch));
  m.impl("_fold_in_key.tensor", TORCH_FN(fold_in_key_tensor_batch));
}

TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchVmapMode, m) {
  m.impl("_new_key", TORCH_FN(new_key_in_vmap));
}

}  // namespace
}  // namespace torch_gumbel::ops
