// SPDX-License-Identifier: Apache-2.0
#include <cooperative_groups.h>

#include "cluster_faults.h"

namespace cuda_model::testing {
namespace {

__device__ __forceinline__ void barrier_fault(ClusterFault fault) {
  const auto cluster = cooperative_groups::this_cluster();
  if (fault == ClusterFault::kWaitWithoutArrival) cluster.barrier_wait();
  if (fault == ClusterFault::kArriveTwice) (void)cluster.barrier_arrive();
  cluster.sync();
}

__global__ void neighbour_kernel(ClusterFault fault, float* data) {
  __shared__ float word;
  const auto cluster = cooperative_groups::this_cluster();
  const unsigned blocks = cluster.num_blocks();
  int next = static_cast<int>((cluster.block_rank() + 1) % blocks);
  if (fault == ClusterFault::kBarrierOfSome && next == 2 && threadIdx.x == 3) return;
  if (fault == ClusterFault::kReadBeforeBarrier) cluster.sync();
  if (threadIdx.x == 0) word = static_cast<float>(blockIdx.x);
  if (fault != ClusterFault::kReadBeforeBarrier && fault != ClusterFault::kReadBeforeBegin)
    barrier_fault(fault);
  if (fault == ClusterFault::kRankOutside) next = static_cast<int>(blocks);
  float* from = fault == ClusterFault::kNoSharedVariable ? data : &word;
  const float got = *cluster.map_shared_rank(from, next);
  if (fault == ClusterFault::kWriteWhileRead && threadIdx.x == 0) word = -1;
  if (fault != ClusterFault::kLeaveWhileRead) (void)cluster.barrier_arrive();
  if (fault != ClusterFault::kLeaveWhileRead && fault != ClusterFault::kNoneWithSplitBarrier)
    cluster.barrier_wait();
  data[blockIdx.x * blockDim.x + threadIdx.x] = got;
  if (fault == ClusterFault::kNoneWithSplitBarrier) cluster.barrier_wait();
}

}  // namespace

void run_in_clusters(ClusterFault fault, unsigned blocks, unsigned threads, dim3 cluster,
                     float* data) {
  cudaLaunchAttribute size = {};
  size.id = cudaLaunchAttributeClusterDimension;
  size.val.clusterDim = {cluster.x, cluster.y, cluster.z};
  cudaLaunchConfig_t config = {};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.attrs = &size;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, neighbour_kernel, fault, data);
}

}  // namespace cuda_model::testing
