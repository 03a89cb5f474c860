// SPDX-License-Identifier: Apache-2.0
// An execution model of CUDA on the CPU: with this directory in front of the include path, and this
// file included first, a plain C++ compiler builds the project's .cu and .cuh files as they are.
//
// How it runs. cudaLaunchKernel() runs the blocks of the grid one after another, on the caller's
// thread, before it returns; those of a cluster in turns, from one of its barriers to the next.
// Every thread of a block is a fiber with its own stack, which runs until a barrier, a shuffle, or
// a vote, or its end. The order of the threads and of the blocks can
// be varied (forward, reverse, shuffled by a seed): a result that depends on it lacks a barrier.
//
// What it punishes, by throwing cuda_model::Fault with the kernel, block, thread, and place:
// - launches over the limits of every device (compute capability 7.5 to 12.0), null arguments, and
//   as far as the compiler sees it, another number of arguments than the kernel has;
// - a barrier, shuffle, or vote that a thread of the block, or a lane that its mask names, does not
//   reach: because it ended, waits elsewhere (another source line), or gives another mask; a
//   shuffle from a lane that the mask does not name;
// - a barrier of the cluster without an arrival or a wait, or with two; shared memory of a block
//   of the cluster that has ended.
// Where it is built with CUDA_MODEL_CHECKED, every access that a kernel makes is seen as well
// (model/memory.cpp says how), and it also punishes
// - a read or write of shared memory, or of global memory, that no barrier orders after another
//   thread's conflicting access; between blocks of a launch nothing is ordered but what comes before
//   an arrival at their cluster's barrier and after the wait for it. __syncwarp() orders the lanes it
//   names, shuffles and votes order nothing. Atomic additions are ordered with each other, and like
//   writes with other accesses;
// - shared memory of another block of the cluster before its first barrier, when that block may not
//   have begun, and the end of a block that nothing orders after the reads of its shared memory;
// - shared memory read before it was written in this block, or outside every shared variable;
// - global memory outside a heap block (address sanitizer's shadow), another thread's stack;
// - misaligned accesses by a type that asks for alignment, array indices out of bounds, signed
//   overflow, and the rest of -fsanitize=undefined.
//
// There it counts bank conflicts as well (model/banks.h), which are no fault.
//
// What it does not model: registers and __launch_bounds__ (tests/ptx holds launches to the bounds
// in the PTX, choice_test.cpp plans), memory spaces other than shared and global, atomics
// other than additions of words, memory fences, warps that run in lockstep, streams (work runs at once), and time. Accesses within
// the C library (memcpy) are not seen. `__shared__` variables are thread_local, of which the
// program must have no others.
//
// Arithmetic is the C library's. Approximate functions (maths.h), exp2f and log2f among them, are
// off by as much as CUDA's documentation allows, by a hash of the argument, so that a test's bounds
// hold on any device.
#pragma once

#include "atomics.h"
#include "bits.h"
#include "cuda_runtime_api.h"
#include "launch.h"
#include "maths.h"
#include "vectors.h"
#include "warp.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ thread_local
