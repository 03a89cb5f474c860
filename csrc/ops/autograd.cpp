// SPDX-License-Identifier: Apache-2.0
// Private ops without a gradient. Those with one: NAME_autograd.cpp.
#include <torch/library.h>

#include "autograd_node.h"
#include "noise_at.h"

namespace torch_gumbel::ops {
namespace {

template <auto handle, typename Handle = std::remove_cvref_t<decltype(handle())>>
struct NoGradient;

template <auto handle, typename Result, typename... Args>
struct NoGradient<handle, c10::TypedOperatorHandle<Result(Args...)>> {
  static Result call(c10::DispatchKeySet keys, Args... args) {
    return below_autograd(handle(), keys, std::forward<Args>(args)...);
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, Autograd, m) {
  m.impl("_gumbel_max", TORCH_FN(NoGradient<max>::call));
  m.impl("_gumbel_argmax", TORCH_FN(NoGradient<argmax>::call));
  m.impl("_gumbel_noise", TORCH_FN(NoGradient<noise>::call));
  m.impl("_gumbel_at", TORCH_FN(NoGradient<noise_at>::call));
  m.impl("_sample_logits", TORCH_FN(NoGradient<sample_logits>::call));
  m.impl("_filter_logits", TORCH_FN(NoGradient<filter_logits>::call));
}

}  // namespace
}  // namespace torch_gumbel::ops
