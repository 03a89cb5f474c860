// SPDX-License-Identifier: Apache-2.0
// Where keys come from.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>

#include <initializer_list>
#include <optional>

namespace torch_gumbel::ops {

/// The key of one call: drawn through the op `_new_key`, so that every tracer and transform sees it
/// drawn; on the fast path (fast_path.h), the same key without the op.
at::Tensor draw_key(const at::Tensor& logits, const std::optional<at::Generator>& generator);

/// Checked results of split and fold_in, contents undefined, contiguous.
TORCH_GUMBEL_API at::Tensor empty_split(const at::Tensor& key, const c10::SymInt& num);
TORCH_GUMBEL_API at::Tensor empty_fold(const at::Tensor& key);

/// The number of fold_in as a tensor: one uint64 or int64 value on the key's device.
TORCH_GUMBEL_API void check_fold_data(const at::Tensor& key, const at::Tensor& data);

/// Throws ValueError if a key on a CPU would have to be copied to `device` while a graph is captured
/// there: such a copy waits for the device, which ends the capture with an error of CUDA's own.
TORCH_GUMBEL_API void check_copy(const char* who, const at::Tensor& key, at::Device device);

/// A user's key as a call can use it: where the call is recorded or transformed, on the logits'
/// device, since tracers refuse operands of two devices.
at::Tensor placed_key(const at::Tensor& key, const at::Tensor& logits);

/// The key of one call, once its other arguments are checked: the given one if it fits logits
/// with that `dim` (see checks::fitted_key), else a fresh one, for which a generator moves: so only
/// if there is memory for results of these bytes.
at::Tensor key_of_call(const char* who, const at::Tensor& logits, int64_t dim,
                       const std::optional<at::Generator>& generator,
                       const std::optional<at::Tensor>& given,
                       std::initializer_list<int64_t> result_bytes);

/// A device's way of drawing a key on the host, for plain eager calls: CPU tensor [2], or undefined
/// when the host cannot know it (a stream is capturing). The CUDA backend registers one when the
/// library is loaded.
using HostKey = at::Tensor (*)(const at::Tensor& logits,
                               const std::optional<at::Generator>& generator);
TORCH_GUMBEL_API void register_host_key(HostKey hook);

/// Whether the current stream of a device is capturing; registered likewise, null unregisters.
using Capturing = bool (*)(at::Device device);
TORCH_GUMBEL_API void register_capturing(Capturing hook);

}  // namespace torch_gumbel::ops
