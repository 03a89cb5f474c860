// SPDX-License-Identifier: Apache-2.0
// What a kernel does to memory.
#pragma once

#include <cstddef>
#include <string>

namespace cuda_model {

#ifdef CUDA_MODEL_CHECKED
constexpr bool kChecked = true;
#else
constexpr bool kChecked = false;
#endif

/// The most shared memory of a block that no kernel must ask for specially.
constexpr size_t kMostShared = 48 * 1024;

/// Bytes of the shared variables of a kernel, by its full name.
size_t static_shared_of(const std::string& kernel);

/// Before a launch: its shared memory is `fixed` bytes of the kernel's own, and `dynamic` ones.
void begin_launch_memory(size_t fixed, size_t dynamic, const std::string& kernel);

/// Before the blocks of a cluster: all of their shared memory holds NaN, and counts as unwritten.
void begin_cluster_memory(unsigned blocks);

/// Before that block of it goes on: the shared variables are its own. Those of the others are kept
/// elsewhere, where map_shared() finds them.
void enter_block_memory(unsigned rank);

/// Where a byte of a shared variable of block `rank` is now; null if it is none.
char* shared_byte_of(char* variable, unsigned rank);
/// The other way: the byte of the variable, and its block, of one that is kept elsewhere; else null.
char* variable_of_kept(char* address, unsigned& rank);

}  // namespace cuda_model
