// SPDX-License-Identifier: Apache-2.0
// Kernels without a fault: what the functions of a warp and a block give.
#include "faults.h"
#include "launch_typed.h"

namespace cuda_model::testing {
namespace {

constexpr unsigned kAll = 0xFFFFFFFF;

__global__ void warp_functions_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const auto unsigned_lane = static_cast<unsigned>(lane);
  int* to = out + lane;
  const int results[] = {
      __shfl_sync(kAll, lane, 5),
      __shfl_sync(kAll, lane, 5, 8),
      __shfl_xor_sync(kAll, lane, 3),
      __shfl_up_sync(kAll, lane, 2),
      __shfl_down_sync(kAll, lane, 30),
      static_cast<int>(__shfl_down_sync(kAll, 1.5 * lane, 4, 8)),
      static_cast<int>(__ballot_sync(kAll, lane % 3 == 0)),
      __any_sync(kAll, lane == 31),
      __all_sync(kAll, lane < 31),
      __reduce_max_sync(kAll, lane - 20),
      __reduce_min_sync(kAll, lane - 20),
      static_cast<int>(__reduce_add_sync(kAll, unsigned_lane)),
      static_cast<int>(__reduce_or_sync(kAll, unsigned_lane & 5u)),
  };
  for (const int result : results) {
    *to = result;
    to += 32;
  }
}

__global__ void partial_warps_kernel(float* out) {
  __shared__ float words[32];
  const unsigned t = threadIdx.x, mask = t < 12 ? 0xFFFu : ~0xFFFu;
  words[t] = static_cast<float>(t);
  __syncwarp(mask);
  out[t] = words[t == 0 || t == 12 ? t + 1 : t - 1];
  __syncwarp(mask);
  words[t] = out[t];
  __syncwarp();
  out[t] += words[31 - t];
}

__global__ void votes_kernel(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(t % 3 == 0);
  const int any = __syncthreads_or(t == 63), all = __syncthreads_and(t < 63);
  if (t == 0) out[0] = count, out[1] = any, out[2] = all;
}

__global__ void arrival_kernel(int* out, int* arrived) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = (*arrived)++;
}

/// Element `stride` t of shared memory, or float4 t.
__global__ void strides_kernel(float* out, int stride) {
  __shared__ float4 words[32 * 8];
  const int t = static_cast<int>(threadIdx.x);
  if (stride == 0) {
    words[t] = {1, 2, 3, 4};
    out[t] = 0;
  } else {
    reinterpret_cast<float*>(words)[t * stride] = 1;
    out[t] = stride;
  }
}

}  // namespace

void run_strides(float* out, int stride) { launch(strides_kernel, 1, 32, 0, out, stride); }
void run_warp_functions(int* out, unsigned threads) {
  launch(warp_functions_kernel, 1, threads, 0, out);
}
void run_partial_warps(float* out) { launch(partial_warps_kernel, 1, 32, 0, out); }
void run_votes_of_the_block(int* out) { launch(votes_kernel, 1, 64, 0, out); }
void run_arrival(int* out) {
  int arrived = 0;
  launch(arrival_kernel, 3, 4, 0, out, &arrived);
}

}  // namespace cuda_model::testing
