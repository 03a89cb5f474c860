// SPDX-License-Identifier: Apache-2.0
// Keys and generators, alone and among threads.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch_gumbel/torch_gumbel.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "math/philox.h"
#include "ops/keys.h"

namespace torch_gumbel {
namespace {

using std::nullopt;

at::Generator generator(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

std::pair<uint64_t, uint64_t> words(const at::Tensor& key) {
  EXPECT_EQ(key.scalar_type(), at::kUInt64);
  const auto* values = static_cast<const uint64_t*>(key.const_data_ptr());
  return {values[0], values[1]};
}

at::Tensor draw(const at::Tensor& logits, const at::Generator& source) {
  return gumbel_softmax(logits, 1.0, false, -1, false, source);
}

TEST(Keys, OfASeed) {
  EXPECT_EQ(words(key(5)), (std::pair<uint64_t, uint64_t>(5, 0)));
  EXPECT_EQ(words(key(~0ull)), (std::pair<uint64_t, uint64_t>(~0ull, 0)));
  EXPECT_EQ(key(5).sizes(), at::IntArrayRef({2}));
}

/// A copy from pageable memory waits for the device, which a capture does not survive.
TEST(Keys, OnACpuAreNotCopiedToADeviceThatCaptures) {
  const at::Device device(at::kCUDA, 0);
  const at::Tensor keys = torch_gumbel::split(key(5), 3);
  ops::check_copy("f", keys, device);
  ops::register_capturing([](at::Device) { return true; });
  try {
    ops::check_copy("f", keys, device);
    ADD_FAILURE() << "accepted";
  } catch (const c10::ValueError& error) {
    EXPECT_STREQ(error.what_without_backtrace(),
                 "f: wanted the key of shape [3, 2] on cuda:0 while a CUDA graph is captured, got "
                 "one on cpu");
  }
  ops::check_copy("f", keys, at::kCPU);
  ops::register_capturing(nullptr);
}

TEST(Keys, FoldInTakesABlock) {
  EXPECT_EQ(words(fold_in(key(5), 7)),
            (std::pair<uint64_t, uint64_t>(10958159418354826246u, 2010039072213502125u)));
  const auto folded = math::fold_in({5, 0}, ~0ull);
  EXPECT_EQ(words(fold_in(key(5), ~0ull)), std::pair(folded.seed, folded.offset));
}

TEST(Keys, SplitFoldsInOneNumberAfterAnother) {
  const auto parts = torch_gumbel::split(key(5), 4);
  EXPECT_EQ(parts.sizes(), at::IntArrayRef({4, 2}));
  for (int64_t i = 0; i < 4; ++i) EXPECT_TRUE(at::equal(parts[i], fold_in(key(5), i)));
  EXPECT_EQ(torch_gumbel::split(key(5)).sizes(), at::IntArrayRef({2, 2}));
  EXPECT_EQ(torch_gumbel::split(parts, 3).sizes(), at::IntArrayRef({3, 4, 2}));
  EXPECT_TRUE(at::equal(torch_gumbel::split(parts, 3)[2][1], fold_in(parts[1], 2)));
}

TEST(Keys, OfInt64HoldTheSameBits) {
  const auto logits = at::zeros({3, 5});
  const auto unsigned_key = fold_in(key(~0ull), 3);
  const auto signed_key = unsigned_key.view(at::kLong);
  EXPECT_TRUE(at::equal(gumbel_softmax(logits, 1.0, false, -1, false, nullopt, unsigned_key),
                        gumbel_softmax(logits, 1.0, false, -1, false, nullopt, signed_key)));
  EXPECT_TRUE(at::equal(fold_in(unsigned_key, 1), fold_in(signed_key, 1).view(at::kUInt64)));
}

TEST(Keys, OfABatchDrawEachSliceAsIfAlone) {
  const auto logits = at::arange(2 * 3 * 7, at::kFloat).view({2, 3, 7}).sin();
  const auto keys = torch_gumbel::split(key(8), 2);
  for (const bool hard : {false, true}) {
    const auto y = gumbel_softmax(logits, 0.5, hard, -1, false, nullopt, keys);
    for (int64_t i = 0; i < 2; ++i)
      EXPECT_TRUE(
          at::equal(y[i], gumbel_softmax(logits[i], 0.5, hard, -1, false, nullopt, keys[i])));
  }
  const auto padded = keys.view({2, 1, 1, 2});
  EXPECT_TRUE(at::equal(gumbel_argmax(logits, -1, false, nullopt, 1.0, nullopt, keys),
                        gumbel_argmax(logits, -1, false, nullopt, 1.0, nullopt, padded)));
}

TEST(Generators, GiveTwoDrawsAsAKey) {
  const auto source = generator(17), twin = generator(17);
  auto* draws = at::check_generator<at::CPUGeneratorImpl>(twin);
  const uint64_t seed = draws->random64(), offset = draws->random64();
  EXPECT_EQ(words(new_key(source)), std::pair(seed, offset));
  EXPECT_TRUE(at::equal(source.get_state(), twin.get_state()));
}

TEST(Generators, DecideTheSample) {
  const auto logits = at::zeros({4, 50});
  const auto first = generator(1), second = generator(1);
  const auto a = draw(logits, first), b = draw(logits, second);
  EXPECT_TRUE(at::equal(a, b));
  EXPECT_FALSE(at::equal(a, draw(logits, first)));
  const auto keyed = gumbel_softmax(logits, 1.0, false, -1, false, nullopt, new_key(generator(1)));
  EXPECT_TRUE(at::equal(a, keyed));
}

TEST(Generators, DefaultOneIsUsedWithoutAnyOther) {
  const auto logits = at::zeros({4, 50});
  at::manual_seed(99);
  const auto a = gumbel_softmax(logits), b = gumbel_softmax(logits);
  at::manual_seed(99);
  EXPECT_TRUE(at::equal(a, gumbel_softmax(logits)));
  EXPECT_FALSE(at::equal(a, b));
  at::manual_seed(99);
  EXPECT_TRUE(at::equal(a, gumbel_softmax(logits, 1.0, false, -1, false, nullopt, new_key())));
}

/// Runs f(0) and f(1) at once.
template <typename F>
void in_two_threads(F&& f) {
  std::thread other([&] { f(1); });
  f(0);
  other.join();
}

TEST(Threads, WithTheirOwnGeneratorsDrawWhatTheyDrawAlone) {
  constexpr int kCalls = 200;
  const auto logits = at::zeros({8, 100});
  const auto run = [&](uint64_t seed) {
    const auto source = generator(seed);
    at::Tensor sum = at::zeros_like(logits);
    for (int i = 0; i < kCalls; ++i) sum += draw(logits, source);
    return sum;
  };
  const at::Tensor alone[] = {run(0), run(1)};
  at::Tensor together[2];
  in_two_threads([&](int i) { together[i] = run(i); });
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(at::equal(alone[i], together[i]));
}

TEST(Threads, SharingAGeneratorShareItsKeysWithoutGapsOrRepeats) {
  constexpr int kCalls = 2000;
  const auto shared = generator(5), twin = generator(5);
  std::vector<std::pair<uint64_t, uint64_t>> got[2], expected;
  in_two_threads([&](int i) {
    for (int n = 0; n < kCalls; ++n) got[i].push_back(words(new_key(shared)));
  });
  for (int n = 0; n < 2 * kCalls; ++n) expected.push_back(words(new_key(twin)));
  auto all = got[0];
  all.insert(all.end(), got[1].begin(), got[1].end());
  std::sort(all.begin(), all.end());
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(all, expected);
}

TEST(Threads, SharingAGeneratorDrawDifferentSamples) {
  const auto shared = generator(6);
  const auto logits = at::zeros({1000});
  std::vector<double> firsts[2];
  in_two_threads([&](int i) {
    for (int n = 0; n < 500; ++n) firsts[i].push_back(draw(logits, shared)[0].item<double>());
  });
  auto all = firsts[0];
  all.insert(all.end(), firsts[1].begin(), firsts[1].end());
  std::sort(all.begin(), all.end());
  EXPECT_LE(std::unique(all.begin(), all.end()) - all.begin(), 1000);
  EXPECT_GE(std::unique(all.begin(), all.end()) - all.begin(), 990);
}

}  // namespace
}  // namespace torch_gumbel
