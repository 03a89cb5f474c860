// SPDX-License-Identifier: Apache-2.0
// Spatial rows (`dim` is not the last one, 16 and more neighbours), and outputs so large that they
// are written with nontemporal stores.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "isa_probe.h"
#include "problem.h"
#include "reference.h"

namespace torch_gumbel::testing {
namespace {

std::string op_name(const ::testing::TestParamInfo<Op>& info) { return name_of(info.param); }

class SpatialRows : public ::testing::TestWithParam<Op> {};

TEST_P(SpatialRows, MatchTheReferenceForEveryNumberOfClassesAndRows) {
  for (const int64_t inner : {1, 2, 15, 16, 17, 49, 64, 130, 257, 300})
    for (const int64_t classes : {1, 2, 7, 31, 33, 100, 511, 512}) {
      Case wanted;
      wanted.op = GetParam();
      wanted.sizes = {2, classes, inner};
      wanted.tau = 0.6;
      check_every_build(wanted);
      if (HasFailure()) return;
    }
}

TEST_P(SpatialRows, MatchTheReferenceOverTilesAndBeyond) {
  for (const int64_t classes : {2047, 2048, 2049, 5000, 8192, 8193, 10'000}) {
    Case wanted;
    wanted.op = GetParam();
    wanted.dim = 0;
    wanted.sizes = {classes, 18};
    wanted.tau_per_row = classes % 2 == 1;
    check_every_build(wanted);
    if (HasFailure()) return;
  }
}

TEST_P(SpatialRows, MatchTheReferenceInEveryElementTypeAndPlacement) {
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16})
    for (const Placement place :
         {Placement::kContiguous, Placement::kGaps, Placement::kStepped, Placement::kTransposed})
      for (const bool per_row : {false, true}) {
        Case wanted;
        wanted.op = GetParam();
        wanted.input = wanted.grad = wanted.output = type;
        wanted.input_place = wanted.grad_place = place;
        wanted.sizes = {2, 70, 33};
        wanted.tau_per_row = per_row;
        check_every_build(wanted);
        if (HasFailure()) return;
      }
}

TEST_P(SpatialRows, MatchTheReferenceForKeysOfABatchAndShards) {
  Case wanted;
  wanted.op = GetParam();
  wanted.sizes = {3, 40, 37};
  wanted.key_batch = 1;
  check_every_build(wanted);
  wanted.key_batch = 0;
  wanted.full = {5, 64, 90};
  wanted.start = {1, 11, 23};
  check_every_build(wanted);
  wanted.key = {5, (uint64_t{1} << 32) - 40};  // the low counter word wraps among the runs
  check_every_build(wanted);
}

INSTANTIATE_TEST_SUITE_P(Kernels, SpatialRows, ::testing::ValuesIn(kAllOps), op_name);

/// A tensor, and its first rows alone: too small for nontemporal stores, for the same bits by
/// another path.
class NontemporalStores : public ::testing::TestWithParam<Op> {
 protected:
  /// invalid: every so many rows one without a distribution.
  void expect_first_rows_alone(Case wanted, int64_t alone, int64_t invalid = 0) {
    int count = 0;
    const IsaBuild* builds = fast_builds(count);
    for (int i = 0; i < count; ++i) {
      SCOPED_TRACE(::testing::Message() << builds[i].kernels->name << " " << name_of(wanted.output)
                                        << " " << ::testing::PrintToString(wanted.sizes));
      Problem whole(wanted);
      ASSERT_TRUE(cpu::uses_nontemporal(whole.arguments()));
      invalidate(whole, invalid);
      whole.run(*builds[i].kernels);
      Case part = wanted;
      part.full = wanted.sizes;
      part.start = Sizes(wanted.sizes.size(), 0);
      part.sizes[0] = alone;
      Problem first(part);
      ASSERT_FALSE(cpu::uses_nontemporal(first.arguments()));
      invalidate(first, invalid);
      first.run(*builds[i].kernels);
      const bool one_hot = wanted.op == Op::kHardSoft;
      for (int64_t row = 0; row < first.rows(); ++row)
        for (int64_t k = 0; k < first.classes(); ++k) {
          ASSERT_EQ(bits(whole.output(row, k)), bits(first.output(row, k)))
              << "row " << row << ", class " << k;
          if (one_hot) {
            ASSERT_EQ(bits(whole.one_hot(row, k)), bits(first.one_hot(row, k)))
                << "one-hot of row " << row << ", class " << k;
          }
        }
    }
  }

 private:
  static void invalidate(Problem& problem, int64_t every) {
    for (int64_t row = every / 2; every > 0 && row < problem.rows(); row += every)
      problem.set_input(row, row % problem.classes(), std::nan(""));
  }
  static uint64_t bits(double value) {
    return value != value ? ~uint64_t{0} : math::bit_cast<uint64_t>(value);
  }
};

TEST_P(NontemporalStores, GiveTheBitsOfSmallOutputs) {
  Case wanted;
  wanted.op = GetParam();
  for (const Sizes& sizes : {Sizes{2100, 1024}, Sizes{2100, 1003}, Sizes{70'000, 31},
                             Sizes{300'000, 7}, Sizes{40, 60'000}, Sizes{16, 140'001}}) {
    wanted.sizes = sizes;
    expect_first_rows_alone(wanted, std::max<int64_t>(1, sizes[0] / 16));
  }
  wanted.sizes = {20, 500, 256};
  expect_first_rows_alone(wanted, 2);
  wanted.sizes = {20, 500, 251};
  expect_first_rows_alone(wanted, 2);
  wanted.output = DType::kBFloat16;
  wanted.sizes = {4300, 1003};
  expect_first_rows_alone(wanted, 300);
}

TEST_P(NontemporalStores, GiveTheBitsOfSmallOutputsWhereRowsAreUndefined) {
  Case wanted;
  wanted.op = GetParam();
  for (const Sizes& sizes :
       {Sizes{2100, 1024}, Sizes{4200, 501}, Sizes{1500, 1501}, Sizes{70'000, 31}}) {
    wanted.sizes = sizes;
    expect_first_rows_alone(wanted, sizes[0] / 16, 7);
  }
  wanted.output = DType::kFloat16;
  wanted.sizes = {70'000, 61};
  expect_first_rows_alone(wanted, 4000, 5);
}

/// Cache lines then belong to two tiles, and weights are stored in the output or in the weight
/// cache.
TEST_P(NontemporalStores, GiveTheBitsOfSmallOutputsWhereTilesEndWithinLines) {
  Case wanted;
  wanted.op = GetParam();
  wanted.row_value = false;
  for (const int threads : {1, 64})
    for (const Sizes& sizes : {Sizes{40, 60'001}, Sizes{500, 5'001}}) {
      wanted.sizes = sizes, wanted.threads = threads;
      if (threads == 1 || wanted.op == Op::kSoft) expect_first_rows_alone(wanted, sizes[0] / 16);
    }
  for (const DType type : {DType::kBFloat16, DType::kFloat64}) {
    wanted.input = wanted.grad = wanted.output = type;
    wanted.sizes = {type == DType::kFloat64 ? 20 : 80, 60'001};
    expect_first_rows_alone(wanted, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, NontemporalStores,
                         ::testing::Values(Op::kSoft, Op::kHard, Op::kHardSoft, Op::kBackward,
                                           Op::kHardBackward),
                         op_name);

}  // namespace
}  // namespace torch_gumbel::testing
