// SPDX-License-Identifier: Apache-2.0
// Which path takes which shape, in which groups, with how much memory: around every threshold.
#include <gtest/gtest.h>

#include <algorithm>

#include "plan_params.h"

namespace torch_gumbel::testing {
namespace {

using cpu::Path;
using cpu::Plan;

TEST(Plan, GivesEachShapeItsPath) {
  const struct {
    Op op;
    Shape shape;
    int64_t nontemporal_bytes;
    Path path;
  } cases[] = {
      {Op::kSoft, {3, 2048}, kNever, Path::kRows},
      {Op::kSoft, {3, 2049}, kNever, Path::kTiles},
      {Op::kHardSoft, {3, 2049}, kNever, Path::kTiles},
      {Op::kHard, {3, 8192}, kNever, Path::kRows},
      {Op::kHard, {3, 8193}, kNever, Path::kTiles},
      {Op::kNoise, {3, 8192}, kNever, Path::kRows},
      {Op::kNoise, {3, 8193}, kNever, Path::kTiles},
      {Op::kBackward, {3, 8192}, kNever, Path::kRows},
      {Op::kHardBackward, {3, 8193}, kNever, Path::kTiles},
      {Op::kSoft, {3, 256}, kAlways, Path::kRows},
      {Op::kSoft, {3, 257}, kAlways, Path::kLines},
      {Op::kHardSoft, {3, 2048}, kAlways, Path::kLines},
      {Op::kSoft, {3, 2049}, kAlways, Path::kTiles},
      {Op::kHard, {3, 1000}, kAlways, Path::kRows},
      {Op::kHardBackward, {3, 1000}, kAlways, Path::kRows},
      {Op::kSoft, {3, 10, 15}, kNever, Path::kRows},
      {Op::kSoft, {3, 10, 16}, kNever, Path::kSpatial},
      {Op::kSoft, {3, 9000, 16}, kNever, Path::kSpatial},
      {Op::kSoft, {3, 8192, 15}, kNever, Path::kRows},
      {Op::kSoft, {3, 8193, 15}, kNever, Path::kTiles},
      {Op::kSoft, {3, 1000, 16}, kAlways, Path::kSpatial},
      {Op::kSoft, {3, 1, 16}, kNever, Path::kRows},  // of one class: no stride counts
  };
  for (const auto& each : cases)
    EXPECT_EQ(plan(each.op, params(each.shape), each.nontemporal_bytes).path, each.path)
        << "op " << static_cast<int>(each.op) << ", " << each.shape.rows << " x "
        << each.shape.classes << " x " << each.shape.inner;
}

TEST(Plan, TakesRowsAsSpatialUnderOneKeyAndOnlyWithConsecutiveWords) {
  KernelParams a = params({3, 10, 16});
  a.key = any_key;
  const int key = static_cast<int>(Operand::kKey), word = static_cast<int>(Operand::kWord);
  a.rows.stride[key][1] = 2;
  EXPECT_EQ(plan(Op::kSoft, a).path, Path::kRows);
  a.rows.stride[key][1] = 0;
  EXPECT_EQ(plan(Op::kSoft, a).path, Path::kSpatial);
  a.rows.stride[word][1] = 2;
  EXPECT_EQ(plan(Op::kSoft, a).path, Path::kRows);
}

TEST(Plan, ComputesFloat64InFloat64AndTheRestInFloat32) {
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16}) {
    const DType opmath = type == DType::kFloat64 ? type : DType::kFloat32;
    KernelParams a = params({3, 10}, type);
    a.output_type = DType::kFloat16;
    EXPECT_EQ(plan(Op::kSoft, a).opmath, opmath);
    a.input_type = DType::kFloat16, a.output_type = type;  // noise has no input
    EXPECT_EQ(plan(Op::kNoise, a).opmath, opmath);
  }
}

TEST(Plan, FillsATileWithAGroupOfRows) {
  const struct {
    int64_t classes, rows;
  } cases[] = {{1, 2048}, {2, 1024}, {31, 64},  {127, 16}, {128, 16}, {129, 15}, {136, 15},
               {137, 14}, {682, 3},  {1024, 2}, {1025, 1}, {2048, 1}, {9000, 1}};
  for (const auto& [classes, rows] : cases)
    EXPECT_EQ(plan(Op::kHard, params({3, classes})).rows_per_group, rows) << classes;
}

TEST(Plan, DividesTheInnermostDimensionIntoEqualGroups) {
  const struct {
    int64_t classes, inner, rows;
  } cases[] = {{10, 16, 16},     {10, 17, 32},      {10, 256, 256},
               {10, 257, 144},   {10, 513, 176},    {1024, 256, 256},
               {1025, 256, 128}, {20'000, 256, 16}, {8192, 33, 32}};
  for (const auto& [classes, inner, rows] : cases)
    EXPECT_EQ(plan(Op::kHard, params({3, classes, inner})).rows_per_group, rows)
        << classes << " " << inner;
}

TEST(Plan, CallsForGroupsThatEndWithLinesWhereLinesAreWritten) {
  const struct {
    int64_t classes, rows;
  } cases[] = {{256, 8},   {257, 224}, {501, 128}, {512, 64},
               {1003, 32}, {1024, 32}, {2047, 16}, {2048, 16}};
  for (const auto& [classes, rows] : cases)
    EXPECT_EQ(plan(Op::kSoft, params({1000, classes}), kAlways).rows_per_call, rows) << classes;
  EXPECT_EQ(plan(Op::kSoft, params({1000, 1003})).rows_per_call, 2);
}

TEST(Plan, SharesTilesWhereTheBusiestThreadThenTakesFewer) {
  const struct {
    int64_t rows, classes;
    int threads;
    bool shared;
  } cases[] = {{3, 32'768, 2, false}, {3, 32'769, 2, true},   {2, 100'000, 2, false},
               {1, 100'000, 2, true}, {1, 100'000, 1, false}, {1, 32'768, 8, false}};
  for (const auto& each : cases) {
    const Plan made = plan(Op::kSoft, params({each.rows, each.classes}), kNever, each.threads);
    EXPECT_EQ(made.share_tiles, each.shared) << each.rows << " x " << each.classes;
    if (each.shared) {
      EXPECT_EQ(made.grain, 16);
    }
  }
}

TEST(Plan, GivesAThreadAtLeastThirtyTwoThousandElements) {
  EXPECT_EQ(plan(Op::kHard, params({999, 32})).grain, 16);       // calls of 64 rows
  EXPECT_EQ(plan(Op::kHard, params({999, 8192})).grain, 4);      // rows
  EXPECT_EQ(plan(Op::kHard, params({999, 10, 256})).grain, 12);  // calls of 256 rows
  EXPECT_EQ(plan(Op::kSoft, params({999, 8192})).grain, 4);      // rows in tiles
  EXPECT_EQ(plan(Op::kSoft, params({999, 100'000})).grain, 1);
}

TEST(Plan, TakesAtMost64KiBOfScratchForRowsAlongTheLastDimension) {
  for (const Op op : {Op::kSoft, Op::kHard, Op::kArgmax, Op::kNoise})
    for (int64_t classes = 1; classes <= 20'000; ++classes)
      ASSERT_LE(plan(op, params({3000, classes})).scratch_bytes, 65'536) << classes;
}

TEST(Plan, TakesScratchForGradientsThatAreCopied) {
  KernelParams a = params({100, 100});
  const int64_t one = (20 / 16 * 16 * 100 + cpu::kScratchSlack) * 4;
  EXPECT_EQ(plan(Op::kHardBackward, a).scratch_bytes, one);
  a.grad_type = DType::kFloat16;
  EXPECT_EQ(plan(Op::kHardBackward, a).scratch_bytes, 2 * one);
  EXPECT_EQ(plan(Op::kSoft, a).scratch_bytes, one);
  EXPECT_EQ(plan(Op::kSoft, params({3, 100})).scratch_bytes, (300 + cpu::kScratchSlack) * 4);
}

TEST(Plan, HoldsSpatialRowsUpToTheLongestOfScratch) {
  EXPECT_TRUE(plan(Op::kSoft, params({3, 8192, 16})).holds_rows);
  EXPECT_FALSE(plan(Op::kSoft, params({3, 8193, 16})).holds_rows);
  EXPECT_EQ(plan(Op::kSoft, params({3, 8192, 16})).scratch_bytes, (8192 + 4 * 4) * 16 * 4);
  EXPECT_EQ(plan(Op::kSoft, params({3, 20'000, 16})).scratch_bytes, (8192 + 4 * 10) * 16 * 4);
}

TEST(Plan, OfRelativeEntropyFillsATileAlongClassesAndMoreAcrossThem) {
  const struct {
    Shape shape;
    int64_t rows;
  } cases[] = {{{999, 1}, 256},       {{999, 8}, 256},       {{999, 9}, 227},
               {{999, 2048}, 1},      {{999, 2049}, 1},      {{999, 256, 20}, 256},
               {{999, 257, 20}, 255}, {{999, 2048, 20}, 32}, {{999, 9000, 20}, 32}};
  for (const auto& [shape, rows] : cases) {
    const Plan made = cpu::make_kl_plan(params(shape).rows, DType::kFloat32);
    EXPECT_EQ(made.rows_per_group, rows) << shape.classes;
    const int64_t values = rows * std::min(shape.classes, cpu::kTile) + cpu::kScratchSlack;
    EXPECT_EQ(made.scratch_bytes, 2 * values * 4) << shape.classes;
    EXPECT_EQ(made.grain, std::max<int64_t>(1, 32'768 / shape.classes)) << shape.classes;
  }
  EXPECT_EQ(cpu::make_kl_plan(params({3, 9}).rows, DType::kFloat64).opmath, DType::kFloat64);
}

}  // namespace
}  // namespace torch_gumbel::testing
