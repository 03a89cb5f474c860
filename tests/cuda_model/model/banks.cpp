// SPDX-License-Identifier: Apache-2.0
#include "banks.h"

#include <algorithm>
#include <set>
#include <utility>

#include "block.h"

namespace cuda_model {
namespace {

constexpr size_t kBanks = 32, kWordBytes = 4;
BankUse use;

}  // namespace

Banks& banks() {
  static Banks the_banks;
  return the_banks;
}

BankUse take_bank_use() { return std::exchange(use, {}); }

void Banks::see(const char* address, size_t size, const void* instruction) {
  const Thread& me = *block().current();
  const unsigned n = times_[{me.number, me.meetings, instruction}]++;
  const Place of_warp = {me.number / kWarp, me.meetings, instruction};
  together_[{of_warp, n}].push_back(
      {me.number % kWarp, reinterpret_cast<uintptr_t>(address), size});
}

/// The times that memory is accessed for lanes [begin, end).
uint64_t Banks::served(const std::vector<Lane>& lanes, size_t begin, size_t end) {
  std::set<uintptr_t> words[kBanks];
  for (const Lane& one : lanes) {
    if (one.lane < begin || one.lane >= end) continue;
    for (uintptr_t word = one.address / kWordBytes;
         word <= (one.address + one.size - 1) / kWordBytes; ++word)
      words[word % kBanks].insert(word);
  }
  size_t most = 0;
  for (const auto& of_bank : words) most = std::max(most, of_bank.size());
  return most;
}

void Banks::add_up() {
  for (const auto& [place, lanes] : together_) {
    const size_t wide = lanes.front().size;
    const size_t at_once = wide == 16 ? 8 : wide == 8 ? 16 : kWarp;
    for (size_t begin = 0; begin < kWarp; begin += at_once) {
      const uint64_t times = served(lanes, begin, begin + at_once);
      use.accesses += times > 0, use.served += times;
    }
  }
  times_.clear();
  together_.clear();
}

}  // namespace cuda_model
