// SPDX-License-Identifier: Apache-2.0
// The shared memory of the launch that runs.
#pragma once

#include <set>
#include <string>

#include "symbols.h"

namespace cuda_model {

struct SharedMemory {
  size_t fixed = 0;    // bytes of variables
  size_t dynamic = 0;  // bytes at the launch's wish
  std::string kernel;
  std::set<const Shared*> of_functions;  // that the kernel was seen to call
};
SharedMemory& shared_memory();

/// Before a launch: frees what is remembered of earlier ones, if it is much.
void trim_histories();

}  // namespace cuda_model
