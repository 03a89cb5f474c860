// SPDX-License-Identifier: Apache-2.0
// Keys derived from keys and from generators; the noise of single positions.
#pragma once

#include "../../csrc/math/noise_at.h"
#include "../kernels.h"
#include "../kernels/generic_rows.cuh"

namespace torch_gumbel::cuda {

/// out[i][k] = fold_in(keys[k], first + i), i < per_key, k < count; `number`, unless null, replaces
/// `first`.
static __global__ void __launch_bounds__(kThreads)
    fold_in_kernel(const uint64_t* keys, int64_t count, uint64_t first, const uint64_t* number,
                   int64_t per_key, uint64_t* out) {
  const uint64_t base = number == nullptr ? first : *number;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x; t < per_key * count; t += stride) {
    const int64_t i = t / count;
    const uint64_t* key = keys + 2 * (t - i * count);
    const math::Key folded = math::fold_in({key[0], key[1]}, base + static_cast<uint64_t>(i));
    out[2 * t] = folded.seed;
    out[2 * t + 1] = folded.offset;
  }
}

static __global__ void write_key_kernel(Reservation reservation, uint64_t* key) {
  uint64_t seed = reservation.seed, offset = reservation.offset;
  if (reservation.device_seed != nullptr) {
    seed = static_cast<uint64_t>(*reservation.device_seed);
    offset += static_cast<uint64_t>(*reservation.device_offset);
  }
  const math::Key made = math::fold_in({seed, 0}, offset / 4);
  key[0] = made.seed;
  key[1] = made.offset;
}

template <typename T>
static __global__ void __launch_bounds__(kThreads) noise_at_kernel(NoiseAtParams a) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < a.count; i += stride)
    static_cast<T*>(a.output)[i] = math::noise_at<T>(a, i);
}

}  // namespace torch_gumbel::cuda
