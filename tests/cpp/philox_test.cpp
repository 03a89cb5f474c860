// SPDX-License-Identifier: Apache-2.0
// Known answers of Philox4x32 and of the mapping from a key and a position to a word.
#include "math/philox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace torch_gumbel::math {
namespace {

std::vector<uint32_t> words(const Block& block) { return {block.word, block.word + 4}; }

constexpr Block kZeros = {{0, 0, 0, 0}};
constexpr Block kOnes = {{~0u, ~0u, ~0u, ~0u}};
constexpr Block kPi = {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}};
constexpr uint64_t kPiSeed = 0x299f31d0a4093822;

// Random123, tests/kat_vectors.
TEST(Philox, SevenRoundsGiveTheKnownAnswers) {
  EXPECT_EQ(words(philox4x32<7>(kZeros, 0)),
            (std::vector<uint32_t>{0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48}));
  EXPECT_EQ(words(philox4x32<7>(kOnes, ~uint64_t{0})),
            (std::vector<uint32_t>{0x5207ddc2, 0x45165e59, 0x4d8ee751, 0x8c52f662}));
  EXPECT_EQ(words(philox4x32<7>(kPi, kPiSeed)),
            (std::vector<uint32_t>{0x4dfccaba, 0x190a87f0, 0xc47362ba, 0xb6b5242a}));
}

TEST(Philox, TenRoundsGiveTheKnownAnswers) {
  EXPECT_EQ(words(philox4x32(kZeros, 0)),
            (std::vector<uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(words(philox4x32(kOnes, ~uint64_t{0})),
            (std::vector<uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(words(philox4x32(kPi, kPiSeed)),
            (std::vector<uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Counter words 0 and 1 are the block, 2 and 3 the subsequence, as in ATen and cuRAND.
TEST(Philox, CounterIsLaidOutAsInAtenAndCurand) {
  constexpr uint64_t kSeed = 0x0123456789abcdef;
  EXPECT_EQ(words(philox4x32({{0, 0, 5, 1}}, kSeed)),
            (std::vector<uint32_t>{0xcfd2f5e7, 0xf4e5149d, 0xc7817312, 0xe68f8aec}));
  EXPECT_EQ(words(philox4x32({{0xffffffff, 0, 5, 1}}, kSeed)),
            (std::vector<uint32_t>{0xafd3a1f5, 0x82b138fb, 0x9290bff7, 0x10247af5}));
}

// [rand.predef]: the 10,000th invocation of a default std::philox4x32, whose seed is 20111115.
TEST(Philox, TenThousandthWordIsThatOfTheStandardLibrary) {
  EXPECT_EQ(key_word({20111115, 0}, 9999), 1955073260u);
  EXPECT_EQ(key_block({20111115, 0}, 2499).word[3], 1955073260u);
}

TEST(Philox, WordsOfSeedFiveAreFrozen) {
  const std::vector<uint32_t> frozen = {0xc417681d, 0x11d85194, 0xfbd62c3b,
                                        0xf739e278, 0x58e37bc0, 0x27fa600a};
  for (uint64_t position = 0; position < frozen.size(); ++position)
    EXPECT_EQ(key_word({5, 0}, position), frozen[position]) << position;
}

TEST(Philox, WordOfAPositionIsThatOfItsBlock) {
  for (const Key key : {Key{5, 0}, Key{~0ull, 3}, Key{1, 1ull << 40}, Key{2, ~0ull}})
    for (const Plane plane : {Plane::kWord, Plane::kExtension})
      for (uint64_t position : {0ull, 1ull, 2ull, 3ull, 4ull, 4099ull, 1ull << 40, ~0ull})
        EXPECT_EQ(key_word(key, position, plane),
                  key_block(key, position / 4, plane).word[position % 4]);
}

TEST(Philox, ExtensionPlaneIsTheThirdCounterWord) {
  const Key key = {0x0123456789abcdef, 0x1122334455667788};
  EXPECT_EQ(words(key_block(key, 9, Plane::kExtension)),
            words(philox4x32({{0x55667791, 0x11223344, 1, 0}}, key.seed)));
  EXPECT_EQ(words(key_block(key, 9)),
            words(philox4x32({{0x55667791, 0x11223344, 0, 0}}, key.seed)));
}

TEST(Philox, CounterCarriesAt32BitsAndWrapsAt64) {
  EXPECT_EQ(words(key_block({7, 0xffffffff}, 1)), words(philox4x32({{0, 1, 0, 0}}, 7)));
  EXPECT_EQ(words(key_block({7, ~0ull}, 0)), words(philox4x32({{~0u, ~0u, 0, 0}}, 7)));
  EXPECT_EQ(words(key_block({7, ~0ull}, 1)), words(philox4x32(kZeros, 7)));
  EXPECT_EQ(words(key_block({7, 3}, ~0ull)), words(philox4x32({{2, 0, 0, 0}}, 7)));
}

TEST(Philox, FoldInIsFrozen) {
  const Key folded = fold_in({5, 0}, 7);
  EXPECT_EQ(folded.seed, 10958159418354826246u);
  EXPECT_EQ(folded.offset, 2010039072213502125u);
}

TEST(Philox, FoldInTakesABlockLowWordFirst) {
  const Key key = {0xfedcba9876543210, 0xfffffffffffffffe};
  for (uint64_t data : {0ull, 1ull, 2ull, 77ull, ~0ull}) {
    const Block block = key_block(key, data);
    const Key folded = fold_in(key, data);
    EXPECT_EQ(folded.seed, block.word[0] | uint64_t{block.word[1]} << 32);
    EXPECT_EQ(folded.offset, block.word[2] | uint64_t{block.word[3]} << 32);
  }
}

TEST(Philox, FoldedKeysDiffer) {
  std::vector<std::pair<uint64_t, uint64_t>> keys;
  for (uint64_t data = 0; data < 100000; ++data) {
    const Key folded = fold_in({5, 0}, data);
    keys.emplace_back(folded.seed, folded.offset);
  }
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::adjacent_find(keys.begin(), keys.end()), keys.end());
}

}  // namespace
}  // namespace torch_gumbel::math
