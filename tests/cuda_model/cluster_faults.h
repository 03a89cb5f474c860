// SPDX-License-Identifier: Apache-2.0
// A kernel whose blocks read each other's shared memory, as it should be or with one fault.
#pragma once

#include <cuda_runtime_api.h>

namespace cuda_model::testing {

enum class ClusterFault {
  kNone,
  kNoneWithSplitBarrier,  // arrival before what no other block reads, then the wait
  kReadBeforeBegin,
  kReadBeforeBarrier,
  kWriteWhileRead,
  kLeaveWhileRead,
  kBarrierOfSome,
  kArriveTwice,
  kWaitWithoutArrival,
  kRankOutside,
  kNoSharedVariable,
};

/// Every thread of block b writes the number of the block after b in its cluster.
void run_in_clusters(ClusterFault fault, unsigned blocks, unsigned threads, dim3 cluster,
                     float* data);

}  // namespace cuda_model::testing
