// SPDX-License-Identifier: Apache-2.0
// The tail race: one heavy class against 1,000 equal light ones of total probability 1e-6. The
// light ones win 67 of 2^26 draws (5 standard deviations: 41), and only by noise above 17, which a
// transform that rounds its uniform number to a float can not give.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <mutex>
#include <thread>
#include <vector>

#include "cpu/kernels.h"

namespace torch_gumbel::cpu {
extern const Kernels kernels_capped;
}

namespace torch_gumbel::testing {
namespace {

constexpr int64_t kDraws = int64_t{1} << 26;
constexpr int64_t kClasses = 1001;
constexpr int64_t kChunk = 1 << 16;  // draws at a time

std::vector<float> race_logits() {
  std::vector<float> logits(kClasses, static_cast<float>(std::log(1e-9)));
  logits[0] = 0;
  return logits;
}

/// Draws [first, first + count) of one long tensor whose rows all lie in the same memory.
void draw(const cpu::Kernels& kernels, const std::vector<float>& logits, int64_t first,
          int64_t count, int64_t* index) {
  cpu::PlannedParams a;
  a.op = Op::kArgmax;
  a.rows.count = count;
  a.rows.classes = kClasses;
  a.rows.dims = 1;
  a.rows.size[0] = count;
  a.rows.stride[static_cast<int>(Operand::kWord)][0] = kClasses;
  for (auto& step : a.rows.class_stride) step = 1;
  a.rows.first_word = static_cast<uint64_t>(first * kClasses);
  a.host_key = {20, 0};
  a.input = logits.data();
  a.index = index;
  a.plan = cpu::make_plan(a.op, a, 1);
  alignas(64) float scratch[cpu::kTile + cpu::kScratchSlack];
  kernels.rows(a, 0, count, scratch);
}

/// The draws that a light class wins.
std::vector<int64_t> light_wins(const cpu::Kernels& kernels) {
  const std::vector<float> logits = race_logits();
  std::vector<int64_t> wins;
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  const auto work = [&] {
    std::vector<int64_t> index(kChunk);
    for (int64_t first; (first = next.fetch_add(kChunk)) < kDraws;) {
      draw(kernels, logits, first, kChunk, index.data());
      const std::lock_guard<std::mutex> lock(mutex);
      for (int64_t i = 0; i < kChunk; ++i)
        if (index[i] != 0) wins.push_back(first + i);
    }
  };
  std::thread second(work);
  work();
  second.join();
  return wins;
}

TEST(TailRace, LightClassesWinAsOftenAsTheyShould) {
  const auto wins = light_wins(cpu::selected_kernels());
  RecordProperty("light_wins", static_cast<int>(wins.size()));
  std::printf("light wins: %zu of 2^26 (67 +- 41)\n", wins.size());
  EXPECT_GE(wins.size(), 67u - 41);
  EXPECT_LE(wins.size(), 67u + 41);
  // A cap can turn a light win into a heavy one, and no heavy win into a light one.
  const std::vector<float> logits = race_logits();
  int64_t capped_wins = 0;
  for (const int64_t row : wins) {
    int64_t index = 0;
    draw(cpu::kernels_capped, logits, row, 1, &index);
    capped_wins += index != 0;
  }
  std::printf("light wins with noise capped at 16.6: %d\n", static_cast<int>(capped_wins));
  EXPECT_EQ(capped_wins, 0);
}

/// The capped kernels are the kernels but for their cap.
TEST(TailRace, CappedKernelsDrawTheSameElsewhere) {
  std::vector<float> logits(kClasses);
  for (int64_t k = 0; k < kClasses; ++k) logits[k] = static_cast<float>(std::sin(k));
  std::vector<int64_t> exact(kChunk / 4), capped(kChunk / 4);
  const auto count = static_cast<int64_t>(exact.size());
  draw(cpu::selected_kernels(), logits, 0, count, exact.data());
  draw(cpu::kernels_capped, logits, 0, count, capped.data());
  int64_t different = 0;
  for (int64_t i = 0; i < count; ++i) different += exact[i] != capped[i];
  EXPECT_LE(different, 2);  // noise above 16.6 comes once in 16 million words
}

}  // namespace
}  // namespace torch_gumbel::testing
