// SPDX-License-Identifier: Apache-2.0
// A sanitizer that is not there finds nothing: what it must punish, planted.
#include <gtest/gtest.h>

#include <limits>

#include "problem.h"

namespace torch_gumbel::testing {
namespace {

#ifdef __SANITIZE_ADDRESS__

TEST(Sanitizer, SeesAReadOfTheNextElement) {
  const GuardedTensor tensor(DType::kFloat16, {3, 5}, Placement::kContiguous, 1);
  EXPECT_DEATH(tensor.get(15), "heap-buffer-overflow");
}

TEST(Sanitizer, SeesASignedOverflow) {
  volatile int64_t most = std::numeric_limits<int64_t>::max();
  EXPECT_DEATH(most = most + 1, "signed integer overflow");
}

TEST(Sanitizer, SeesScratchOverrun) {
  Problem problem(Case{.op = Op::kSoft, .sizes = {3, 300}});
  EXPECT_DEATH(problem.with_scratch([&](void* scratch) {
    const int64_t bytes = problem.planned().plan.scratch_bytes;
    static_cast<volatile unsigned char*>(scratch)[bytes] = 1;
  }),
               "heap-buffer-overflow");
}

#else

TEST(Sanitizer, IsReplacedByPatternsThatShowAWrite) {
  GuardedTensor tensor(DType::kFloat16, {3, 5}, Placement::kContiguous, 1);
  EXPECT_TRUE(tensor.surroundings_intact());
  tensor.set(15, 1.0);
  EXPECT_FALSE(tensor.surroundings_intact());
}

#endif

}  // namespace
}  // namespace torch_gumbel::testing
