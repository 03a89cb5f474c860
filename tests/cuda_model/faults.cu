// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "faults.h"
#include "model/dynamic_shared.h"

namespace cuda_model::testing {

extern __shared__ float dynamic_shared[];

namespace {

constexpr unsigned kAll = 0xFFFFFFFF;
constexpr int kThreads = 64;

/// Sum over the block of 1: tree of shuffles, then shared memory.
template <bool barrier_before_read, bool barrier_before_reuse>
__device__ __forceinline__ float block_count(float (&of_warp)[2]) {
  float sum = 1;
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAll, sum, lanes);
  if (barrier_before_reuse) __syncthreads();
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  if (barrier_before_read) __syncthreads();
  return of_warp[0] + of_warp[1];
}

template <bool before_read, bool before_reuse>
__global__ void reduction_kernel(float* data, size_t) {
  __shared__ float of_warp[2];
  float sum = 0;
  for (int i = 0; i < 3; ++i) sum += block_count<before_read, before_reuse>(of_warp);
  if (threadIdx.x == 0) data[blockIdx.x] = sum;
}

__device__ float* too_much() {
  __shared__ float much[12 * 1024];
  return much;
}

__device__ __forceinline__ void shared_fault(Planted planted, float* data) {
  __shared__ float words[kThreads];
  __shared__ float unwritten[2];
  const unsigned t = threadIdx.x;
  volatile unsigned beyond = kThreads;
  float* pointer = words;
  if (planted == Planted::kNone) unwritten[1] = 1;
  if (planted == Planted::kTwoWriters && t % 32 == 0) words[0] = 1;
  if (planted == Planted::kUnwrittenShared && t == 0) data[0] = unwritten[1];
  if (planted == Planted::kSharedOutOfBounds && t == 33) words[beyond] = 1;
  if (planted == Planted::kSharedPointerOutOfBounds && t == 33) pointer[beyond * beyond] = 1;
  if (planted == Planted::kDynamicSharedOutOfBounds) dynamic_shared[t + 1] = 1;
  if (planted == Planted::kTooMuchSharedInFunction) too_much()[t] = 1;
  if (planted == Planted::kShuffleInsteadOfSyncwarp && t < 32) {
    words[t] = 1;
    __any_sync(kAll, 1);
    data[t] = words[t ^ 1];
  }
}

__device__ __forceinline__ void barrier_fault(Planted planted, float* data) {
  const unsigned t = threadIdx.x;
  if (planted == Planted::kBarrierOfSome && t < 40) __syncthreads();
  if (planted == Planted::kBarrierAfterExit) {
    if (t == 7) return;
    __syncthreads();
  }
  if (planted == Planted::kDifferentBarriers) {
    if (t < 32)
      __syncthreads();
    else
      __syncthreads();
  }
  if (planted == Planted::kGlobalWithoutBarrier && blockIdx.x == 0) {
    data[t] = 1;
    data[t] += data[t ^ 32];
  }
}

__device__ __forceinline__ void shuffle_fault(Planted planted) {
  const unsigned t = threadIdx.x;
  const int x = static_cast<int>(t);
  if (planted == Planted::kShuffleOfSome && t < 20) __shfl_xor_sync(kAll, x, 1);
  if (planted == Planted::kShuffleWithExited) {
    if (t == 40) return;
    __shfl_xor_sync(kAll, x, 1);
  }
  if (planted == Planted::kShuffleWithOtherMask)
    __shfl_xor_sync(t % 32 < 16 ? 0xFFFFu : kAll, x, 1);
  if (planted == Planted::kShuffleAtOtherPlace) {
    if (t % 2 == 0)
      __shfl_sync(kAll, x, 0);
    else
      __shfl_sync(kAll, x, 0);
  }
  if (planted == Planted::kShuffleFromUnnamedLane && t < 8) __shfl_sync(0xFF, x, 8);
  if (planted == Planted::kShuffleByUnnamedLane && t < 9) __shfl_sync(0xFF, x, 0);
  if (planted == Planted::kVoteOfSome && t < 63) __any_sync(kAll, 1);
  if (planted == Planted::kShuffleAcrossABarrier) {
    if (t == 3) __syncthreads();
    __shfl_sync(kAll, x, 0);
    if (t != 3) __syncthreads();
  }
}

__device__ __forceinline__ void global_fault(Planted planted, float* data, size_t count) {
  const unsigned t = threadIdx.x;
  float* null = nullptr;
  if (planted == Planted::kMisalignedVector && t == 5)
    *reinterpret_cast<float4*>(data + 1) = {1, 2, 3, 4};
  if (planted == Planted::kMisalignedElement && t == 5)
    *reinterpret_cast<float*>(reinterpret_cast<char*>(data) + 2) = 1;
  if (planted == Planted::kReadOutOfBounds && t == 5) data[0] = data[count];
  if (planted == Planted::kReadBeforeBounds && t == 5) data[0] = data[-1];
  if (planted == Planted::kVectorOverTheEnd && t == 5)
    data[0] = reinterpret_cast<const float4*>(data)[count / 4].x;
  if (planted == Planted::kWriteOutOfBounds && t == 5) data[count] = 1;
  if (planted == Planted::kNullPointer && t == 5) null[t] = 1;
  if (planted == Planted::kBlocksShareAWord && t == 0) data[0] = 1;
  if (planted == Planted::kBlockReadsAnother && t == 0) {
    data[8 + blockIdx.x] = 1;
    data[blockIdx.x] = data[8 + (blockIdx.x ^ 1)];
  }
}

__device__ __forceinline__ void local_fault(Planted planted, float* data) {
  const unsigned t = threadIdx.x;
  __shared__ float* of_first;
  float mine[4] = {1, 2, 3, 4};
  volatile int at = 4, most = 0x7FFFFFFF;
  if (planted == Planted::kAnotherStack) {
    if (t == 0) of_first = mine;
    __syncthreads();
    data[t] = of_first[0];
  }
  if (planted == Planted::kLocalArrayOutOfBounds) data[t] = mine[at];
  if (planted == Planted::kSignedOverflow) at = most + 1;
}

__global__ void faulty_kernel(Planted planted, float* data, size_t count) {
  shared_fault(planted, data);
  barrier_fault(planted, data);
  shuffle_fault(planted);
  global_fault(planted, data, count);
  local_fault(planted, data);
}

__global__ void idle_kernel() {}

__global__ void large_kernel(float* out) {
  __shared__ float large[10 * 1024];
  large[threadIdx.x] = 1;
  __syncthreads();
  *out = large[threadIdx.x];
}

__global__ void two_arguments_kernel(int x, int* out) { *out = x; }

__global__ void nested_kernel() { cudaLaunchKernel(idle_kernel, 1, 1, nullptr); }

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

template <typename... A>
void launch(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared,
            std::type_identity_t<A>... arguments) {
  void* pointers[] = {const_cast<std::remove_const_t<A>*>(&arguments)..., nullptr};
  void** all = pointers;
  asm("" : "+r"(all));  // the null behind them is not an argument
  cudaLaunchKernel(kernel, grid, block, all, shared, nullptr);
}

}  // namespace

CUDA_MODEL_DYNAMIC_SHARED(float, dynamic_shared);

void run_planted(Planted planted, float* data, size_t count) {
  const auto run = [&](auto kernel) { launch(kernel, 2, kThreads, 0, data, count); };
  if (planted == Planted::kNone) return run(reduction_kernel<true, true>);
  if (planted == Planted::kNoBarrierBeforeRead) return run(reduction_kernel<false, true>);
  if (planted == Planted::kNoBarrierBeforeReuse) return run(reduction_kernel<true, false>);
  const bool missing = planted == Planted::kShuffleWithMissingLane;
  if (missing) return launch(warp_functions_kernel, 1, 20, 0, nullptr);
  launch(faulty_kernel, 2, kThreads, kThreads * sizeof(float), planted, data, count);
}

void run_idle(dim3 grid, dim3 block, size_t dynamic_shared) {
  launch(idle_kernel, grid, block, dynamic_shared);
}

void run_large(size_t dynamic_shared) {
  float out = 0;
  launch(large_kernel, 1, 1, dynamic_shared, &out);
}

void run_with_arguments(Arguments arguments) {
  int x = 3, out = 0, more = 0;
  int* to = &out;
  if (arguments == Arguments::kNone) {
    cudaLaunchKernel(two_arguments_kernel, 1, 1, nullptr);
  } else if (arguments == Arguments::kNullOne) {
    void* pointers[] = {nullptr, &to};
    cudaLaunchKernel(two_arguments_kernel, 1, 1, pointers);
  } else if (arguments == Arguments::kTooFew) {
    void* pointers[] = {&x};
    cudaLaunchKernel(two_arguments_kernel, 1, 1, pointers);
  } else if (arguments == Arguments::kTooMany) {
    void* pointers[] = {&x, &to, &more};
    cudaLaunchKernel(two_arguments_kernel, 1, 1, pointers);
  } else {
    void* pointers[] = {&x, &to};
    cudaLaunchKernel(two_arguments_kernel, 1, 1, pointers);
  }
}

bool arguments_are_counted() {
#ifdef __OPTIMIZE__
  return true;
#else
  return false;
#endif
}

void run_null_kernel() { cudaLaunchKernel(static_cast<void (*)()>(nullptr), 1, 1, nullptr); }

void run_from_a_kernel() { launch(nested_kernel, 1, 1, 0); }

void run_warp_functions(int* out) { launch(warp_functions_kernel, 1, 32, 0, out); }
void run_partial_warps(float* out) { launch(partial_warps_kernel, 1, 32, 0, out); }
void run_votes_of_the_block(int* out) { launch(votes_kernel, 1, kThreads, 0, out); }
void run_arrival(int* out) {
  int arrived = 0;
  launch(arrival_kernel, 3, 4, 0, out, &arrived);
}

}  // namespace cuda_model::testing
