// SPDX-License-Identifier: Apache-2.0
#include <torch_gumbel/torch_gumbel.h>

#include "cpu/kernels.h"

namespace torch_gumbel {

BuildInfo build_info() {
  return {TORCH_GUMBEL_VERSION,      TORCH_GUMBEL_LIBTORCH_VERSION,
          TORCH_GUMBEL_CUDA_VERSION, TORCH_GUMBEL_CUDA_ARCHITECTURES,
          cpu::runnable_names(),     cpu::selected_kernels().name};
}

}  // namespace torch_gumbel
