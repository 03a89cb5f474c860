// SPDX-License-Identifier: Apache-2.0
// Bank conflicts of shared memory, counted where every access is seen and Settings ask for it.
//
// Lanes of a warp access together what they access by the same instruction, as often as before,
// between the same two meetings of the warp. Of their 4-byte accesses all 32 are served at once, of
// 16-byte ones 8 (of 8-byte ones 16): as many times over as one of the 32 banks is asked for
// different words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

namespace cuda_model {

/// Of the threads of one block, then added up.
class Banks {
 public:
  void see(const char* address, size_t size, const void* instruction);
  /// At the end of a block.
  void add_up();

 private:
  struct Lane {
    unsigned lane;
    uintptr_t address;
    size_t size;
  };
  using Place =
      std::tuple<unsigned, uint32_t, const void*>;  // thread or warp, meetings, instruction

  static uint64_t served(const std::vector<Lane>& lanes, size_t begin, size_t end);

  std::map<Place, unsigned> times_;                                    // of a thread
  std::map<std::tuple<Place, unsigned>, std::vector<Lane>> together_;  // of a warp
};

Banks& banks();

}  // namespace cuda_model
