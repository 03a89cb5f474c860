// SPDX-License-Identifier: Apache-2.0
// The key of a CUDA generator's reservation.
#pragma once

#include <ATen/cuda/PhiloxCudaState.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace torch_gumbel::cuda {

/// key = fold_in((seed, 0), offset / 4): the one Philox block that the reservation owns, computed
/// on the device, because while a graph is captured only the device will know seed and offset.
void write_key(at::PhiloxCudaState reservation, uint64_t* key, cudaStream_t stream);

}  // namespace torch_gumbel::cuda
