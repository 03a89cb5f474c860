// SPDX-License-Identifier: Apache-2.0
// Who wrote and read a few bytes of memory, and whether the next access comes in order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "block.h"

namespace cuda_model {

struct Access {
  uint32_t block = 0;  // as Ordering counts them; 0: there was none
  uint32_t barrier = 0;
  uint16_t thread = 0;
  uint16_t arrived = 0;  // of barriers of the cluster, at which that thread has arrived
  uint32_t count = 0;    // of __syncwarp() of that thread, from 1
  const void* instruction = nullptr;
};

/// Whether everything until `earlier` happened before what thread `now.thread`, which runs, does
/// now.
inline bool ordered(const Access& earlier, const Access& now) {
  if (earlier.block < block().ordering().first_block) return true;  // of an earlier launch, or none
  if (block().is_in_cluster(earlier.block) && earlier.arrived < block().current()->passed)
    return true;
  if (earlier.block != now.block) return false;
  if (earlier.barrier != now.barrier || earlier.thread == now.thread) return true;
  if (earlier.thread / kWarp != now.thread / kWarp) return false;
  return block().seen(now.thread, earlier.thread % kWarp) >= earlier.count;
}

struct Conflict {
  const Access* with = nullptr;  // null: none
  bool written = false;          // by `with`; else it read
};

class History {
 public:
  /// Shared memory begins anew with each block.
  void begin_block(uint32_t number) {
    if (block_ != number) *this = {};
    block_ = number;
  }
  bool written() const { return write_.block != 0; }

  Conflict read(const Access& now) {
    if (!ordered(write_, now)) return {&write_, true};
    if (const Access* other = unordered_atomic(now)) return {other, true};
    note_read(now);
    return {};
  }

  Conflict write(const Access& now) {
    if (!ordered(write_, now)) return {&write_, true};
    if (!reads_ordered(now)) return {&read_, false};
    if (!ordered(other_read_, now)) return {&other_read_, false};
    if (const Access* other = unordered_atomic(now)) return {other, true};
    write_ = now;
    read_ = other_read_ = atomic_ = other_atomic_ = {};
    readers_ = 0;
    return {};
  }

  /// A read and a write that others of its kind may come between.
  Conflict atomic(const Access& now) {
    if (!ordered(write_, now)) return {&write_, true};
    if (!reads_ordered(now)) return {&read_, false};
    if (!ordered(other_read_, now)) return {&other_read_, false};
    (ordered(atomic_, now) ? atomic_ : other_atomic_) = now;
    return {};
  }

 private:
  const Access* unordered_atomic(const Access& now) const {
    if (!ordered(atomic_, now)) return &atomic_;
    return ordered(other_atomic_, now) ? nullptr : &other_atomic_;
  }

  /// Whether all reads that read_ stands for are ordered before now; if not, it becomes one of
  /// them.
  bool reads_ordered(const Access& now) {
    if (read_.block != now.block || read_.thread / kWarp != now.thread / kWarp)
      return ordered(read_, now);
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if ((readers_ >> lane & 1) == 0) continue;
      Access one = read_;
      one.thread = static_cast<uint16_t>(read_.thread / kWarp * kWarp + lane);
      if (ordered(one, now)) continue;
      read_.thread = one.thread;
      return false;
    }
    return true;
  }

  void note_read(const Access& now) {
    const uint32_t bit = uint32_t{1} << now.thread % kWarp;
    if (reads_ordered(now)) {
      read_ = now;
      readers_ = bit;
    } else if (read_.block == now.block && read_.thread / kWarp == now.thread / kWarp) {
      read_.count = std::max(read_.count, now.count);
      read_.arrived = std::max(read_.arrived, now.arrived);
      readers_ |= bit;
    } else {
      other_read_ = now;
    }
  }

  Access write_, read_, other_read_;  // other_read_: by another warp or block than read_
  Access atomic_, other_atomic_;      // other_atomic_: one that atomic_ does not come before
  uint32_t readers_ = 0;              // lanes of read_'s warp
  uint32_t block_ = 0;
};

}  // namespace cuda_model
