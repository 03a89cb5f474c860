// SPDX-License-Identifier: Apache-2.0
#include "extended_positions.h"

#include "isa_probe.h"
#include "math/gumbel.h"

namespace torch_gumbel::testing {

const std::vector<uint64_t>& extended_positions() {
  static const std::vector<uint64_t> found = [] {
    constexpr int64_t kBlocks = 4096;
    int count = 0;
    const IsaProbe& fastest = *runnable_builds(count)[count - 1].probe;
    std::vector<uint64_t> positions;
    std::vector<uint32_t> words(4 * kBlocks + fastest.word_slack);
    for (uint64_t first = 0; first < (uint64_t{1} << 25); first += kBlocks) {
      fastest.fill_words({kExtendedSeed, 0}, first, kBlocks, math::Plane::kWord, words.data());
      for (int64_t i = 0; i < 4 * kBlocks; ++i)
        if (words[i] < math::kExtendBelow) positions.push_back(4 * first + i);
    }
    return positions;
  }();
  return found;
}

}  // namespace torch_gumbel::testing
