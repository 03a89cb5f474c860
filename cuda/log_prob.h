// SPDX-License-Identifier: Apache-2.0
// The kernels of log-probabilities and entropies as their callers see them: as in kernels.h.
#pragma once

#include <cuda_runtime_api.h>

#include "../csrc/include/torch_gumbel/export.h"
#include "../csrc/math/log_prob.h"

namespace torch_gumbel::cuda {

/// Log-probability of the class `index` and entropy of every row, and their gradient.
TORCH_GUMBEL_API void log_prob(const LogProbParams& a, cudaStream_t stream);
TORCH_GUMBEL_API void log_prob_backward(const LogProbParams& a, cudaStream_t stream);

}  // namespace torch_gumbel::cuda
