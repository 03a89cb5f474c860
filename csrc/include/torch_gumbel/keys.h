// SPDX-License-Identifier: Apache-2.0
/// \file
/// Keys: explicit randomness.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <torch_gumbel/export.h>

#include <concepts>
#include <cstdint>
#include <optional>

namespace torch_gumbel {

/// 128 fresh bits of a generator (absent: the device's default one) as a key on `device`.
TORCH_GUMBEL_API at::Tensor new_key(std::optional<at::Generator> generator = std::nullopt,
                                    std::optional<at::Device> device = std::nullopt);

/// The key (seed, 0): uint64 [2], equal to torch.func._random.key(seed).
TORCH_GUMBEL_API at::Tensor key(uint64_t seed, at::Device device = at::kCPU);

/// `num` independent keys, [num, *key.shape]; equal to torch.func._random.split. Call it by its
/// full name: unqualified, at::split is found as well.
TORCH_GUMBEL_API at::Tensor split(const at::Tensor& key, int64_t num = 2);

/// A new key from a key and a number (a layer, a step, a rank): equal to
/// torch.func._random.fold_in.
TORCH_GUMBEL_API at::Tensor fold_in(const at::Tensor& key, uint64_t data);

// Numbers that would be rounded.
template <std::floating_point Seed, typename... Rest>
at::Tensor key(Seed, Rest&&...) = delete;
template <std::floating_point Count>
at::Tensor split(const at::Tensor&, Count) = delete;
template <std::floating_point Data>
at::Tensor fold_in(const at::Tensor&, Data) = delete;

}  // namespace torch_gumbel
