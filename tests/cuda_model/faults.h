// SPDX-License-Identifier: Apache-2.0
// Kernels with one fault each, and kernels that look like them and are right.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace cuda_model::testing {

enum class Planted {
  kNone,  // a reduction as it should be
  kNoBarrierBeforeRead,
  kNoBarrierBeforeReuse,
  kReadBeforeWrite,
  kTwoWriters,
  kAtomicsThenRead,
  kShuffleInsteadOfSyncwarp,
  kUnwrittenShared,
  kSharedOutOfBounds,
  kSharedPointerOutOfBounds,
  kDynamicSharedOutOfBounds,
  kBarrierOfSome,
  kBarrierAfterExit,
  kDifferentBarriers,
  kShuffleOfSome,
  kShuffleWithExited,
  kShuffleWithOtherMask,
  kShuffleAtOtherPlace,
  kShuffleFromUnnamedLane,
  kShuffleByUnnamedLane,
  kShuffleWithMissingLane,
  kShuffleAcrossABarrier,
  kVoteOfSome,
  kVoteOfTheBlockOfSome,
  kSyncwarpOfSome,
  kReduceOfSome,
  kMisalignedVector,
  kMisalignedLoad,
  kMisalignedElement,
  kReadOutOfBounds,
  kReadBeforeBounds,
  kVectorOverTheEnd,
  kWriteOutOfBounds,
  kNullPointer,
  kBlocksShareAWord,
  kBlockReadsAnother,
  kBlocksReadAndOneWrites,
  kGlobalWithoutBarrier,
  kAnotherStack,
  kLocalArrayOutOfBounds,
  kLocalPointerOutOfBounds,
  kSignedOverflow,
  kTooMuchSharedInFunction,
};

/// 64 threads in each of two blocks; `data` holds `count` floats.
void run_planted(Planted planted, float* data, size_t count);

/// A kernel that does nothing, launched as told.
void run_idle(dim3 grid, dim3 block, size_t dynamic_shared);
/// With 40 KiB of static shared memory.
void run_large(size_t dynamic_shared);
enum class KernelParams { kNone, kNullOne, kTooFew, kTooMany, kRight };
void run_with_arguments(KernelParams arguments);
/// Whether the kernels are built with optimization, without which nobody knows how many there are.
bool arguments_are_counted();
void run_null_kernel();
void run_from_a_kernel();

/// What the warp functions give: lane l's results lie at out + 32 i + l, as warp_functions() lists.
void run_warp_functions(int* out, unsigned threads = 32);
/// Sums by shared memory and partial masks of __syncwarp(): right.
void run_partial_warps(float* out);
void run_votes_of_the_block(int* out);
/// A warp writes shared memory: floats at a distance of `stride`, at most 32; 0: float4s.
void run_strides(float* out, int stride);
/// Each thread writes how many had come before it.
void run_arrival(int* out);

}  // namespace cuda_model::testing
