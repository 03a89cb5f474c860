// SPDX-License-Identifier: Apache-2.0
#include "faults.h"
#include "launch_typed.h"
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
  __shared__ unsigned counter;
  const unsigned t = threadIdx.x;
  volatile unsigned beyond = kThreads;
  float* pointer = words;
  if (planted == Planted::kNone) unwritten[1] = 1;
  if (planted == Planted::kReadBeforeWrite) {  // 40 writes what 3 reads
    words[t] = 0;
    __syncthreads();
    if (t == 3) data[t] = words[40];
    if (t == 40) words[40] = 1;
  }
  if (planted == Planted::kAtomicsThenRead) {
    if (t == 0) counter = 0;
    __syncthreads();
    atomicAdd(&counter, 1u);
    if (t == 40) data[t] = static_cast<float>(counter);
  }
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
  if (planted == Planted::kVoteOfTheBlockOfSome && t > 31) __syncthreads_or(1);
  if (planted == Planted::kSyncwarpOfSome && t % 32 < 30) __syncwarp();
  if (planted == Planted::kReduceOfSome && t % 2 == 0) __reduce_max_sync(kAll, x);
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
  if (planted == Planted::kMisalignedLoad && t == 5)
    data[0] = reinterpret_cast<const float4*>(data + 2)->y;
  if (planted == Planted::kMisalignedElement && t == 5)
    *reinterpret_cast<float*>(reinterpret_cast<char*>(data) + 2) = 1;
  if (planted == Planted::kReadOutOfBounds && t == 5) data[0] = data[count];
  if (planted == Planted::kReadBeforeBounds && t == 5) data[0] = data[-1];
  if (planted == Planted::kVectorOverTheEnd && t == 5)
    data[0] = reinterpret_cast<const float4*>(data)[count / 4].x;
  if (planted == Planted::kWriteOutOfBounds && t == 5) data[count] = 1;
  if (planted == Planted::kNullPointer && t == 5) null[t] = 1;
  if (planted == Planted::kBlocksShareAWord && t == 0) data[0] = 1;
  if (planted == Planted::kBlocksReadAndOneWrites) {
    const float first = data[0];
    __syncthreads();
    if (blockIdx.x == 1 && t == 0) data[0] = first + 1;
  }
  if (planted == Planted::kBlockReadsAnother && t == 0) {
    data[8 + blockIdx.x] = 1;
    data[blockIdx.x] = data[8 + (blockIdx.x ^ 1)];
  }
}

__device__ __forceinline__ float sum_of(const float* from, int count) {
  float sum = 0;
  for (int i = 0; i < count; ++i) sum += from[i];
  return sum;
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
  if (planted == Planted::kLocalPointerOutOfBounds) data[t] = sum_of(mine + 1, at);
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

}  // namespace

CUDA_MODEL_DYNAMIC_SHARED(float, dynamic_shared);

void run_planted(Planted planted, float* data, size_t count) {
  const auto run = [&](auto kernel) { launch(kernel, 2, kThreads, 0, data, count); };
  if (planted == Planted::kNone) return run(reduction_kernel<true, true>);
  if (planted == Planted::kNoBarrierBeforeRead) return run(reduction_kernel<false, true>);
  if (planted == Planted::kNoBarrierBeforeReuse) return run(reduction_kernel<true, false>);
  if (planted == Planted::kShuffleWithMissingLane) return run_warp_functions(nullptr, 20);
  launch(faulty_kernel, 2, kThreads, kThreads * sizeof(float), planted, data, count);
}

void run_idle(dim3 grid, dim3 block, size_t dynamic_shared) {
  launch(idle_kernel, grid, block, dynamic_shared);
}

void run_large(size_t dynamic_shared) {
  float out = 0;
  launch(large_kernel, 1, 1, dynamic_shared, &out);
}

void run_with_arguments(KernelParams arguments) {
  int x = 3, out = 0, more = 0;
  int* to = &out;
  if (arguments == KernelParams::kNone) {
    cudaLaunchKernel(two_arguments_kernel, 1, 1, nullptr);
  } else if (arguments == KernelParams::kNullOne) {
    void* pointers[] = {nullptr, &to};
    cudaLaunchKernel(two_arguments_kernel, 1, 1, pointers);
  } else if (arguments == KernelParams::kTooFew) {
    void* pointers[] = {&x};
    cudaLaunchKernel(two_arguments_kernel, 1, 1, pointers);
  } else if (arguments == KernelParams::kTooMany) {
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

}  // namespace cuda_model::testing
