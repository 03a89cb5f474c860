// SPDX-License-Identifier: Apache-2.0
// clang-format off: PhiloxUtils.cuh of torch 2.11 uses std::tuple without including it.
#include <tuple>
#include <ATen/cuda/PhiloxUtils.cuh>
// clang-format on

#include "../csrc/math/philox.h"
#include "device_key.h"

namespace torch_gumbel::cuda {
namespace {

__global__ void write_key_kernel(at::PhiloxCudaState reservation, uint64_t* key) {
  const auto [seed, offset] = at::cuda::philox::unpack(reservation);
  const math::Key made = math::fold_in({seed, 0}, offset / 4);
  key[0] = made.seed;
  key[1] = made.offset;
}

}  // namespace

void write_key(at::PhiloxCudaState reservation, uint64_t* key, cudaStream_t stream) {
  write_key_kernel<<<1, 1, 0, stream>>>(reservation, key);
}

}  // namespace torch_gumbel::cuda
