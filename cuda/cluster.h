// SPDX-License-Identifier: Apache-2.0
// Launches of the kernels whose rows are given to clusters of blocks (kernels/cluster.cuh).
#pragma once

#include <cuda_runtime_api.h>

#include "device/problem.h"
#include "plan.h"

namespace torch_gumbel::cuda {

/// A plan of Family::kCluster.
void launch_cluster(const Problem& problem, const Plan& plan, cudaStream_t stream);

}  // namespace torch_gumbel::cuda
