// SPDX-License-Identifier: Apache-2.0
// The threads of the block that runs, and of the others of its cluster: what each waits for, and
// which ones meet.
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

enum class State { kReady, kAtBarrier, kInWarp, kAtCluster, kEnded };

struct Thread {
  Fiber fiber;
  uint3 index;
  unsigned number;           // in the block
  uint32_t meetings;         // of its warp, that it was at
  uint32_t arrived, passed;  // barriers of the cluster
  State state;
  bool yes;  // kAtBarrier
  std::source_location where;
  const Meeting* meeting;  // kInWarp
  uint64_t result;
};

/// Counts of ordering events, by which memory.cpp tells what is ordered.
struct Ordering {
  uint32_t block = 0;        // of the block that runs; another one has another
  uint32_t first_block = 1;  // of this launch
  uint32_t barrier = 0;      // the last one of the block that runs; another one has another
  /// Per thread and lane of its warp: up to which __syncwarp() of that lane it has seen everything.
  /// The thread's own entry counts its own, from 1.
  std::vector<uint32_t> seen;
};

/// Lanes of a warp that gave the same mask and wait for the rest of it.
struct Gathering {
  unsigned mask, arrived;
  unsigned lane;  // that came first
};

/// A block of the cluster.
struct Member {
  uint3 index;
  uint32_t block, barrier;  // as Ordering has them
  unsigned waiting = 0;     // at the barrier
  unsigned first_at_barrier = 0;
  unsigned last_yes = 0;      // of the last barrier
  unsigned ended = 0;         // threads
  uint32_t passed = 0;        // barriers of the cluster that a thread had passed when it ended
  int64_t read_arrived = -1;  // barriers before the last reads of other blocks from its memory
  const void* read_at = nullptr;
  std::vector<std::vector<Gathering>> warps;
};

class Block {
 public:
  /// Runs the blocks of a cluster, or one, to their ends; throws Fault.
  void run(const std::vector<dim3>& indices, const Kernel& kernel, void* const* arguments);

  void begin_launch(const std::string& kernel, dim3 grid, dim3 block, unsigned cluster);

  Thread* current() { return current_; }
  unsigned size() const { return size_; }
  const Ordering& ordering() const { return ordering_; }
  uint32_t seen(unsigned thread, unsigned lane) const {
    return ordering_.seen[(first_ + thread) * kWarp + lane];
  }
  unsigned rank() const { return first_ / size_; }
  unsigned blocks() const { return static_cast<unsigned>(members_.size()); }
  Member& member(unsigned rank) { return members_[rank]; }
  bool has_ended(unsigned rank) const { return members_[rank].ended == size_; }
  bool is_in_cluster(uint32_t block) const { return block >= members_[0].block; }
  Stacks& stacks() { return stacks_; }

  /// From a thread: ends the block with a Fault, and never returns.
  [[noreturn]] void fail(const std::string& what, const std::string& place);
  /// "kernel k, block (0, 0, 0), thread (1, 0, 0)".
  std::string name_of(const Thread& thread) const;

  Count wait_at_barrier(bool yes, const std::source_location& where);
  uint64_t meet_in_warp(const Meeting& meeting);
  void arrive_at_cluster(const std::source_location& where);
  void wait_at_cluster(const std::source_location& where);
  void* map_shared(void* address, int rank, const std::source_location& where);
  void run_current();

 private:
  /// Of the block that runs.
  Thread& at(unsigned number) { return threads_[first_ + number]; }
  Member& mine() { return members_[rank()]; }
  uint32_t* seen_by(unsigned thread) { return &ordering_.seen[(first_ + thread) * kWarp]; }

  void prepare(const std::vector<dim3>& indices);
  void enter(unsigned rank);
  void end_thread();
  bool run_all();
  bool run_ready(const std::vector<unsigned>& order);
  void release_barrier();
  void check_barrier_place(const Thread& arriving);
  void check_mask(const Meeting& meeting, unsigned me);
  Gathering& gathering_of(const Meeting& meeting, unsigned first, unsigned me);
  void check_may_come(const Meeting& mine, unsigned me, unsigned lane);
  [[noreturn]] void refuse_meeting(const Meeting& meeting, const std::string& what);
  void conclude(const Meeting& meeting, unsigned first);
  void order_lanes(unsigned mask, unsigned first);
  std::string describe_stuck();
  const Thread* missing_for(const Thread& waiting);

  std::vector<Thread> threads_;  // of one block after the other
  std::vector<Member> members_ = std::vector<Member>(1);
  unsigned size_ = 0, first_ = 0;  // threads of a block; the first one of that which runs
  unsigned arrived_ = 0;           // threads, at the barrier of the cluster
  uint32_t cluster_barriers_ = 0;
  uint32_t last_block_ = 0, last_barrier_ = 0;
  Stacks stacks_;
  Ordering ordering_;
  Thread* current_ = nullptr;
  Kernel kernel_ = {};
  void* const* arguments_ = nullptr;
  std::string kernel_name_, failure_;
};

extern Block the_block;
inline Block& block() { return the_block; }

/// "(0, 0, 0)".
std::string text_of(uint3 index);
/// "file.cuh:12", without directories.
std::string text_of(const std::source_location& where);

}  // namespace cuda_model
