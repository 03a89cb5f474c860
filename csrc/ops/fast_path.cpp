// SPDX-License-Identifier: Apache-2.0
#include "fast_path.h"

#include <ATen/ops/scalar_tensor.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>

namespace torch_gumbel::ops {

bool on_fast_path(const at::Tensor& logits) {
  const auto special = c10::DispatchKeySet(
      {c10::DispatchKey::Python, c10::DispatchKey::FuncTorchBatched,
       c10::DispatchKey::FuncTorchGradWrapper, c10::DispatchKey::Functionalize});
  const auto local = c10::impl::tls_local_dispatch_key_set().included_;
  const auto layers =
      c10::DispatchKeySet({c10::DispatchKey::FuncTorchDynamicLayerFrontMode,
                           c10::DispatchKey::FuncTorchVmapMode, c10::DispatchKey::Tracer});
  return (logits.key_set() & special).empty() && (local & layers).empty() &&
         !c10::impl::TorchDispatchModeTLS::any_modes_set();
}

at::Tensor temperature_of_call(const at::Tensor& logits, double value) {
  if (!on_fast_path(logits)) return at::scalar_tensor(value, at::kDouble);
  thread_local at::Tensor last;
  thread_local double last_value = 0;
  if (!last.defined() || value != last_value) {
    const c10::InferenceMode off(false);  // training may save it
    last = at::scalar_tensor(value, at::kDouble);
    last_value = value;
  }
  return last;
}

}  // namespace torch_gumbel::ops
