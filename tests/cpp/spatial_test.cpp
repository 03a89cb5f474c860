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

/// A tensor as if it exceeded the caches: the same bits by another path.
class NontemporalStores : public ::testing::TestWithParam<Op> {
 protected:
  /// invalid: every so many rows one without a distribution.
  void expect_equal_bits(Case wanted, int64_t invalid = 0) {
    Case stored = wanted;
    stored.nontemporal_bytes = 0;
    for (const bool row_value : {false, true}) {
      wanted.row_value = stored.row_value = row_value;
      expect_beginning(stored, wanted, invalid);
      if (HasFailure()) return;
    }
  }

  /// The results of `part` are the first ones of `whole`, which has nontemporal stores.
  void expect_beginning(const Case& whole, const Case& part, int64_t invalid = 0) {
    int count = 0;
    const IsaBuild* builds = fast_builds(count);
    for (int i = 0; i < count; ++i) {
      SCOPED_TRACE(::testing::Message() << builds[i].kernels->name << " " << name_of(whole.output)
                                        << " " << ::testing::PrintToString(whole.sizes));
      const auto stored = results_of(whole, *builds[i].kernels, invalid, true);
      const auto plain = results_of(part, *builds[i].kernels, invalid, false);
      ASSERT_LE(plain.size(), stored.size());
      const auto first = std::mismatch(plain.begin(), plain.end(), stored.begin());
      ASSERT_EQ(first.first - plain.begin(), static_cast<int64_t>(plain.size()))
          << "index of the first result that differs";
    }
  }

 private:
  static std::vector<uint64_t> results_of(const Case& wanted, const cpu::Kernels& kernels,
                                          int64_t invalid, bool nontemporal) {
    Problem problem(wanted);
    EXPECT_EQ(problem.planned().plan.nontemporal, nontemporal);
    for (int64_t row = invalid / 2; invalid > 0 && row < problem.rows(); row += invalid)
      problem.set_input(row, row % problem.classes(), std::nan(""));
    problem.run(kernels);
    return problem.results();
  }
};

TEST_P(NontemporalStores, GiveTheBitsOfOthers) {
  Case wanted;
  wanted.op = GetParam();
  for (const Sizes& sizes : {Sizes{70, 1024}, Sizes{70, 1003}, Sizes{150, 31}, Sizes{600, 7},
                             Sizes{3, 10'000}, Sizes{1, 140'001}, Sizes{2, 40, 251}}) {
    wanted.sizes = sizes;
    expect_equal_bits(wanted);
  }
  wanted.sizes = {2, 40, 256};
  for (const int lead : {0, 4}) {  // classes are whole lines, or not
    wanted.output_lead = lead;
    expect_equal_bits(wanted);
  }
  wanted.output_lead = kAnyLead;
  wanted.output = DType::kBFloat16;
  wanted.sizes = {40, 1003};
  expect_equal_bits(wanted);
}

TEST_P(NontemporalStores, GiveTheBitsOfOthersWhereRowsAreUndefined) {
  Case wanted;
  wanted.op = GetParam();
  for (const Sizes& sizes : {Sizes{70, 1024}, Sizes{150, 501}, Sizes{40, 1501}, Sizes{150, 31}}) {
    wanted.sizes = sizes;
    expect_equal_bits(wanted, 7);
  }
  wanted.output = DType::kFloat16;
  wanted.sizes = {150, 61};
  expect_equal_bits(wanted, 5);
}

/// Cache lines then belong to two tiles, and weights are stored in the output or in the weight
/// cache.
TEST_P(NontemporalStores, GiveTheBitsOfOthersWhereTilesEndWithinLines) {
  Case wanted;
  wanted.op = GetParam();
  for (const int threads : {1, 64})
    for (const Sizes& sizes : {Sizes{4, 10'001}, Sizes{4, 5'001}}) {
      wanted.sizes = sizes, wanted.threads = threads;
      if (threads == 1 || wanted.op == Op::kSoft) expect_equal_bits(wanted);
    }
  for (const DType type : {DType::kBFloat16, DType::kFloat64}) {
    wanted.input = wanted.grad = wanted.output = type;
    wanted.sizes = {4, 10'001};
    expect_equal_bits(wanted);
  }
}

#ifndef __SANITIZE_ADDRESS__
/// The threshold itself; the first rows alone are below it.
TEST_P(NontemporalStores, GiveTheBitsOfSmallOutputs) {
  Case whole;
  whole.op = GetParam();
  whole.row_value = false;
  for (const Sizes& sizes : {Sizes{2100, 1003}, Sizes{40, 60'001}}) {
    whole.sizes = sizes;
    Case part = whole;
    part.full = whole.sizes;
    part.start = {0, 0};
    part.sizes[0] = sizes[0] / 16;
    expect_beginning(whole, part, 7);
  }
}
#endif

INSTANTIATE_TEST_SUITE_P(Kernels, NontemporalStores,
                         ::testing::Values(Op::kSoft, Op::kHard, Op::kHardSoft, Op::kBackward,
                                           Op::kHardBackward),
                         op_name);

}  // namespace
}  // namespace torch_gumbel::testing
