// SPDX-License-Identifier: Apache-2.0
// A stack of its own for every thread of a block, and switches between them and the scheduler.
#pragma once

#include <cstddef>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace cuda_model {

class Fiber {
 public:
  static constexpr size_t kStack = 128 * 1024;

  /// The next resume() calls entry(), which must not return, on `stack` of kStack bytes.
  void prepare(void* stack, void (*entry)());

  /// From the scheduler: runs this fiber until it calls suspend().
  void resume();

  /// From the fiber. `ended`: it won't be resumed before it is prepared again.
  void suspend(bool ended = false);

  bool owns(const void* address) const {
    const auto* byte = static_cast<const char*>(address);
    return byte >= stack_ && byte < stack_ + kStack;
  }

 private:
  char* stack_ = nullptr;
#ifdef __x86_64__
  void* top_ = nullptr;  // of the stack while suspended
#else
  ucontext_t context_;
#endif
};

/// Stacks for `count` fibers, each after a page without access. They stay.
class Stacks {
 public:
  char* at(size_t index);
  bool own(const void* address) const;

 private:
  static constexpr size_t kGuard = 4096, kMost = 4096;
  char* memory_ = nullptr;
};

}  // namespace cuda_model
