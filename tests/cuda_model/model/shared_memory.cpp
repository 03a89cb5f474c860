// SPDX-License-Identifier: Apache-2.0
// Shared memory that every build of the model has: its sizes, and what a block finds in it.
#include "shared_memory.h"

#include <cstring>

#include "memory.h"

namespace cuda_model {

SharedMemory& shared_memory() {
  static SharedMemory the_memory;
  return the_memory;
}

size_t static_shared_of(const std::string& kernel) {
  size_t bytes = 0;
  for (const Shared& variable : shared_variables())
    if (!kernel.empty() && variable.function.starts_with(kernel)) bytes += variable.size;
  return bytes;
}

void begin_launch_memory(size_t fixed, size_t dynamic, const std::string& kernel) {
  shared_memory() = {fixed, dynamic, kernel, {}};
  if (kChecked) trim_histories();
}

void begin_block_memory() {
  constexpr int kNaN = 0xFF;
  for (const Shared& variable : shared_variables()) {
    const size_t used = variable.function.empty() ? shared_memory().dynamic : variable.size;
    std::memset(variable.begin, kNaN, used);
  }
}

}  // namespace cuda_model
