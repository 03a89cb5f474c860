// SPDX-License-Identifier: Apache-2.0
// The private op _gumbel_at: its handle, and for a backend the checks, the result, and the kernel's
// parameters. A backend gives
//     static void run(const NoiseAtParams& params, bool wide, const at::Tensor& on);
#pragma once

#include <c10/util/safe_numerics.h>

#include "../math/noise_at.h"
#include "backend.h"
#include "keys.h"

namespace torch_gumbel::ops {

using NoiseAtSignature = Tensor(const Tensor&, c10::SymInt, const Tensor&, ScalarType);

inline const c10::TypedOperatorHandle<NoiseAtSignature>& noise_at() {
  static const auto handle = find<NoiseAtSignature>("torch_gumbel::_gumbel_at");
  return handle;
}

/// Checked, contents undefined, contiguous.
inline Tensor empty_noise_at(const Tensor& index, const c10::SymInt& classes, const Tensor& key,
                             ScalarType dtype) {
  constexpr const char* kName = "_gumbel_at";
  TORCH_CHECK_TYPE(index.scalar_type() == at::kLong, kName, ": index must be int64, got ",
                   index.scalar_type());
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kDouble, kName,
                   ": dtype must be float32 or float64, got ", dtype);
  checks::count(kName, "num_classes", classes);
  checks::key_format(kName, key);
  const int64_t batch = key.dim() - 1;
  bool fits = batch <= std::max<int64_t>(index.dim() - 1, 0);
  for (int64_t i = 0; fits && i < batch; ++i) fits = key.sym_size(i) == index.sym_size(i);
  TORCH_CHECK_VALUE(fits, kName, ": key of shape ", key.sym_sizes(),
                    " does not fit an index of shape ", index.sym_sizes());
  TORCH_CHECK_VALUE(key.device() == index.device() || key.is_cpu(), kName,
                    ": wanted all tensors on ", index.device(), ", got one on ", key.device());
  return empty_near(index, index.sym_sizes(), dtype);
}

template <typename Backend>
Tensor noise_at_op(const Tensor& index, int64_t classes, const Tensor& key, ScalarType dtype) {
  const Tensor output = empty_noise_at(index, classes, key, dtype);
  NoiseAtParams a;
  a.count = index.numel(), a.classes = classes;
  if (a.count == 0) return output;
  a.per_row = index.dim() == 0 ? 1 : index.size(-1);
  a.per_key = a.count / (key.numel() / 2);
  int64_t positions = 0;
  TORCH_CHECK_VALUE(!c10::mul_overflows(a.per_key / a.per_row, classes, &positions),
                    "_gumbel_at: ", a.per_key / a.per_row, " rows of ", classes,
                    " classes have more than 2^63 elements");
  const Tensor indices = index.contiguous(), keys = key.contiguous();
  Tensor on_device;
  const auto* words = static_cast<const uint64_t*>(keys.const_data_ptr());
  if (keys.is_cpu() && keys.dim() == 1) {
    a.host_key = {words[0], words[1]};
  } else {
    check_copy("_gumbel_at", keys, index.device());
    on_device = keys.to(index.device());
    a.keys = static_cast<const uint64_t*>(on_device.const_data_ptr());
  }
  a.index = indices.const_data_ptr<int64_t>();
  a.output = output.mutable_data_ptr();
  Backend::run(a, dtype == at::kDouble, index);
  return output;
}

}  // namespace torch_gumbel::ops
