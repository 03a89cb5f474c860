// SPDX-License-Identifier: Apache-2.0
// Threads that wait for others, which do not come.
#include <algorithm>

#include "block.h"

namespace cuda_model {

std::string text_of(uint3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

/// One that a thread waits for and that does not come.
const Thread* Block::missing_for(const Thread& waiting) {
  const bool in_warp = waiting.state == State::kInWarp;
  const unsigned begin = waiting.state == State::kAtCluster ? 0
                         : in_warp ? first_ + waiting.number / kWarp * kWarp
                                   : first_;
  const auto all = static_cast<unsigned>(threads_.size());
  const unsigned count = waiting.state == State::kAtCluster ? all
                         : in_warp ? std::min(kWarp, first_ + size_ - begin)
                                   : size_;
  for (unsigned i = 0; i < count; ++i) {
    const Thread& missing = threads_[begin + i];
    const bool named = !in_warp || (waiting.meeting->mask >> i & 1) != 0;
    if (named && missing.state != waiting.state) return &missing;
  }
  return nullptr;
}

std::string Block::describe_stuck() {
  for (unsigned i = 0; i < threads_.size(); ++i) {
    const Thread& waiting = threads_[i];
    if (waiting.state == State::kEnded) continue;
    enter(i / size_);
    const Thread* missing = missing_for(waiting);
    if (missing == nullptr) continue;
    const bool of_cluster = waiting.state == State::kAtCluster;
    const auto of = static_cast<unsigned>(missing - threads_.data()) / size_;
    const std::string what = of_cluster                           ? "a barrier of the cluster"
                             : waiting.state == State::kAtBarrier ? "a barrier"
                                                                  : waiting.meeting->name;
    const std::string where = of_cluster ? " of block " + text_of(members_[of].index) : "";
    return name_of(waiting) + ", at " + text_of(waiting.where) + ": " + what + " that thread " +
           text_of(missing->index) + where + " does not reach: it " +
           (missing->state == State::kEnded ? "has ended" : "waits at " + text_of(missing->where));
  }
  return "kernel " + kernel_name_ + ": threads wait for each other";
}

}  // namespace cuda_model
