// SPDX-License-Identifier: Apache-2.0
// The threads of the block that runs: what each waits for, and which ones meet.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "model.h"

struct uint3 {
  unsigned x, y, z;
};

namespace cuda_model {

constexpr unsigned kWarp = 32;

enum class State { kReady, kAtBarrier, kInWarp, kEnded };

struct Thread {
  Fiber fiber;
  uint3 index;
  unsigned number;    // in the block
  uint32_t meetings;  // of its warp, that it was at
  State state;
  bool yes;  // kAtBarrier
  std::source_location where;
  const Meeting* meeting;  // kInWarp
  uint64_t result;
};

/// Counts of ordering events, by which memory.cpp tells what is ordered.
struct Ordering {
  uint32_t block = 0;        // grows with each block
  uint32_t first_block = 1;  // of this launch
  uint32_t barrier = 0;      // grows with each block and barrier
  /// Per thread and lane of its warp: up to which __syncwarp() of that lane it has seen everything.
  /// The thread's own entry counts its own, from 1.
  std::vector<uint32_t> seen;

  uint32_t* of(unsigned thread) { return &seen[thread * kWarp]; }
};

class Block {
 public:
  /// Runs one block to its end; throws Fault.
  void run(dim3 index, const Kernel& kernel, void* const* arguments);

  void begin_launch(const std::string& kernel, dim3 grid, dim3 block);

  Thread* current() { return current_; }
  Thread& thread(unsigned number) { return threads_[number]; }
  unsigned size() const { return static_cast<unsigned>(threads_.size()); }
  const Ordering& ordering() const { return ordering_; }
  uint32_t seen(unsigned thread, unsigned lane) const {
    return ordering_.seen[thread * kWarp + lane];
  }
  Stacks& stacks() { return stacks_; }

  /// From a thread: ends the block with a Fault, and never returns.
  [[noreturn]] void fail(const std::string& what, const std::string& place);
  /// "kernel k, block (0, 0, 0), thread (1, 0, 0)".
  std::string name_of(const Thread& thread) const;

  Count wait_at_barrier(bool yes, const std::source_location& where);
  uint64_t meet_in_warp(const Meeting& meeting);
  void run_current();

 private:
  /// Lanes of a warp that gave the same mask and wait for the rest of it.
  struct Gathering {
    unsigned mask, arrived;
    unsigned lane;  // that came first
  };

  void prepare();
  std::vector<unsigned> order();
  bool run_ready(const std::vector<unsigned>& order);
  void release_barrier();
  void check_barrier_place(const Thread& arriving);
  void check_mask(const Meeting& meeting, unsigned me);
  Gathering& gathering_of(const Meeting& meeting, unsigned first, unsigned me);
  void check_may_come(const Meeting& mine, unsigned me, unsigned lane);
  [[noreturn]] void refuse_meeting(const Meeting& meeting, const std::string& what);
  void conclude(const Meeting& meeting, unsigned first);
  void order_lanes(unsigned mask, unsigned first);
  std::string describe_stuck() const;

  std::vector<Thread> threads_;
  std::vector<std::vector<Gathering>> warps_;
  Stacks stacks_;
  Ordering ordering_;
  Thread* current_ = nullptr;
  Kernel kernel_ = {};
  void* const* arguments_ = nullptr;
  std::string kernel_name_, failure_;
  unsigned waiting_ = 0;  // at the barrier
  unsigned first_at_barrier_ = 0;
  unsigned last_yes_ = 0;  // of the last barrier
};

extern Block the_block;
inline Block& block() { return the_block; }

/// "file.cuh:12", without directories.
std::string text_of(const std::source_location& where);

}  // namespace cuda_model
