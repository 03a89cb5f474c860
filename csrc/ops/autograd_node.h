// SPDX-License-Identifier: Apache-2.0
// Small tools for hand-written autograd nodes, on every supported LibTorch.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/FunctionsManual.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <optional>
#include <vector>

#include "ops.h"

namespace torch_gumbel::ops {

using torch::autograd::isFwGradDefined;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

/// std::shared_ptr<Node> up to torch 2.11, c10::intrusive_ptr<Node> later.
using NodePointer = decltype(torch::autograd::Edge::function);

template <typename Pointer>
constexpr bool kShared = std::is_same_v<Pointer, std::shared_ptr<torch::autograd::Node>>;

/// A node's own pointer, which unpacking its own output needs.
template <typename Node, typename Pointer = NodePointer>
Pointer pointer_to(Node* node) {
  if constexpr (kShared<Pointer>)
    return node->getptr();
  else
    return Pointer::reclaim_copy(node);
}

/// Owns a node of a known type until its history is set.
template <typename Node>
struct NewNode {
  NodePointer pointer;
  Node* node = nullptr;

  template <typename Pointer = NodePointer>
  static NewNode make() {
    if constexpr (kShared<Pointer>)
      return wrap(Pointer(new Node(), [](auto* node) {
        deleteNode(node);
      }));  // torch::autograd's, found by argument
    else
      return wrap(Pointer(c10::make_intrusive<Node>()));
  }

  explicit operator bool() const { return node != nullptr; }
  Node* operator->() const { return node; }

 private:
  static NewNode wrap(NodePointer pointer) {
    auto* node = static_cast<Node*>(pointer.get());
    return {std::move(pointer), node};
  }
};

/// A node with edges to `inputs`, if any of them needs a gradient.
template <typename Node, typename... Tensors>
NewNode<Node> node_if_needed(const Tensors&... inputs) {
  if (!torch::autograd::compute_requires_grad(inputs...)) return {};
  auto made = NewNode<Node>::template make<>();
  made->set_next_edges(torch::autograd::collect_next_edges(inputs...));
  return made;
}

/// Whether a gradient or a tangent of some input is wanted.
template <typename... Tensors>
bool is_differentiated(const Tensors&... inputs) {
  return torch::autograd::compute_requires_grad(inputs...) || (isFwGradDefined(inputs) || ...);
}

/// A node whose saved tensors one thread at a time unpacks or releases.
struct SavingNode : public torch::autograd::Node {
  variable_list apply(variable_list&& grads) final {
    const std::lock_guard<std::mutex> lock(mutex_);
    return gradients(grads);
  }
  void release_variables() final {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto* variable : saved()) variable->reset_data();
  }

  virtual variable_list gradients(const variable_list& grads) = 0;
  virtual std::vector<SavedVariable*> saved() = 0;
};

/// full_shape or start, kept for the backward.
class SavedShape {
 public:
  SavedShape() = default;
  explicit SavedShape(OptionalSymIntArrayRef shape) {
    if (shape.has_value()) shape_.emplace(shape->begin(), shape->end());
  }
  OptionalSymIntArrayRef get() const {
    return shape_.has_value() ? OptionalSymIntArrayRef(c10::SymIntArrayRef(*shape_))
                              : OptionalSymIntArrayRef();
  }

 private:
  std::optional<std::vector<c10::SymInt>> shape_;
};

inline Tensor tangent_of(const Tensor& tensor) {
  return tensor.defined() ? tensor._fw_grad(0) : Tensor();
}

/// Runs a private op below autograd.
template <typename Handle, typename... Args>
auto below_autograd(const Handle& op, c10::DispatchKeySet keys, Args&&... args) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.redispatch(keys & c10::after_autograd_keyset, std::forward<Args>(args)...);
}

inline Tensor primal(const Tensor& tensor) {
  return tensor.defined() ? torch::autograd::generated::details::toNonOptPrimal(tensor) : tensor;
}

inline void set_tangent(const Tensor& result, const Tensor& tangent) {
  if (tangent.defined()) result._set_fw_grad(tangent, /*level=*/0, /*is_inplace_op=*/false);
}

/// A key drawn in inference mode cannot be saved for a backward; a copy of its words can.
inline Tensor savable(const Tensor& key) { return key.is_inference() ? key.clone() : key; }

}  // namespace torch_gumbel::ops
