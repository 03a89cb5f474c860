// SPDX-License-Identifier: Apache-2.0
// The kernels of filtered draws as their callers see them: as in kernels.h.
#pragma once

#include <cuda_runtime_api.h>

#include "../csrc/include/torch_gumbel/export.h"
#include "../csrc/math/filter.h"

namespace torch_gumbel::cuda {

/// A class of every row that the filters keep, or the filtered logits, in one launch.
TORCH_GUMBEL_API void filtered(const FilterParams& a, cudaStream_t stream);

}  // namespace torch_gumbel::cuda
