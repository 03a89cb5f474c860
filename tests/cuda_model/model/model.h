// SPDX-License-Identifier: Apache-2.0
// The execution model as the stand-in headers and the tests see it. What it does: cuda_runtime.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "../stand_in/cuda_runtime_api.h"

namespace cuda_model {

// What tests say and ask.

/// Something that a device would punish, or might. Its text names kernel, block, thread, and place.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// In which order blocks run one after another, and the threads of a block between two meetings.
enum class Order { kForward, kReverse, kShuffled };

struct Settings {
  Order order = Order::kForward;
  uint64_t seed = 0;  // of kShuffled
  bool run = true;    // false: launches are checked and recorded, and that is all
  bool count_banks = false;
};
Settings& settings();

struct Launch {
  std::string kernel;  // "soft_forward_kernel<float>"
  dim3 grid, block;
  size_t dynamic_shared = 0;
  unsigned cluster = 1;  // blocks
};

/// The launches since the last call.
std::vector<Launch> take_launches();

/// All launches that ran, and the threads of them, since the program began.
struct Totals {
  uint64_t launches = 0, blocks = 0, threads = 0;
};
const Totals& totals();

/// Accesses of shared memory that can be served at once (banks.h), and the times that its banks took
/// for them, since the last call.
struct BankUse {
  uint64_t accesses = 0, served = 0;

  double ways() const { return static_cast<double>(served) / static_cast<double>(accesses); }
};
BankUse take_bank_use();

// What the stand-in headers need.

struct Kernel {
  const void* address;
  void (*call)(const void* kernel, void* const* arguments);
  size_t arguments;
};

/// Runs all blocks. `given`: arguments that the caller has, as far as it is known.
void launch(const Kernel& kernel, dim3 grid, dim3 block, void** arguments, size_t given,
            size_t dynamic_shared, dim3 cluster = {});

struct Count {
  unsigned count;    // threads that said yes
  unsigned threads;  // of the block
};
Count barrier(bool yes, const std::source_location& where);

/// Lanes of a warp that wait for each other, and what one of them brings.
struct Meeting {
  unsigned mask;
  int source;  // lane whose value this one gets; -1: all values folded
  uint64_t value;
  uint64_t (*fold)(uint64_t, uint64_t);
  const char* name;
  std::source_location where;
};
uint64_t meet(const Meeting& meeting);

/// This thread's number in its warp.
int lane();

unsigned add_atomically(unsigned* at, unsigned value, const void* instruction);
/// Where it is checked: an access that is ordered with other atomic ones, and as a write with others.
void see_atomic(void* address, size_t size, const void* instruction);

/// Of this thread's cluster: its block in it, the number of blocks, the two parts of its barrier,
/// and where a shared variable of this block lies in another one.
unsigned cluster_rank();
unsigned cluster_blocks();
void arrive_at_cluster(const std::source_location& where);
void wait_at_cluster(const std::source_location& where);
void* map_shared(void* address, int rank, const std::source_location& where);

}  // namespace cuda_model
