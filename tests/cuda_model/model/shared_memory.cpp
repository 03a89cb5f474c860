// SPDX-License-Identifier: Apache-2.0
// Shared memory that every build of the model has: its sizes, and what a block finds in it.
#include "shared_memory.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "memory.h"

namespace cuda_model {

namespace {

/// The shared memory of the blocks of a cluster: that of the one which runs lies in the variables.
class Kept {
 public:
  Kept(unsigned blocks = 0) : blocks_(blocks) {
    if (blocks == 0) return;
    begin_ = shared_variables().front().begin;
    for (const Shared& variable : shared_variables())
      size_ = std::max<size_t>(size_, variable.begin + variable.size - begin_);
    bytes_.resize(blocks * size_);
    for (unsigned i = 0; i < blocks; ++i) std::memcpy(of(i), begin_, size_);
  }

  void enter(unsigned rank) {
    if (rank == running_ || blocks_ == 0) return;
    std::memcpy(of(running_), begin_, size_);
    std::memcpy(begin_, of(rank), size_);
    running_ = rank;
  }

  char* byte_of(char* variable, unsigned rank) {
    const bool own = blocks_ == 0 || rank == running_;
    if (own || variable < begin_ || variable >= begin_ + size_) return own ? variable : nullptr;
    return of(rank) + (variable - begin_);
  }

  char* variable_of(char* address, unsigned& rank) {
    if (blocks_ == 0 || address < of(0) || address >= of(0) + bytes_.size()) return nullptr;
    rank = static_cast<unsigned>((address - of(0)) / size_);
    return begin_ + (address - of(rank));
  }

 private:
  char* of(unsigned rank) { return bytes_.data() + rank * size_; }

  unsigned blocks_, running_ = 0;
  char* begin_ = nullptr;
  size_t size_ = 0;
  std::vector<char> bytes_;
};

Kept& kept() {
  static Kept of_cluster;
  return of_cluster;
}

}  // namespace

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

void begin_cluster_memory(unsigned blocks) {
  constexpr int kNaN = 0xFF;
  for (const Shared& variable : shared_variables()) {
    const size_t used = variable.function.empty() ? shared_memory().dynamic : variable.size;
    std::memset(variable.begin, kNaN, used);
  }
  kept() = {blocks > 1 ? blocks : 0};
}

void enter_block_memory(unsigned rank) { kept().enter(rank); }

char* shared_byte_of(char* variable, unsigned rank) { return kept().byte_of(variable, rank); }

char* variable_of_kept(char* address, unsigned& rank) { return kept().variable_of(address, rank); }

}  // namespace cuda_model
