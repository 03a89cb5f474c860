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

/// Makes every access so far one of an earlier launch.
void forget_accesses();

}  // namespace cuda_model
