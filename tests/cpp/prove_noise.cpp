// SPDX-License-Identifier: Apache-2.0
// All 2^32 words through the float32 noise, by every build that this machine runs: finite, within
// range, the right mean and variance, and the same bits from every build.
//
// A word counts once. One below 256 counts as the mean over 64 extension words, (j + 1/2) 2^26, and
// is checked for the extreme extension words as well.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "isa_probe.h"
#include "math/gumbel.h"

namespace torch_gumbel::testing {
namespace {

constexpr double kMean = 0.57721566490153286;      // Euler's constant
constexpr double kVariance = 1.64493406684822644;  // pi^2 / 6
constexpr float kLowest = -3.2f, kHighest = 45.1f;
constexpr int64_t kBlock = 1 << 14;  // words at a time
constexpr int64_t kBlocks = 1 << 18;
constexpr uint32_t kExtremes[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};

struct Totals {
  double sum = 0;      // of noise - kMean
  double squares = 0;  // of its square
  float lowest = INFINITY;
  float highest = -INFINITY;
  int64_t bad = 0;      // not within range: infinities and NaN are counted here
  int64_t unequal = 0;  // blocks whose bits differ between builds

  void add(const Totals& other) {
    sum += other.sum;
    squares += other.squares;
    lowest = std::min(lowest, other.lowest);
    highest = std::max(highest, other.highest);
    bad += other.bad;
    unequal += other.unequal;
  }
};

/// Sums in eight lanes, which the compiler can keep in vectors.
void count_noise(const float* noise, int64_t count, double weight, Totals& totals) {
  constexpr int kLanes = 8;
  double sum[kLanes] = {}, squares[kLanes] = {};
  float lowest[kLanes], highest[kLanes];
  int64_t bad[kLanes] = {};
  std::fill_n(lowest, kLanes, INFINITY);
  std::fill_n(highest, kLanes, -INFINITY);
  for (int64_t i = 0; i + kLanes <= count; i += kLanes)
    for (int j = 0; j < kLanes; ++j) {
      const float g = noise[i + j];
      const double centred = static_cast<double>(g) - kMean;
      sum[j] += centred;
      squares[j] += centred * centred;
      lowest[j] = g < lowest[j] ? g : lowest[j];
      highest[j] = g > highest[j] ? g : highest[j];
      bad[j] += !(g >= kLowest && g <= kHighest);
    }
  for (int j = 0; j < kLanes; ++j)
    totals.add({sum[j] * weight, squares[j] * weight, lowest[j], highest[j], bad[j], 0});
}

/// Noise of one block by every build, in `noise`: the first build's.
void check_block(uint32_t first, std::vector<float>& noise, std::vector<float>& other,
                 std::vector<uint32_t>& words, Totals& totals) {
  int builds = 0;
  const IsaBuild* build = runnable_builds(builds);
  for (int64_t i = 0; i < kBlock; ++i) words[i] = first + static_cast<uint32_t>(i);
  build[0].probe->gumbel(words.data(), kBlock, noise.data());
  for (int b = 1; b < builds; ++b) {
    build[b].probe->gumbel(words.data(), kBlock, other.data());
    totals.unequal += std::memcmp(noise.data(), other.data(), kBlock * sizeof(float)) != 0;
  }
  const int64_t extended = first == 0 ? math::kExtendBelow : 0;
  count_noise(noise.data() + extended, kBlock - extended, 1, totals);
}

void check_extension(const std::vector<uint32_t>& extensions, double weight, Totals& totals) {
  int builds = 0;
  const IsaBuild* build = runnable_builds(builds);
  std::vector<uint32_t> words, seconds;
  for (uint32_t word = 0; word < math::kExtendBelow; ++word)
    for (const uint32_t extension : extensions) {
      words.push_back(word);
      seconds.push_back(extension);
    }
  const auto count = static_cast<int64_t>(words.size());
  std::vector<float> noise(count), other(count);
  build[0].probe->gumbel_extended(words.data(), seconds.data(), count, noise.data());
  for (int b = 1; b < builds; ++b) {
    build[b].probe->gumbel_extended(words.data(), seconds.data(), count, other.data());
    totals.unequal += std::memcmp(noise.data(), other.data(), count * sizeof(float)) != 0;
  }
  count_noise(noise.data(), count, weight, totals);
}

Totals check_extended_words() {
  constexpr int kMidpoints = 64;
  std::vector<uint32_t> midpoints;
  for (uint32_t j = 0; j < kMidpoints; ++j) midpoints.push_back((j << 26) + (1u << 25));
  Totals totals;
  check_extension(midpoints, 1.0 / kMidpoints, totals);
  check_extension({std::begin(kExtremes), std::end(kExtremes)}, 0, totals);
  return totals;
}

Totals check_all_words() {
  Totals totals = check_extended_words();
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  const auto work = [&] {
    Totals mine;
    std::vector<float> noise(kBlock), other(kBlock);
    std::vector<uint32_t> words(kBlock);
    for (int64_t block; (block = next.fetch_add(1)) < kBlocks;) {
      check_block(static_cast<uint32_t>(block * kBlock), noise, other, words, mine);
      if (block % (kBlocks / 100) == 0)
        std::fprintf(stderr, "\rprove_noise: %3d %%", static_cast<int>(block * 100 / kBlocks));
    }
    const std::lock_guard<std::mutex> lock(mutex);
    totals.add(mine);
  };
  std::vector<std::thread> threads(std::max(1u, std::thread::hardware_concurrency()));
  for (auto& thread : threads) thread = std::thread(work);
  for (auto& thread : threads) thread.join();
  std::fprintf(stderr, "\rprove_noise: 100 %%\n");
  return totals;
}

bool report(const char* what, bool good) {
  std::printf("  %-4s %s\n", good ? "ok" : "BAD", what);
  return good;
}

bool prove() {
  const auto begin = std::chrono::steady_clock::now();
  const Totals totals = check_all_words();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  const double count = 0x1p32, shift = totals.sum / count;
  const double variance = totals.squares / count - shift * shift;
  char line[200];
  std::snprintf(line, sizeof line, "range [%.6f, %.6f] within [%.1f, %.1f]; %lld values outside",
                totals.lowest, totals.highest, kLowest, kHighest,
                static_cast<long long>(totals.bad));
  bool good = report(line, totals.bad == 0);
  std::snprintf(line, sizeof line, "mean %.10f, off by %.2e (at most 1e-7)", kMean + shift, shift);
  good &= report(line, std::fabs(shift) <= 1e-7);
  std::snprintf(line, sizeof line, "variance %.10f, off by %.2e (at most 1e-6)", variance,
                variance - kVariance);
  good &= report(line, std::fabs(variance - kVariance) <= 1e-6);
  std::snprintf(line, sizeof line, "equal bits from: %s; %lld blocks differ", cpu::runnable_names(),
                static_cast<long long>(totals.unequal));
  good &= report(line, totals.unequal == 0);
  std::printf("%s: 2^32 words, %.0f s\n", good ? "PASS" : "FAIL", elapsed.count());
  return good;
}

}  // namespace
}  // namespace torch_gumbel::testing

int main() { return torch_gumbel::testing::prove() ? 0 : 1; }
