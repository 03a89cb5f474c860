// SPDX-License-Identifier: Apache-2.0
// Long rows: threads may share a row's tiles in any order and division, the bits stay.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "isa_probe.h"
#include "problem.h"

namespace torch_gumbel::testing {
namespace {

using Division = std::vector<std::pair<int64_t, int64_t>>;  // runs of tiles, in the order taken

Division pieces(int64_t tiles, int64_t length) {
  Division division;
  for (int64_t begin = 0; begin < tiles; begin += length)
    division.emplace_back(begin, std::min(tiles, begin + length));
  return division;
}

/// A division shuffled by a fixed stream.
Division shuffled(Division division, uint64_t seed) {
  for (size_t i = division.size(); i > 1; --i)
    std::swap(division[i - 1], division[math::key_word({seed, 0}, i) % i]);
  return division;
}

Division backwards(Division division) {
  std::reverse(division.begin(), division.end());
  return division;
}

void run_divided(Problem& problem, const cpu::Kernels& kernels, const Division& reduce,
                 const Division& finish) {
  const cpu::PlannedParams a = problem.planned();
  for (int64_t row = problem.rows() - 1; row >= 0; --row) {
    std::vector<cpu::TileStat> stats(cpu::tiles_of(problem.classes()));
    const GuardedBuffer weight_cache(a.plan.weight_cache_bytes);
    for (const auto& [begin, end] : reduce)
      problem.with_scratch([&, begin = begin, end = end](void* scratch) {
        kernels.reduce_tiles(a, row, begin, end, stats.data(), scratch, weight_cache.get());
      });
    for (const auto& [begin, end] : finish)
      problem.with_scratch([&, begin = begin, end = end](void* scratch) {
        kernels.finish_tiles(a, row, begin, end, stats.data(), scratch, weight_cache.get());
      });
    kernels.finish_row(a, row, stats.data());
  }
  problem.expect_surroundings_intact();
}

void expect_equal_bits(const Case& wanted, const cpu::Kernels& kernels) {
  Problem whole(wanted);
  whole.run(kernels);
  const auto expected = whole.results();
  const int64_t tiles = cpu::tiles_of(whole.classes());
  const std::pair<Division, Division> divisions[] = {
      {pieces(tiles, 1), pieces(tiles, 1)},
      {backwards(pieces(tiles, 1)), pieces(tiles, tiles)},
      {pieces(tiles, 3), backwards(pieces(tiles, 2))},
      {shuffled(pieces(tiles, 1), 1), shuffled(pieces(tiles, 1), 2)},
      {shuffled(pieces(tiles, 2), 3), shuffled(pieces(tiles, 3), 4)}};
  for (const auto& [reduce, finish] : divisions) {
    Problem divided(wanted);
    run_divided(divided, kernels, reduce, finish);
    EXPECT_TRUE(divided.results() == expected);
  }
}

class Tiles : public ::testing::TestWithParam<Op> {};

TEST_P(Tiles, AnyDivisionGivesTheSameBits) {
  for (const int64_t classes : {8193, 12288, 20000}) {
    int count = 0;
    const IsaBuild* builds = classes == 8193 ? runnable_builds(count) : fast_builds(count);
    for (int i = 0; i < count; ++i)
      for (const DType type : kAllTypes)
        for (const int dim : {0, 1}) {
          SCOPED_TRACE(::testing::Message() << builds[i].kernels->name << " " << name_of(type)
                                            << " " << classes << " dim " << dim);
          Case wanted;
          wanted.op = GetParam();
          wanted.input = wanted.grad = wanted.output = type;
          wanted.dim = dim;
          wanted.sizes = dim == 0 ? Sizes{classes, 2} : Sizes{2, classes};
          wanted.tau = 0.7;
          expect_equal_bits(wanted, *builds[i].kernels);
          if (HasFailure()) return;
        }
  }
}

/// Results do not depend on whether weights are stored in the output or recomputed.
TEST_P(Tiles, OutputsThatCannotHoldExponentialsGiveTheSameBits) {
  const cpu::Kernels& kernels = cpu::selected_kernels();
  Case wanted;
  wanted.op = GetParam();
  wanted.sizes = {2, 9001};
  Problem stored(wanted);
  stored.run(kernels);
  wanted.output_place = Placement::kStepped;
  Problem stepped(wanted);
  stepped.run(kernels);
  EXPECT_TRUE(stored.results() == stepped.results());
}

INSTANTIATE_TEST_SUITE_P(Kernels, Tiles, ::testing::ValuesIn(kAllOps),
                         [](const auto& info) { return std::string(name_of(info.param)); });

/// A long row masked but for one class.
TEST(TilesWithoutAClass, AreHarmless) {
  for (const Op op : {Op::kSoft, Op::kHard, Op::kArgmax, Op::kHardBackward})
    for (const int64_t left : {0, 2047, 2048, 9000, 9999}) {
      SCOPED_TRACE(::testing::Message() << name_of(op) << " " << left);
      Case wanted;
      wanted.op = op;
      wanted.sizes = {1, 10000};
      Problem problem(wanted);
      for (int64_t k = 0; k < problem.classes(); ++k) problem.set_input(0, k, -INFINITY);
      problem.set_input(0, left, 1);
      problem.run(cpu::selected_kernels());
      if (op == Op::kArgmax) {
        EXPECT_EQ(problem.index(0), left);
        continue;
      }
      for (int64_t k = 0; k < problem.classes(); ++k)
        ASSERT_EQ(problem.output(0, k), op != Op::kHardBackward && k == left ? 1 : 0) << k;
    }
}

}  // namespace
}  // namespace torch_gumbel::testing
