// SPDX-License-Identifier: Apache-2.0
// How a plan computes and stores, around every threshold.
#include <gtest/gtest.h>

#include <utility>

#include "plan_params.h"

namespace torch_gumbel::testing {
namespace {

using cpu::Path;
using cpu::Plan;

TEST(Plan, WritesLinesOnlyOfTheTypeThatIsComputed) {
  KernelParams a = params({3, 1000});
  a.input_type = DType::kBFloat16;
  EXPECT_EQ(plan(Op::kSoft, a, kAlways).path, Path::kLines);
  a.output_type = DType::kBFloat16;
  EXPECT_EQ(plan(Op::kSoft, a, kAlways).path, Path::kRows);
  EXPECT_EQ(plan(Op::kSoft, params({3, 1000}, DType::kFloat64), kAlways).path, Path::kLines);
}

TEST(Plan, StoresOutputsOfEightMebibytesNontemporally) {
  const struct {
    DType type;
    int64_t elements;
  } cases[] = {{DType::kFloat32, 1 << 21},
               {DType::kFloat64, 1 << 20},
               {DType::kFloat16, 1 << 22},
               {DType::kBFloat16, 1 << 22}};
  for (const auto& [type, elements] : cases) {
    EXPECT_TRUE(cpu::make_plan(Op::kSoft, params({elements, 1}, type), 1).nontemporal);
    EXPECT_FALSE(cpu::make_plan(Op::kSoft, params({elements - 1, 1}, type), 1).nontemporal);
  }
}

TEST(Plan, KeepsWeightsInTheOutputOrInACacheOrNowhere) {
  const auto bytes = [](Op op, int64_t classes, int threads, int64_t nontemporal_bytes) {
    return plan(op, params({2, classes}), nontemporal_bytes, threads).weight_cache_bytes;
  };
  const int64_t all = (10'000 + cpu::kScratchSlack) * 4;
  EXPECT_EQ(bytes(Op::kSoft, 10'000, 64, kNever), 0);
  EXPECT_EQ(bytes(Op::kSoft, 10'000, 4, kAlways), 0);
  EXPECT_EQ(bytes(Op::kSoft, 10'000, 5, kAlways), all);
  EXPECT_EQ(bytes(Op::kHardBackward, 10'000, 1, kNever), 0);
  EXPECT_EQ(bytes(Op::kHardBackward, 10'000, 1, kAlways), all);  // a gradient overwrites them
  EXPECT_GT(bytes(Op::kSoft, 131'072, 5, kAlways), 0);
  EXPECT_EQ(bytes(Op::kSoft, 131'073, 5, kAlways), 0);
  for (const Op op : {Op::kHard, Op::kArgmax, Op::kBackward, Op::kNoise})
    EXPECT_EQ(bytes(op, 10'000, 64, kAlways), 0);
  KernelParams a = params({2, 10'000});
  a.output_type = DType::kBFloat16;
  EXPECT_EQ(plan(Op::kSoft, a).weight_cache_bytes, all);
  EXPECT_FALSE(plan(Op::kSoft, a).output_holds_weights);
  a = params({2, 10'000});
  a.rows.class_stride[static_cast<int>(Operand::kOutput)] = 3;
  EXPECT_EQ(plan(Op::kSoft, a).weight_cache_bytes, all);
  EXPECT_FALSE(plan(Op::kSoft, a).output_holds_weights);
}

TEST(Plan, PrunesChoicesOfRowsThatAreLongEnough) {
  for (const Op op : {Op::kHard, Op::kArgmax}) {
    EXPECT_FALSE(plan(op, params({3, 63})).prunes);
    EXPECT_TRUE(plan(op, params({3, 64})).prunes);
    EXPECT_TRUE(plan(op, params({3, 1'000'000})).prunes);
    EXPECT_FALSE(plan(op, params({3, 64}, DType::kFloat64)).prunes);
    EXPECT_FALSE(plan(op, params({3, 511, 16})).prunes);
    EXPECT_TRUE(plan(op, params({3, 512, 16})).prunes);
    EXPECT_TRUE(plan(op, params({3, 8192, 16})).prunes);
    EXPECT_FALSE(plan(op, params({3, 8193, 16})).prunes);  // bounds do not fit in scratch
    EXPECT_FALSE(plan(op, params({3, 600, 15})).prunes);
  }
  EXPECT_FALSE(plan(Op::kSoft, params({3, 1000})).prunes);
}

TEST(Plan, TakesQuotientsOfFloat32RowsThatAreNotSmallAndHaveNoOneHot) {
  EXPECT_FALSE(plan(Op::kSoft, params({3, 16})).divides);
  EXPECT_TRUE(plan(Op::kSoft, params({3, 17})).divides);
  EXPECT_FALSE(plan(Op::kSoft, params({3, 17}, DType::kFloat64)).divides);
  KernelParams a = params({3, 17});
  a.one_hot = &any_float;
  EXPECT_FALSE(plan(Op::kHardSoft, a).divides);
}

TEST(Plan, TakesWeightsOfShortRowsInOnePass) {
  EXPECT_TRUE(plan(Op::kSoft, params({3, 256})).short_rows);
  EXPECT_FALSE(plan(Op::kSoft, params({3, 257})).short_rows);
}

TEST(Plan, StoresRowsAtOnceThatAreShortOrEndWithinLines) {
  const auto stores = [](int64_t classes, int64_t nontemporal_bytes) {
    const Plan made = plan(Op::kSoft, params({3, classes}), nontemporal_bytes);
    EXPECT_TRUE(made.stores_packed_rows_at_once || !made.stores_rows_at_once);
    return std::pair(made.stores_packed_rows_at_once, made.stores_rows_at_once);
  };
  EXPECT_EQ(stores(48, kNever), std::pair(false, false));  // three lines
  EXPECT_EQ(stores(63, kNever), std::pair(true, false));
  EXPECT_EQ(stores(65, kNever), std::pair(false, false));
  EXPECT_EQ(stores(65, kAlways), std::pair(true, true));
  EXPECT_EQ(stores(64, kAlways), std::pair(false, false));
}

TEST(Plan, WritesOneHotsWithTheirLinesWhereStoresAreNontemporal) {
  EXPECT_FALSE(plan(Op::kHard, params({3, 255})).one_hots_in_lines);
  EXPECT_TRUE(plan(Op::kHard, params({3, 255}), kAlways).one_hots_in_lines);
  EXPECT_TRUE(plan(Op::kHard, params({3, 255}), kAlways).short_one_hots);
  EXPECT_FALSE(plan(Op::kHard, params({3, 256}), kAlways).short_one_hots);
  KernelParams a = params({3, 255});
  a.output_type = DType::kFloat64;  // scratch of float32 does not hold them
  EXPECT_FALSE(plan(Op::kHard, a, kAlways).one_hots_in_lines);
}

TEST(Plan, LetsALineBelongToOneTileWhereStoresAreNontemporal) {
  KernelParams a = params({3, 10'001});
  EXPECT_FALSE(plan(Op::kSoft, a).tiles_end_with_lines);
  EXPECT_TRUE(plan(Op::kBackward, a, kAlways).tiles_end_with_lines);
  a.row_value = &any_float;
  EXPECT_TRUE(plan(Op::kSoft, a, kAlways).tiles_end_with_lines);
  EXPECT_FALSE(plan(Op::kBackward, a, kAlways).tiles_end_with_lines);
  a.rows.class_stride[static_cast<int>(Operand::kOutput)] = 3;
  EXPECT_FALSE(plan(Op::kSoft, a, kAlways).tiles_end_with_lines);
}

TEST(Plan, StoresGradientsByTheirOpAndLength) {
  const struct {
    Op op;
    int64_t classes, nontemporal_bytes;
    bool nontemporal, direct, of_weights;
  } cases[] = {
      {Op::kBackward, 256, kNever, false, true, true},
      {Op::kBackward, 240, kAlways, false, true, true},
      {Op::kBackward, 256, kAlways, true, true, true},
      {Op::kBackward, 257, kAlways, false, true, true},
      {Op::kBackward, 2047, kAlways, false, true, true},
      {Op::kBackward, 2049, kAlways, true, true, false},
      {Op::kHardBackward, 15, kNever, false, true, false},
      {Op::kHardBackward, 16, kNever, false, true, true},
      {Op::kHardBackward, 15, kAlways, true, false, true},
      {Op::kHardBackward, 257, kAlways, true, false, true},
      {Op::kHardBackward, 2048, kAlways, true, true, true},
      {Op::kHardBackward, 2049, kAlways, true, true, false},
      {Op::kSoft, 256, kAlways, false, false, false},
  };
  for (const auto& each : cases) {
    KernelParams a = params({3, each.classes});
    Plan made = plan(each.op, a, each.nontemporal_bytes);
    EXPECT_EQ(made.nontemporal_gradients, each.nontemporal) << each.classes;
    EXPECT_EQ(made.direct_gradients, each.direct) << each.classes;
    EXPECT_EQ(made.gradients_of_weights, each.of_weights) << each.classes;
    a.row_value = &any_float;  // the gradient at the temperature is a sum over them
    made = plan(each.op, a, each.nontemporal_bytes);
    EXPECT_FALSE(made.direct_gradients || made.gradients_of_weights) << each.classes;
  }
}

}  // namespace
}  // namespace torch_gumbel::testing
