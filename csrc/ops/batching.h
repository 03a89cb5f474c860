// SPDX-License-Identifier: Apache-2.0
// The current level of vmap, for batching rules. An example is one element of the batch dimension.
#pragma once

#include <ATen/functorch/PlumbingHelper.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <vector>

#include "ops.h"

namespace torch_gumbel::ops {

using c10::DispatchKey;
using c10::SymInt;

inline at::functorch::DynamicLayer current_layer() {
  auto layer = at::functorch::maybeCurrentDynamicLayer();
  TORCH_INTERNAL_ASSERT(layer.has_value(), "a batching rule runs inside vmap");
  return *layer;
}

/// The tensors of a call at the current level, with their batch dimension first.
class VmapLevel {
 public:
  VmapLevel() : layer_(current_layer()), level_(layer_.layerId()), size_(layer_.batchSize()) {}

  bool any(std::initializer_list<const Tensor*> tensors) const {
    for (const Tensor* tensor : tensors)
      if (at::functorch::isBatchedAtLevel(*tensor, level_)) return true;
    return false;
  }

  /// [B, *example]; an unbatched tensor is expanded. A 0-d example becomes one of one class.
  Tensor operand(const Tensor& tensor) const {
    const Tensor front = batch_dim_first(tensor);
    return front.dim() == 1 ? front.unsqueeze(-1) : front;
  }

  Tensor key(const Tensor& key) const { return batch_dim_first(key); }

  /// An unbatched tensor, without its wrapper.
  Tensor unbatched(const Tensor& tensor) const {
    return std::get<0>(at::functorch::unwrapTensorAtLevel(tensor, level_));
  }

  /// A temperature stays aligned with the right end of logits [B, *example].
  Tensor temperature(const Tensor& tau, const Tensor& logits) const {
    const auto [value, batch_dim] = at::functorch::unwrapTensorAtLevel(tau, level_);
    if (!batch_dim) return value;
    Tensor front = value.movedim(*batch_dim, 0);
    while (front.dim() < logits.dim()) front = front.unsqueeze(1);
    return front;
  }

  /// Wraps a result [B, *example]; `scalar`: the example was 0-d.
  Tensor wrap(const Tensor& result, bool scalar) const {
    return at::functorch::makeBatched(scalar ? result.squeeze(-1) : result, 0, level_);
  }

  template <typename... Results>
  std::tuple<Results...> wrap(const std::tuple<Results...>& results, bool scalar) const {
    return std::apply([&](const auto&... each) { return std::tuple(wrap(each, scalar)...); },
                      results);
  }

  /// The examples of a tensor one by one; an unbatched tensor once per example.
  std::vector<Tensor> each(const Tensor& tensor) const { return batch_dim_first(tensor).unbind(0); }

  const SymInt& size() const { return size_; }
  int64_t id() const { return level_; }

  /// Rank of one example.
  int64_t rank(const Tensor& tensor) const {
    const auto [value, batch_dim] = at::functorch::unwrapTensorAtLevel(tensor, level_);
    return value.dim() - (batch_dim ? 1 : 0);
  }

 private:
  Tensor batch_dim_first(const Tensor& tensor) const {
    const auto [value, batch_dim] = at::functorch::unwrapTensorAtLevel(tensor, level_);
    if (batch_dim) return value.movedim(*batch_dim, 0);
    c10::SymDimVector shape(value.sym_sizes().begin(), value.sym_sizes().end());
    shape.insert(shape.begin(), size_);
    return value.unsqueeze(0).expand_symint(shape);
  }

  at::functorch::DynamicLayer layer_;
  int64_t level_;
  SymInt size_;
};

/// The level of a batching rule. The ops that the rule calls do not come back to it.
class RuleLevel : public VmapLevel {
  c10::impl::ExcludeDispatchKeyGuard guard_{DispatchKey::FuncTorchBatched};
};

/// A backward's results; its rows are an unbatched empty tensor unless they were asked for.
inline TensorPair wrap_gradients(const VmapLevel& level, const TensorPair& gradients, bool scalar,
                                 bool tau_grad) {
  const auto& [grad_logits, rows] = gradients;
  return {level.wrap(grad_logits, scalar), tau_grad ? level.wrap(rows, scalar) : rows};
}

}  // namespace torch_gumbel::ops
