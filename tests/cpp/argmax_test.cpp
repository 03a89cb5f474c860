// SPDX-License-Identifier: Apache-2.0
// The pruned argmax against evaluating every class: same class, same score, always.
#include <type_traits>

#define TG_ISA argmax_test
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <string>
#include <vector>

#include "cpu/kernels/prune.h"
#include "isa_probe.h"

namespace torch_gumbel::testing {
namespace {

constexpr int64_t kMost = 20000;  // classes
#ifdef __SANITIZE_ADDRESS__
constexpr int64_t kRows = 4;  // what is accessed depends on the row's length
#else
constexpr int64_t kRows = 24;
#endif

double unit(uint64_t i) { return math::key_word({21, 0}, i) * 0x1p-32; }

/// logits(row, k), without noise.
struct Pattern {
  std::string name;
  std::function<double(uint64_t row, uint64_t k)> logit;
};

std::vector<Pattern> patterns() {
  const auto at = [](uint64_t row, uint64_t k) { return unit(row * kMost + k); };
  std::vector<Pattern> all = {
      {"random", [=](uint64_t r, uint64_t k) { return 16 * at(r, k) - 8; }},
      {"wide", [=](uint64_t r, uint64_t k) { return 400 * at(r, k) - 200; }},
      {"flat", [](uint64_t, uint64_t) { return 0.0; }},
      {"rising", [](uint64_t, uint64_t k) { return k * 1e-3; }},
      {"falling", [](uint64_t, uint64_t k) { return k * -1e-3; }},
      {"three values", [=](uint64_t r, uint64_t k) { return std::floor(3 * at(r, k)); }},
      {"half masked", [=](uint64_t r, uint64_t k) { return at(r, k) < 0.5 ? -INFINITY : 1; }},
      {"nearly all masked",
       [=](uint64_t r, uint64_t k) { return k > 0 && at(r, k) < 0.999 ? -INFINITY : at(r, k); }},
      {"one peak", [](uint64_t r, uint64_t k) { return k == r * 97 % 256 ? 30.0 : 0.0; }},
      {"largest half", [=](uint64_t r, uint64_t k) { return at(r, k) < 0.5 ? 65504 : 65472; }},
      {"subnormal", [=](uint64_t r, uint64_t k) { return at(r, k) * 1e-39; }},
      {"largest float", [=](uint64_t r, uint64_t k) { return at(r, k) < 0.3 ? FLT_MAX : 1; }},
      {"both ends", [=](uint64_t r, uint64_t k) { return at(r, k) < 0.5 ? FLT_MAX : -FLT_MAX; }}};
  for (const double size : {1e5, 1e6, 1e7, 1e8, 1e12, 1e20, 1e30, 1.9e31, 2.1e31, 1e35, 3.4e38})
    for (const double sign : {1.0, -1.0}) {
      const double step = size * 0x1p-23;  // about one unit in the last place
      all.push_back({"near " + std::to_string(sign * size), [=](uint64_t r, uint64_t k) {
                       return sign * (size - step * std::floor(4 * at(r, k)));
                     }});
    }
  return all;
}

struct Choice {
  int64_t index;
  float score;
};

/// One long run of noise by the noise op, then the plainest loop there is.
std::vector<Choice> evaluate_all(const cpu::Kernels& kernels, const std::vector<float>& x,
                                 int64_t rows, int64_t classes) {
  std::vector<float> noise(x.size());
  cpu::PlannedParams a;
  a.op = Op::kNoise;
  a.rows.count = static_cast<int64_t>(x.size());
  a.rows.classes = 1;
  a.rows.dims = 1;
  a.rows.size[0] = a.rows.count;
  for (auto& stride : a.rows.stride) stride[0] = 1;
  a.host_key = {5, 1};
  a.output = noise.data();
  alignas(64) static float scratch[cpu::kTile + cpu::kScratchSlack];
  a.plan = cpu::make_plan(a.op, a, 1);
  kernels.rows(a, 0, a.rows.count, scratch);
  std::vector<Choice> choices;
  for (int64_t r = 0; r < rows; ++r) {
    Choice best = {0, -INFINITY};
    for (int64_t k = 0; k < classes; ++k) {
      const float score = x[r * classes + k] + noise[r * classes + k];
      if (score > best.score) best = {k, score};
    }
    choices.push_back(best);
  }
  return choices;
}

std::vector<Choice> prune(const cpu::Kernels& kernels, const std::vector<float>& x, int64_t rows,
                          int64_t classes) {
  std::vector<int64_t> index(rows);
  std::vector<float> score(rows);
  cpu::PlannedParams a;
  a.op = Op::kArgmax;
  a.rows.count = rows;
  a.rows.classes = classes;
  a.rows.dims = 1;
  a.rows.size[0] = rows;
  for (auto& stride : a.rows.stride) stride[0] = classes;
  for (auto& step : a.rows.class_stride) step = 1;
  a.host_key = {5, 1};
  a.input = x.data();
  a.index = index.data();
  a.row_value = score.data();
  alignas(64) static float scratch[cpu::kLongRow + cpu::kScratchSlack];
  std::vector<cpu::TileStat> stats(cpu::tiles_of(classes));
  a.plan = cpu::make_plan(a.op, a, 1);
  const bool long_rows = a.plan.path == cpu::Path::kTiles;
  if (!long_rows) kernels.rows(a, 0, rows, scratch);
  for (int64_t r = 0; r < rows && long_rows; ++r) {
    const auto tiles = static_cast<int64_t>(stats.size());
    kernels.reduce_tiles(a, r, 0, tiles, stats.data(), scratch, nullptr);
    kernels.finish_row(a, r, stats.data());
  }
  std::vector<Choice> choices;
  for (int64_t r = 0; r < rows; ++r) choices.push_back({index[r], score[r]});
  return choices;
}

void expect_equal_choices(const std::vector<float>& x, int64_t classes) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  const auto rows = static_cast<int64_t>(x.size()) / classes;
  for (int i = 0; i < count; ++i) {
    const auto expected = evaluate_all(*builds[i].kernels, x, rows, classes);
    const auto got = prune(*builds[i].kernels, x, rows, classes);
    for (int64_t r = 0; r < rows; ++r) {
      ASSERT_EQ(got[r].index, expected[r].index) << builds[i].kernels->name << " row " << r;
      ASSERT_EQ(got[r].score, expected[r].score) << builds[i].kernels->name << " row " << r;
    }
  }
}

TEST(PrunedArgmax, EqualsEvaluatingEveryClass) {
  for (const Pattern& pattern : patterns())
    for (const int64_t classes :
         {64, 65, 100, 127, 256, 257, 1000, 2047, 2048, 2049, 5000, 8192, 20000}) {
      SCOPED_TRACE(::testing::Message() << pattern.name << ", K " << classes);
      std::vector<float> x(kRows * classes);
      for (int64_t i = 0; i < kRows * classes; ++i)
        x[i] = static_cast<float>(pattern.logit(i / classes, i % classes));
      expect_equal_choices(x, classes);
      if (HasFailure()) return;
    }
}

/// Flat rows at every magnitude: their scores tie more and more, and the first maximum must win.
TEST(PrunedArgmax, EqualsEvaluatingEveryClassAtEveryMagnitude) {
  for (int exponent = -20; exponent < 128; ++exponent)
    for (const float sign : {1.0f, -1.0f}) {
      SCOPED_TRACE(exponent);
      std::vector<float> x(20 * 700);
      for (size_t i = 0; i < x.size(); ++i) {
        const double fraction = 1 + std::floor(3 * unit(i)) * 0x1p-23 + (i / 700 % 8) / 8.0;
        x[i] = sign * static_cast<float>(std::ldexp(fraction, exponent));
      }
      expect_equal_choices(x, 700);
      if (HasFailure()) return;
    }
}

/// The bound itself: no element is ever ruled out by its own score, so none that ties is either.
TEST(PrunedArgmax, BoundReachesTheThresholdOfItsOwnScore) {
  std::vector<float> logits = {0.0f, -0.0f, 1e-39f};
  for (int exponent = -20; exponent < 104; ++exponent)
    for (const float fraction : {1.0f, 1.3f, 1.9999999f})
      for (const float sign : {1.0f, -1.0f})
        logits.push_back(std::ldexp(sign * fraction, exponent));
  std::vector<uint32_t> words = {0, 1, 2, 3, 255, 256, 257, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
  for (uint32_t i = 0; i < 4000; ++i) words.push_back(math::key_word({22, 0}, i) >> (i % 32));
  for (const float x : logits)
    for (const uint32_t word : words) {
      const float score = x + math::gumbel(word, 0);  // the largest that this word can give
      ASSERT_GE(math::score_bound(x, word), math::pruning_threshold(score)) << x << " " << word;
    }
}

}  // namespace
}  // namespace torch_gumbel::testing
