// SPDX-License-Identifier: Apache-2.0
// Words below 256, one in 16 million, take a second word: sought out, and led through every op.
#include <gtest/gtest.h>

#include <vector>

#include "extended_positions.h"
#include "isa_probe.h"
#include "problem.h"
#include "reference.h"

namespace torch_gumbel::testing {
namespace {

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
        wanted.key = {kExtendedSeed, position / 4 - static_cast<uint64_t>(classes) / 3};
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
