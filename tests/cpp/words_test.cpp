// SPDX-License-Identifier: Apache-2.0
// The vectorised words of every instruction set are those of key_block.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "isa_probe.h"

namespace torch_gumbel::testing {
namespace {

using math::Key;
using math::Plane;

constexpr uint32_t kGuard = 0xA5A5A5A5;

void expect_words(const IsaProbe& probe, Key key, uint64_t first, int64_t blocks, Plane plane) {
  const int64_t count = 4 * blocks;
  std::vector<uint32_t> words(count + probe.word_slack + 16, kGuard);
  probe.fill_words(key, first, blocks, plane, words.data());
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t expected = math::key_block(key, first + i / 4, plane).word[i % 4];
    ASSERT_EQ(words[i], expected) << probe.name << " seed " << key.seed << " offset " << key.offset
                                  << " first " << first << " blocks " << blocks << " word " << i;
  }
  for (size_t i = count + probe.word_slack; i < words.size(); ++i)
    ASSERT_EQ(words[i], kGuard) << probe.name << ": wrote beyond its slack";
}

template <typename F>
void for_each_probe(F&& f) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  ASSERT_GE(count, 1);
  for (int i = 0; i < count; ++i) f(*builds[i].probe);
}

TEST(FillWords, EqualsBlocksForEveryLength) {
  for_each_probe([](const IsaProbe& probe) {
    for (int64_t blocks = 0; blocks <= 140; ++blocks)
      expect_words(probe, {0x0123456789abcdef, 0}, 0, blocks, Plane::kWord);
    expect_words(probe, {1, 2}, 3, 5000, Plane::kExtension);
  });
}

// Vectors of blocks must neither cross the carry into the second counter word nor miss it.
TEST(FillWords, EqualsBlocksAroundEveryWrap) {
  for_each_probe([](const IsaProbe& probe) {
    for (const Plane plane : {Plane::kWord, Plane::kExtension})
      for (const uint64_t wrap : {uint64_t{1} << 32, uint64_t{5} << 32, uint64_t{0}})
        for (uint64_t before = 0; before <= 72; ++before) {
          const uint64_t start = wrap - before;
          expect_words(probe, {0xfedcba9876543210, start}, 0, 80, plane);
          expect_words(probe, {0xfedcba9876543210, 0}, start, 80, plane);
          expect_words(probe, {0xfedcba9876543210, start - 1000}, 1000, 70, plane);
          expect_words(probe, {0xfedcba9876543210, start + 1000}, uint64_t{0} - 1000, 70, plane);
        }
  });
}

TEST(FillWords, EqualsBlocksForManySeeds) {
  for_each_probe([](const IsaProbe& probe) {
    for (uint64_t data = 0; data < 200; ++data) {
      const Key key = math::fold_in({99, 0}, data);
      expect_words(probe, key, data << 33, 37, data % 2 ? Plane::kWord : Plane::kExtension);
    }
    for (const uint64_t seed : {0ull, 0xffffffffull, 0xffffffff00000000ull, ~0ull})
      expect_words(probe, {seed, ~0ull}, ~0ull, 64, Plane::kWord);
  });
}

void expect_runs(const IsaProbe& probe, Key key, uint64_t first, uint64_t step, int64_t runs,
                 int64_t count, Plane plane) {
  const int64_t stride = probe.run_stride(count);
  std::vector<uint32_t> words(runs * stride + probe.word_slack + 16, kGuard);
  probe.fill_runs(key, first, step, runs, count, plane, words.data());
  for (int64_t k = 0; k < runs; ++k)
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t position = first + k * step;
      ASSERT_EQ(words[k * stride + position % 4 + i], math::key_word(key, position + i, plane))
          << probe.name << " offset " << key.offset << " first " << first << " step " << step
          << " run " << k << " of " << count << ", word " << i;
    }
  for (size_t i = runs * stride + probe.word_slack; i < words.size(); ++i)
    ASSERT_EQ(words[i], kGuard) << probe.name << ": wrote beyond its slack";
}

TEST(FillRuns, EqualsWordsForEveryLengthAndAlignment) {
  for_each_probe([](const IsaProbe& probe) {
    for (int64_t count = 1; count <= 140; ++count)
      for (uint64_t first = 0; first < 4; ++first)
        expect_runs(probe, {7, 3}, first, 1000 + count, 6, count, Plane::kWord);
    expect_runs(probe, {7, 3}, 1, 256, 9, 256, Plane::kExtension);
    expect_runs(probe, {7, 3}, 5, 3, 50, 3, Plane::kWord);
    expect_runs(probe, {7, 3}, 5, 0, 3, 20, Plane::kWord);
  });
}

// Runs before, over, and after the carry into the second counter word.
TEST(FillRuns, EqualsWordsAroundEveryWrap) {
  for_each_probe([](const IsaProbe& probe) {
    for (const uint64_t wrap : {uint64_t{1} << 32, uint64_t{5} << 32, uint64_t{0}})
      for (const uint64_t step : {uint64_t{61}, uint64_t{400}, uint64_t{1} << 33})
        for (uint64_t before = 0; before <= 150; before += 3)
          for (const int64_t count : {1, 33, 64, 100})
            expect_runs(probe, {9, wrap - before}, 2, step, 7, count, Plane::kWord);
  });
}

}  // namespace
}  // namespace torch_gumbel::testing
