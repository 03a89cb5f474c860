// SPDX-License-Identifier: Apache-2.0
// Launches with arguments by value.
#pragma once

#include <type_traits>

namespace cuda_model::testing {

template <typename... A>
void launch(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared,
            std::type_identity_t<A>... arguments) {
  void* pointers[] = {const_cast<std::remove_const_t<A>*>(&arguments)..., nullptr};
  void** all = pointers;
  asm("" : "+r"(all));  // the null after them is not an argument
  cudaLaunchKernel(kernel, grid, block, all, shared, nullptr);
}

}  // namespace cuda_model::testing
