// SPDX-License-Identifier: Apache-2.0
// The kernels of relaxed k-hot samples as their callers see them: as in kernels.h.
#pragma once

#include <cuda_runtime_api.h>

#include "../csrc/include/torch_gumbel/export.h"
#include "../csrc/math/subset.h"

namespace torch_gumbel::cuda {

/// Memory that subset() takes, 16-byte aligned: the rounds of the rows that are processed at a time.
TORCH_GUMBEL_API int64_t subset_workspace_bytes(const SubsetParams& a);

/// The k-hot of every row, or, of what has a `grad`, its gradient.
TORCH_GUMBEL_API void subset(const SubsetParams& a, void* workspace, cudaStream_t stream);

}  // namespace torch_gumbel::cuda
