// SPDX-License-Identifier: Apache-2.0
// The check of all words (tests/gpu/word_checks.cu) over a few million of them, with the model's
// exp2 and log2, which are off by as much as a GPU's may be.
#include "gpu/word_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

constexpr int kBlocks = 2;

std::array<WorstWord, kWordUses> worst_words(const WordRange& range, const PlantedError& planted) {
  std::vector<uint64_t> each(word_results(kBlocks), ~uint64_t{0});
  EXPECT_EQ(check_words(range, kBlocks, planted, each.data(), nullptr), cudaSuccess);
  cuda_model::take_launches();
  std::array<WorstWord, kWordUses> found;
  const auto threads = static_cast<std::ptrdiff_t>(each.size() / kWordUses);
  for (int use = 0; use < kWordUses; ++use) {
    const auto begin = each.begin() + use * threads;
    found[use] = unpacked(*std::max_element(begin, begin + threads));
  }
  return found;
}

/// Words from all over the range: an odd step meets each once in 2^32.
WordRange some_words() {
  return {uint64_t{1} << (kSmall ? 15 : deep() ? 26 : 22), 12345, 0x9E3779B1u};
}

TEST(ChoicesOfWords, AreWithinTheBoundsThatKernelsAssume) {
  const auto found = worst_words(some_words(), {});
  for (int use = 0; use < kWordUses; ++use) {
    EXPECT_GT(found[use].share, use < 2 ? 0.2f : 0.9f) << kWordUseNames[use];
    EXPECT_LE(found[use].share, 1) << kWordUseNames[use] << " at word " << found[use].word;
  }
}

TEST(ChoicesOfWords, FollowWhereAWordIsSmallOrAnArgumentSpecial) {
  for (const uint32_t first : {0u, 0x7F7FFF00u, 0x7FFFFF00u, 0x80000000u, 0xC2FBFF00u, 0xFF7FFF00u,
                               0xFFFFFF00u, 0x03FFFF00u, 0x007FFF00u, 0x3F000000u}) {
    const auto found = worst_words({1024, first}, {});
    for (const WorstWord& each : found) EXPECT_LE(each.share, 1) << first << " " << each.word;
  }
}

TEST(ChoicesOfWords, AFaultOfOneWordIsFound) {
  constexpr uint32_t kWord = 0x3FC00000;  // 1.5, in the domain of every use
  for (const float by : {0x1p-12f, -0x1p-12f, __builtin_nanf("")})
    for (const WorstWord& each : worst_words({4096, kWord - 999}, {kWord, by})) {
      EXPECT_GT(each.share, 1);
      EXPECT_EQ(each.word, kWord);
    }
}

}  // namespace
}  // namespace torch_gumbel::testing
