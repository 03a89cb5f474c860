// SPDX-License-Identifier: Apache-2.0
// What the blocks of a cluster share: its barrier, and each other's shared memory.
#include <algorithm>

#include "block.h"
#include "memory.h"
#include "symbols.h"

namespace cuda_model {

void Block::arrive_at_cluster(const std::source_location& where) {
  Thread& me = *current_;
  me.where = where;
  if (me.arrived != me.passed)
    fail("a second arrival at the cluster's barrier without a wait", text_of(where));
  ++me.arrived;
  if (++arrived_ < threads_.size()) return;
  arrived_ = 0;
  ++cluster_barriers_;
  for (Thread& thread : threads_)
    if (thread.state == State::kAtCluster) thread.state = State::kReady;
}

void Block::wait_at_cluster(const std::source_location& where) {
  Thread& me = *current_;
  me.where = where;
  if (me.arrived == me.passed)
    fail("a wait at the cluster's barrier without an arrival", text_of(where));
  if (cluster_barriers_ < me.arrived) {
    me.state = State::kAtCluster;
    me.fiber.suspend();
  }
  me.passed = me.arrived;
}

void* Block::map_shared(void* address, int rank, const std::source_location& where) {
  const std::string of = "map_shared_rank() of block " + std::to_string(rank);
  if (rank < 0 || static_cast<unsigned>(rank) >= blocks())
    fail(of + " of " + std::to_string(blocks()), text_of(where));
  if (has_ended(static_cast<unsigned>(rank))) fail(of + ", which has ended", text_of(where));
  char* there = shared_byte_of(static_cast<char*>(address), static_cast<unsigned>(rank));
  if (there == nullptr) fail(of + " for no shared variable", text_of(where));
  return there;
}

/// The end of the running thread. With its last one a block's shared memory ends.
void Block::end_thread() {
  Thread& me = *current_;
  me.state = State::kEnded;
  Member& block = mine();
  block.passed = std::max(block.passed, me.passed);
  if (++block.ended < size_ || block.read_arrived < int64_t{block.passed}) return;
  fail(
      "its block ends, with nothing to order that after the read of its shared memory by another "
      "block",
      place_of(block.read_at));
}

unsigned cluster_rank() { return block().rank(); }
unsigned cluster_blocks() { return block().blocks(); }
void arrive_at_cluster(const std::source_location& where) { block().arrive_at_cluster(where); }
void wait_at_cluster(const std::source_location& where) { block().wait_at_cluster(where); }
void* map_shared(void* address, int rank, const std::source_location& where) {
  return block().map_shared(address, rank, where);
}

}  // namespace cuda_model
