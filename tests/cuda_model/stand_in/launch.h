// SPDX-License-Identifier: Apache-2.0
// Launches, and what a thread knows of its place in the grid.
#pragma once

#include <type_traits>
#include <utility>

#include "../model/model.h"

extern struct uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_model {

template <typename... A, size_t... i>
void call_with(void (*kernel)(A...), void* const* arguments, std::index_sequence<i...>) {
  kernel(*static_cast<std::remove_reference_t<A>*>(arguments[i])...);
}

template <typename... A>
void call(const void* kernel, void* const* arguments) {
  call_with(reinterpret_cast<void (*)(A...)>(const_cast<void*>(kernel)), arguments,
            std::index_sequence_for<A...>{});
}

inline dim3 cluster_of(const cudaLaunchConfig_t& config) {
  dim3 found;
  for (unsigned i = 0; i < config.numAttrs; ++i)
    found = {config.attrs[i].val.clusterDim.x, config.attrs[i].val.clusterDim.y,
             config.attrs[i].val.clusterDim.z};
  return found;
}

}  // namespace cuda_model

/// Inlined, because only there may the compiler know how many arguments the caller has.
template <typename... A>
__attribute__((always_inline)) inline cudaError_t cudaLaunchKernel(void (*kernel)(A...), dim3 grid,
                                                                   dim3 block, void** arguments,
                                                                   size_t dynamic_shared = 0,
                                                                   cudaStream_t = nullptr) {
  const size_t bytes = __builtin_object_size(arguments, 0);
  const bool known = bytes != static_cast<size_t>(-1) && arguments != nullptr;
  cuda_model::launch({reinterpret_cast<const void*>(kernel), cuda_model::call<A...>, sizeof...(A)},
                     grid, block, arguments, known ? bytes / sizeof(void*) : sizeof...(A),
                     dynamic_shared);
  return cudaSuccess;
}

template <typename... A, typename... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(A...),
                               Given&&... given) {
  const auto with = [&](A... values) {
    void* arguments[] = {&values..., nullptr};
    cuda_model::launch(
        {reinterpret_cast<const void*>(kernel), cuda_model::call<A...>, sizeof...(A)},
        config->gridDim, config->blockDim, arguments, sizeof...(A), config->dynamicSmemBytes,
        cuda_model::cluster_of(*config));
  };
  with(std::forward<Given>(given)...);
  return cudaSuccess;
}

/// Every kernel is for the newest device.
template <typename... A>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*)(A...)) {
  attributes->ptxVersion = 120;
  return cudaSuccess;
}
