// SPDX-License-Identifier: Apache-2.0
// Which kernel runs for which shape.
#include <gtest/gtest.h>

#include "on_model.h"
#include "switches.h"

namespace torch_gumbel::testing {
namespace {

/// For every number of classes in [from, to] and of rows in [least, most], these kernels. `inner`
/// and `lead` as in Sketch.
struct Choice {
  Op op;
  DType type;
  int64_t from, to;
  int64_t least, most;
  const char* kernels;
  int64_t inner = 1;
  int lead = 0;
};

constexpr int64_t kMany = 1'000'000;

const Choice kChoices[] = {
    {Op::kSoft, DType::kFloat32, 1, 300'000, 1, kMany, "soft_forward_kernel<float>"},
    {Op::kSoft, DType::kFloat64, 1, 300'000, 1, kMany, "soft_forward_kernel<double>"},
    {Op::kSoft, DType::kFloat16, 1, 300'000, 1, kMany, "soft_forward_kernel<float>"},
    {Op::kSoft, DType::kBFloat16, 1, 300'000, 1, kMany, "soft_forward_kernel<float>"},
    {Op::kSoft, DType::kFloat32, 1, 300'000, 1, kMany, "soft_forward_kernel<float>", 196},
    {Op::kHard, DType::kFloat32, 1, 300'000, 1, kMany, "hard_forward_kernel<float>"},
    {Op::kHard, DType::kFloat64, 1, 300'000, 1, kMany, "hard_forward_kernel<double>"},
    {Op::kArgmax, DType::kFloat32, 1, 300'000, 1, kMany, "argmax_kernel<float>"},
    {Op::kArgmax, DType::kFloat64, 1, 300'000, 1, kMany, "argmax_kernel<double>"},
    {Op::kBackward, DType::kFloat32, 1, 300'000, 1, kMany, "backward_kernel<float>"},
    {Op::kBackward, DType::kFloat64, 1, 300'000, 1, kMany, "backward_kernel<double>"},
    {Op::kHardBackward, DType::kFloat32, 1, 300'000, 1, kMany, "hard_backward_kernel<float>"},
    {Op::kHardBackward, DType::kFloat64, 1, 300'000, 1, kMany, "hard_backward_kernel<double>"},
    {Op::kNoise, DType::kFloat32, 1, 300'000, 1, kMany, "noise_kernel<float>"},
    {Op::kNoise, DType::kFloat64, 1, 300'000, 1, kMany, "noise_kernel<double>"},
};

/// Both ends of a range, and some between.
Sizes some_of(int64_t from, int64_t to) {
  Sizes some = {from, to};
  for (int64_t at = from + 1; at < to; at += 1 + (at - from)) some.push_back(at);
  return some;
}

TEST(Choices, AreTheWantedOnes) {
  for (const Choice& choice : kChoices)
    for (const int64_t classes : some_of(choice.from, choice.to))
      for (const int64_t rows : some_of(choice.least, choice.most)) {
        const Sketch sketch = {choice.op, choice.type, rows, classes, choice.inner, choice.lead};
        ASSERT_EQ(kernels_of(sketch), choice.kernels)
            << name_of(choice.op) << " of " << name_of(choice.type) << ", " << rows << " rows of "
            << classes;
      }
}

/// A switch that no range above ends or begins at was not thought of.
TEST(Choices, HaveNoOtherSwitches) {
  for (const Op op : kAllOps)
    for (const DType type : {DType::kFloat32, DType::kFloat64})
      for (const int64_t at : switches(op, type, 300'000)) {
        bool known = false;
        for (const Choice& choice : kChoices)
          known |=
              choice.op == op && choice.type == type && choice.from > at - 8 && choice.from <= at;
        EXPECT_TRUE(known) << name_of(op) << " of " << name_of(type) << " switches at " << at;
      }
}

}  // namespace
}  // namespace torch_gumbel::testing
