// SPDX-License-Identifier: Apache-2.0
// Words below 256, one in 16 million, take a second word: sought out, and led through every op.
#include <gtest/gtest.h>

#include <vector>

#include "isa_probe.h"
#include "math/gumbel.h"
#include "problem.h"
#include "reference.h"

namespace torch_gumbel::testing {
namespace {

constexpr uint64_t kSeed = 5;

/// Positions of words below 256 among the first 2^27 of a seed: eight are expected.
const std::vector<uint64_t>& extended_positions() {
  static const std::vector<uint64_t> found = [] {
    constexpr int64_t kBlocks = 4096;
    int count = 0;
    const IsaProbe& fastest = *runnable_builds(count)[count - 1].probe;
    std::vector<uint64_t> positions;
    std::vector<uint32_t> words(4 * kBlocks + fastest.word_slack);
    for (uint64_t first = 0; first < (uint64_t{1} << 25); first += kBlocks) {
      fastest.fill_words({kSeed, 0}, first, kBlocks, math::Plane::kWord, words.data());
      for (int64_t i = 0; i < 4 * kBlocks; ++i)
        if (words[i] < math::kExtendBelow) positions.push_back(4 * first + i);
    }
    return positions;
  }();
  return found;
}

class ExtendedWords : public ::testing::TestWithParam<Op> {
 protected:
  void check(const Case& wanted) {
    int count = 0;
    const IsaBuild* builds = runnable_builds(count);
    for (int i = 0; i < count && !HasFailure(); ++i) {
      SCOPED_TRACE(::testing::Message()
                   << builds[i].kernels->name << ", block " << wanted.key.offset << ", dim "
                   << wanted.dim << " of " << ::testing::PrintToString(wanted.sizes));
      Problem problem(wanted);
      problem.run(*builds[i].kernels);
      expect_reference(problem);
    }
  }
};

TEST_P(ExtendedWords, MatchTheReferenceInEveryOp) {
  ASSERT_GE(extended_positions().size(), 4u);
  for (const uint64_t position : extended_positions())
    for (const int64_t classes : {5, 300, 3000, 9000})
      for (const int dim : {0, 1}) {
        Case wanted;
        wanted.op = GetParam();
        wanted.key = {kSeed, position / 4 - static_cast<uint64_t>(classes) / 3};
        wanted.dim = dim;
        wanted.sizes = dim == 0 ? Sizes{classes, 2} : Sizes{2, classes};
        wanted.spread = 1;
        wanted.masks = false;
        check(wanted);
        if (HasFailure()) return;
      }
}

INSTANTIATE_TEST_SUITE_P(Kernels, ExtendedWords,
                         ::testing::Values(Op::kSoft, Op::kHard, Op::kArgmax, Op::kHardBackward,
                                           Op::kNoise),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace torch_gumbel::testing
