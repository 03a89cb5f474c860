// SPDX-License-Identifier: Apache-2.0
// Every access that a kernel makes, and whether it may.
//
// The kernels are compiled with -fsanitize=thread, which calls a function of the thread sanitizer
// before each access. Its library is not linked: the functions are the ones at the end of this
// file.
#include "memory.h"

#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

#include "banks.h"
#include "block.h"
#include "history.h"
#include "shared_memory.h"

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cuda_model {
namespace {

struct Request {
  char* address;
  size_t size;
  bool write;
  const void* instruction;
  bool atomic = false;
};

[[noreturn]] void refuse(const Request& request, const std::string& what) {
  block().fail(std::string(request.write ? "a write of " : "a read of ") +
                   std::to_string(request.size) + " bytes " + what,
               place_of(request.instruction));
}

Access access_now(const Request& request) {
  const Thread& me = *block().current();
  const Ordering& now = block().ordering();
  return {now.block,
          now.barrier,
          static_cast<uint16_t>(me.number),
          static_cast<uint16_t>(me.arrived),
          block().seen(me.number, me.number % kWarp),
          request.instruction};
}

[[noreturn]] void refuse_race(const Request& request, const Conflict& conflict,
                              const Shared* variable) {
  const Access& other = *conflict.with;
  const bool elsewhere = other.block != block().ordering().block;
  const std::string where = variable == nullptr ? "global memory" : "shared " + variable->name;
  const std::string who =
      elsewhere ? "a thread of another block" : "thread " + std::to_string(other.thread);
  refuse(request, "of " + where + " that " + who + (conflict.written ? " wrote at " : " read at ") +
                      place_of(other.instruction) + ", with nothing to order them");
}

/// Takes an access into the history of its bytes, of a shared variable or (null) of global memory.
void remember(const Request& request, const Access& access, History& history,
              const Shared* variable) {
  const Conflict conflict = request.atomic  ? history.atomic(access)
                            : request.write ? history.write(access)
                                            : history.read(access);
  if (conflict.with != nullptr) refuse_race(request, conflict, variable);
}

// Shared memory: a history for every byte.

class SharedBytes {
 public:
  SharedBytes() {
    const auto& all = shared_variables();
    if (all.empty()) return;
    begin_ = all.front().begin;
    for (const Shared& variable : all) end_ = std::max(end_, variable.begin + variable.size);
    histories_ = std::make_unique<History[]>(end_ - begin_);
  }
  bool own(const char* address) const { return address >= begin_ && address < end_; }
  /// Of a byte in that block of the cluster.
  History& at(const char* address, unsigned rank) {
    const size_t offset = address - begin_;
    return rank == 0 ? histories_[offset] : others_[{rank, offset}];
  }

 private:
  char *begin_ = nullptr, *end_ = nullptr;
  std::unique_ptr<History[]> histories_;
  std::map<std::pair<unsigned, size_t>, History> others_;
};

SharedBytes& shared_bytes() {
  static SharedBytes bytes;
  return bytes;
}

const Shared& variable_of(const Request& request) {
  for (const Shared& variable : shared_variables()) {
    const bool dynamic = variable.function.empty();
    const size_t size = dynamic ? shared_memory().dynamic : variable.size;
    if (request.address >= variable.begin &&
        request.address + request.size <= variable.begin + size)
      return variable;
  }
  refuse(request, "outside every shared variable");
}

/// Variables of functions that the kernel calls count like its own.
void count_shared(const Request& request, const Shared& variable) {
  SharedMemory& memory = shared_memory();
  if (variable.function.empty() || variable.function.starts_with(memory.kernel)) return;
  if (!memory.of_functions.insert(&variable).second) return;
  memory.fixed += variable.size;
  if (memory.fixed + memory.dynamic > kMostShared)
    refuse(request, "of " + variable.name + ", with which the kernel's shared memory is over " +
                        std::to_string(kMostShared) + " bytes");
}

/// `request`: of that block's shared variable.
void access_shared(const Request& request, unsigned rank) {
  const Shared& variable = variable_of(request);
  count_shared(request, variable);
  if (settings().count_banks) banks().see(request.address, request.size, request.instruction);
  const Access access = access_now(request);
  for (size_t i = 0; i < request.size; ++i) {
    History& history = shared_bytes().at(request.address + i, rank);
    history.begin_block(block().member(rank).block);
    if ((request.atomic || !request.write) && !history.written())
      refuse(request, "of shared " + variable.name + ", which nobody has written");
    remember(request, access, history, &variable);
  }
}

/// Of another block of the cluster, while both are there.
void access_distributed(const Request& request, unsigned rank) {
  Member& other = block().member(rank);
  const Thread& me = *block().current();
  const std::string whose = "of shared memory of block " + std::to_string(rank) + " of the cluster";
  if (me.passed == 0)
    refuse(request, whose + ", which may not have begun: before a barrier of the cluster");
  if (block().has_ended(rank)) refuse(request, whose + ", which has ended");
  if (int64_t{me.arrived} >= other.read_arrived)
    other.read_arrived = me.arrived, other.read_at = request.instruction;
  access_shared(request, rank);
}

// Global memory: a history for every two bytes, the smallest element.

constexpr size_t kGrain = 2, kPageBytes = 1024;
struct Page {
  History histories[kPageBytes / kGrain];
};
std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;

History& global_history(uintptr_t address) {
  static uintptr_t last = 0;
  static Page* page = nullptr;
  const uintptr_t number = address / kPageBytes;
  if (number != last || pages.empty()) {
    std::unique_ptr<Page>& found = pages[number];
    if (found == nullptr) found = std::make_unique<Page>();
    last = number;
    page = found.get();
  }
  return page->histories[address % kPageBytes / kGrain];
}

void access_global(const Request& request) {
  const auto address = reinterpret_cast<uintptr_t>(request.address);
  constexpr uintptr_t kNullPage = 4096;
  if (address < kNullPage) refuse(request, "through a null pointer");
  if (__asan_region_is_poisoned(request.address, request.size) != nullptr)
    refuse(request, "out of bounds of global memory");
  const Access access = access_now(request);
  for (uintptr_t at = address / kGrain * kGrain; at < address + request.size; at += kGrain)
    remember(request, access, global_history(at), nullptr);
}

bool is_builtin(const char* address) {
  const auto within = [&](const auto& variable) {
    const auto* begin = reinterpret_cast<const char*>(&variable);
    return address >= begin && address < begin + sizeof variable;
  };
  return within(threadIdx) || within(blockIdx) || within(blockDim) || within(gridDim);
}

void see(void* address, size_t size, bool write, const void* instruction, bool atomic = false) {
  Thread* me = block().current();
  if (me == nullptr || me->fiber.owns(address)) return;
  const Request request = {static_cast<char*>(address), size, write, instruction, atomic};
  if (shared_bytes().own(request.address)) return access_shared(request, block().rank());
  unsigned rank = 0;
  if (char* variable = variable_of_kept(request.address, rank); variable != nullptr)
    return access_distributed({variable, size, write, instruction, atomic}, rank);
  if (is_builtin(request.address)) return;
  if (block().stacks().own(address)) refuse(request, "of another thread's local memory");
  access_global(request);
}

}  // namespace

void see_atomic(void* address, size_t size, const void* instruction) {
  see(address, size, /*write=*/true, instruction, /*atomic=*/true);
}

/// Histories of earlier launches count as empty: see ordered(). They only take memory.
void trim_histories() {
  constexpr size_t kMostPages = 4096;
  if (pages.size() > kMostPages) pages.clear();
}

}  // namespace cuda_model

#define CUDA_MODEL_SEE(name, size, write)                               \
  extern "C" void __tsan_##name(void* address) {                        \
    cuda_model::see(address, size, write, __builtin_return_address(0)); \
  }
#define CUDA_MODEL_SEE_BOTH(bytes)                    \
  CUDA_MODEL_SEE(read##bytes, bytes, false)           \
  CUDA_MODEL_SEE(write##bytes, bytes, true)           \
  CUDA_MODEL_SEE(unaligned_read##bytes, bytes, false) \
  CUDA_MODEL_SEE(unaligned_write##bytes, bytes, true)

CUDA_MODEL_SEE_BOTH(1)
CUDA_MODEL_SEE_BOTH(2)
CUDA_MODEL_SEE_BOTH(4)
CUDA_MODEL_SEE_BOTH(8)
CUDA_MODEL_SEE_BOTH(16)

extern "C" void __tsan_read_range(void* address, size_t size) {
  cuda_model::see(address, size, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* address, size_t size) {
  cuda_model::see(address, size, true, __builtin_return_address(0));
}
/// The guard of a static variable, in host code.
extern "C" unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int) {
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
