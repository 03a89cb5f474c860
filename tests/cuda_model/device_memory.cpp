// SPDX-License-Identifier: Apache-2.0
// The dynamic shared memory of the project's kernels.
#include "model/dynamic_shared.h"

namespace torch_gumbel::cuda {

CUDA_MODEL_DYNAMIC_SHARED(float, shared);

}  // namespace torch_gumbel::cuda
