// SPDX-License-Identifier: Apache-2.0
#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#ifdef CUDA_MODEL_CHECKED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_model {
namespace {

#ifdef CUDA_MODEL_CHECKED

const void* scheduler_stack = nullptr;
size_t scheduler_stack_size = 0;
void* scheduler_frames = nullptr;

void leave_scheduler(const void* stack) {
  __sanitizer_start_switch_fiber(&scheduler_frames, stack, Fiber::kStack);
}
void enter_scheduler() { __sanitizer_finish_switch_fiber(scheduler_frames, nullptr, nullptr); }
// The frames of a fiber are null: no stack use after return is looked for in kernels.
void leave_fiber() {
  void* frames = nullptr;
  __sanitizer_start_switch_fiber(&frames, scheduler_stack, scheduler_stack_size);
}
void enter_fiber() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
}
void forget_frames(const void* stack) { __asan_unpoison_memory_region(stack, Fiber::kStack); }

#else

void leave_scheduler(const void*) {}
void enter_scheduler() {}
void leave_fiber() {}
void enter_fiber() {}
void forget_frames(const void*) {}

#endif

void (*entry_of_next)() = nullptr;

void start() {
  enter_fiber();
  entry_of_next();
}

}  // namespace

#ifdef __x86_64__

namespace {
void* scheduler_top = nullptr;
}

/// Leaves the callee-saved registers on this stack, and goes on where another stack left off.
extern "C" void cuda_model_switch(void** from, void* to);
asm(R"(
.text
.type cuda_model_switch, @function
cuda_model_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_model_switch, .-cuda_model_switch
)");

void Fiber::prepare(void* stack, void (*entry)()) {
  constexpr int kRegisters = 6;
  stack_ = static_cast<char*>(stack);
  forget_frames(stack_);
  entry_of_next = entry;
  // Stacks a whole number of pages apart would share a few lines of the cache.
  const size_t colour = reinterpret_cast<uintptr_t>(stack_) / 4096 % 64 * 64;
  auto* top =
      reinterpret_cast<void**>(stack_ + kStack - colour) - 1;  // start() begins as if called
  *top = nullptr;
  *--top = reinterpret_cast<void*>(&start);
  for (int i = 0; i < kRegisters; ++i) *--top = nullptr;
  top_ = top;
}

void Fiber::resume() {
  leave_scheduler(stack_);
  cuda_model_switch(&scheduler_top, top_);
  enter_scheduler();
}

void Fiber::suspend(bool ended) {
  leave_fiber();
  cuda_model_switch(&top_, scheduler_top);
  if (!ended) enter_fiber();
}

#else

namespace {
ucontext_t scheduler_context;
}

void Fiber::prepare(void* stack, void (*entry)()) {
  stack_ = static_cast<char*>(stack);
  forget_frames(stack_);
  entry_of_next = entry;
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = kStack;
  makecontext(&context_, &start, 0);
}

void Fiber::resume() {
  leave_scheduler(stack_);
  swapcontext(&scheduler_context, &context_);
  enter_scheduler();
}

void Fiber::suspend(bool ended) {
  leave_fiber();
  swapcontext(&context_, &scheduler_context);
  if (!ended) enter_fiber();
}

#endif

char* Stacks::at(size_t index) {
  constexpr size_t kStride = Fiber::kStack + kGuard;
  if (memory_ == nullptr) {
    void* memory = mmap(nullptr, kMost * kStride, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    for (size_t i = 0; i < kMost; ++i) mprotect(memory_ + i * kStride, kGuard, PROT_NONE);
  }
  return memory_ + index * kStride + kGuard;
}

bool Stacks::own(const void* address) const {
  const auto* byte = static_cast<const char*>(address);
  return memory_ != nullptr && byte >= memory_ && byte < memory_ + kMost * (Fiber::kStack + kGuard);
}

}  // namespace cuda_model
