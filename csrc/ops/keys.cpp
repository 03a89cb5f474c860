// SPDX-License-Identifier: Apache-2.0
// Keys: drawn from a generator, split, folded.
#include "keys.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>
#include <torch_gumbel/torch_gumbel.h>

#include "../math/philox.h"
#include "checks.h"
#include "fast_path.h"
#include "ops.h"
#include "results.h"

namespace torch_gumbel {
namespace ops {

at::Tensor empty_split(const at::Tensor& key, const c10::SymInt& num) {
  checks::key_format("split", key);
  TORCH_CHECK_VALUE(num > 0, "split: num must be > 0, got ", num);
  c10::SymDimVector shape(key.sym_sizes().begin(), key.sym_sizes().end());
  shape.insert(shape.begin(), num);
  return at::empty_symint(shape, key.options());
}

at::Tensor empty_fold(const at::Tensor& key) {
  checks::key_format("fold_in", key);
  return at::empty_symint(key.sym_sizes(), key.options());
}

void check_fold_data(const at::Tensor& key, const at::Tensor& data) {
  TORCH_CHECK_TYPE(data.scalar_type() == at::kUInt64 || data.scalar_type() == at::kLong,
                   "fold_in: data must be an integer or a uint64 or int64 tensor, got ",
                   data.scalar_type());
  TORCH_CHECK_VALUE(data.sym_numel() == 1, "fold_in: data must be one value, got shape ",
                    data.sym_sizes());
  TORCH_CHECK_VALUE(data.device() == key.device(), "fold_in: data must be on ", key.device(),
                    ", got ", data.device());
}

namespace {

HostKey host_key_hook = nullptr;
Capturing capturing_hook = nullptr;

/// 128 fresh bits of a CPU generator.
at::Tensor key_of_generator(const std::optional<at::Generator>& generator) {
  auto* source = at::get_generator_or_default<at::CPUGeneratorImpl>(
      generator, at::detail::getDefaultCPUGenerator());
  const at::Tensor key(at::detail::empty_cpu({2}, at::kUInt64));
  auto* words = static_cast<uint64_t*>(key.mutable_data_ptr());
  const std::lock_guard<std::mutex> lock(source->mutex_);
  words[0] = source->random64();
  words[1] = source->random64();
  return key;
}

at::Tensor new_key_cpu(const at::Tensor&, std::optional<at::Generator> generator) {
  return key_of_generator(generator);
}

math::Key read_key(const uint64_t* words) { return {words[0], words[1]}; }

/// out[i][k] = fold_in(keys[k], first + i)
void fold_all(const at::Tensor& keys, uint64_t first, int64_t count, at::Tensor& out) {
  const at::Tensor packed = keys.contiguous();
  const auto* from = static_cast<const uint64_t*>(packed.const_data_ptr());
  auto* to = static_cast<uint64_t*>(out.mutable_data_ptr());
  const int64_t keys_count = packed.numel() / 2;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t k = 0; k < keys_count; ++k) {
      const math::Key folded =
          math::fold_in(read_key(from + 2 * k), first + static_cast<uint64_t>(i));
      *to++ = folded.seed;
      *to++ = folded.offset;
    }
}

at::Tensor split_cpu(const at::Tensor& key, int64_t num) {
  at::Tensor out = empty_split(key, num);
  fold_all(key, 0, num, out);
  return out;
}

at::Tensor fold_in_cpu(const at::Tensor& key, int64_t data) {
  at::Tensor out = empty_fold(key);
  fold_all(key, static_cast<uint64_t>(data), 1, out);
  return out;
}

at::Tensor fold_in_tensor_cpu(const at::Tensor& key, const at::Tensor& data) {
  check_fold_data(key, data);
  return fold_in_cpu(key,
                     static_cast<int64_t>(*static_cast<const uint64_t*>(data.const_data_ptr())));
}

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) {
  m.impl("_new_key", TORCH_FN(new_key_cpu));
  m.impl("_split_key", TORCH_FN(split_cpu));
  m.impl("_fold_in_key", TORCH_FN(fold_in_cpu));
  m.impl("_fold_in_key.tensor", TORCH_FN(fold_in_tensor_cpu));
}

}  // namespace

void register_host_key(HostKey hook) { host_key_hook = hook; }
void register_capturing(Capturing hook) { capturing_hook = hook; }

void check_copy(const char* who, const at::Tensor& key, at::Device device) {
  const bool copied = key.is_cpu() && device.is_cuda();
  TORCH_CHECK_VALUE(!copied || capturing_hook == nullptr || !capturing_hook(device), who,
                    ": wanted the key of shape ", key.sym_sizes(), " on ", device,
                    " while a CUDA graph is captured, got one on ", key.device());
}

at::Tensor placed_key(const at::Tensor& key, const at::Tensor& logits) {
  const bool apart = key.is_cpu() && !logits.is_cpu();
  if (!apart || on_fast_path(logits)) return key;
  check_copy("torch_gumbel", key, logits.device());
  return key.to(logits.device());
}

at::Tensor draw_key(const at::Tensor& logits, const std::optional<at::Generator>& generator) {
  const bool on_host = logits.is_cpu() || (logits.is_cuda() && host_key_hook != nullptr);
  if (on_host && on_fast_path(logits)) {
    if (logits.is_cpu()) return key_of_generator(generator);
    at::Tensor key = host_key_hook(logits, generator);
    if (key.defined()) return key;
  }
  const at::Tensor anchor = at::empty({0}, at::TensorOptions().device(logits.device()));
  return new_key().call(anchor, generator);
}

at::Tensor key_of_call(const char* who, const at::Tensor& logits, int64_t dim,
                       const std::optional<at::Generator>& generator,
                       const std::optional<at::Tensor>& given,
                       std::initializer_list<int64_t> result_bytes) {
  if (given) return placed_key(checks::fitted_key(who, *given, logits, dim), logits);
  reserve(logits, result_bytes);
  return draw_key(logits, generator);
}

}  // namespace ops

at::Tensor new_key(std::optional<at::Generator> generator, std::optional<at::Device> device) {
  const auto natural =
      generator.has_value() && generator->defined() ? generator->device() : at::Device(at::kCPU);
  const at::Device wanted = device.value_or(natural);
  const at::Tensor anchor = at::empty({0}, at::TensorOptions().device(wanted));
  checks::source("new_key", anchor, generator, std::nullopt);
  return ops::new_key().call(anchor, generator);
}

at::Tensor key(uint64_t seed, at::Device device) {
  at::Tensor key = at::empty({2}, at::TensorOptions().dtype(at::kUInt64));
  auto* words = static_cast<uint64_t*>(key.mutable_data_ptr());
  words[0] = seed;
  words[1] = 0;
  return key.to(device);
}

at::Tensor split(const at::Tensor& key, int64_t num) { return ops::split_key().call(key, num); }

at::Tensor fold_in(const at::Tensor& key, uint64_t data) {
  return ops::fold_in_key().call(key, static_cast<int64_t>(data));
}

}  // namespace torch_gumbel
