// SPDX-License-Identifier: Apache-2.0
// Rows that clusters of blocks hold in their registers: which ones, and their values.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "on_model.h"
#include "switches.h"

namespace torch_gumbel::testing {
namespace {

using cuda::Family;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Sketch sketch_of(int64_t rows, int64_t classes, DType type = DType::kFloat32) {
  Sketch one = {.type = type, .rows = rows, .classes = classes, .workspace = true};
  one.clusters = true;
  return one;
}

TEST(ClusterPlans, AreTheFewestBlocksThatHoldARow) {
  struct Wanted {
    int64_t classes;
    int blocks, threads;
  };
  for (const Wanted& wanted : std::initializer_list<Wanted>{{16'385, 2, 160},
                                                            {32'768, 2, 256},
                                                            {32'769, 4, 160},
                                                            {50'257, 4, 224},
                                                            {65'536, 4, 256},
                                                            {65'537, 8, 160},
                                                            {128'256, 8, 256},
                                                            {131'072, 8, 256},
                                                            {131'073, 8, 288},
                                                            {262'144, 8, 512}})
    for (const DType type : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      const cuda::Plan plan = plan_of(sketch_of(1000, wanted.classes, type));
      EXPECT_EQ(plan.family, Family::kCluster) << wanted.classes;
      EXPECT_EQ(plan.blocks_per_row, wanted.blocks) << wanted.classes;
      EXPECT_EQ(plan.threads, wanted.threads) << wanted.classes;
      EXPECT_EQ(plan.blocks, 1000 * wanted.blocks);
      EXPECT_EQ(plan.workspace_bytes, 0);
    }
}

TEST(ClusterPlans, AreNoneForOtherRowsOpsAndDevices) {
  EXPECT_EQ(plan_of(sketch_of(1000, 16'384)).family, Family::kRow);
  EXPECT_EQ(plan_of(sketch_of(1056, 262'145)).family, Family::kLooped);
  EXPECT_EQ(plan_of(sketch_of(16, 128'256)).family, Family::kMultiBlock);  // 128 blocks
  EXPECT_EQ(plan_of(sketch_of(17, 128'256)).family, Family::kCluster);
  EXPECT_EQ(plan_of(sketch_of(1056, 20'000, DType::kFloat64)).family, Family::kGeneric);
  for (const Op op : kAllOps) {
    Sketch one = sketch_of(1056, 128'256);
    one.op = op;
    EXPECT_EQ(plan_of(one).family == Family::kCluster, op == Op::kSoft) << name_of(op);
    one.clusters = false;
    EXPECT_NE(plan_of(one).family, Family::kCluster) << name_of(op);
  }
}

TEST(ClusterPlans, OfKernelsAreByTypeAndKey) {
  Sketch one = sketch_of(1000, 20'000);
  EXPECT_EQ(kernels_of(one), "soft_cluster_kernel<Float32, 16, false>");
  one.device_key = true;
  EXPECT_EQ(kernels_of(one), "soft_cluster_kernel<Float32, 16, true>");
  one.type = DType::kBFloat16, one.mixed = true;
  EXPECT_EQ(kernels_of(one), "soft_cluster_kernel<BFloat16, 8, true>");
}

/// Read once: nothing else in this program asks. On the model every kernel is compiled for all.
TEST(ClusterPlans, AVariableTurnsThemOnForNewDevices) {
  ASSERT_EQ(setenv("TORCH_GUMBEL_CUDA_CLUSTERS", "1", 1), 0);
  EXPECT_FALSE(cuda::has_clusters(8));
  EXPECT_TRUE(cuda::has_clusters(9));
  ASSERT_EQ(unsetenv("TORCH_GUMBEL_CUDA_CLUSTERS"), 0);
  EXPECT_TRUE(cuda::has_clusters(12));
}

class ClusterRows : public ::testing::TestWithParam<DType> {
 protected:
  Case base(int64_t rows, int64_t classes) const {
    Case wanted;
    wanted.input = wanted.output = GetParam();
    wanted.sizes = {rows, classes};
    wanted.input_lead = wanted.output_lead = 0;
    return wanted;
  }
};

TEST_P(ClusterRows, AgreeWithTheCpu) {
  for (const int64_t classes :
       kSmall ? Sizes{16'385, 33'000} : Sizes{16'385, 33'000, 131'072, 200'001})
    check_in_clusters(base(1, classes));
  check_in_clusters(base(3, 16'400));
  Case half = base(1, 17'003);
  half.output = DType::kFloat32, half.tau = 0.3;
  check_in_clusters(half);
}

TEST_P(ClusterRows, ThatBeginAnywhereAgreeWithTheCpu) {
  for (const int lead : {1, 3, 6}) {
    Case wanted = base(1, 17'000);
    wanted.input_lead = wanted.output_lead = lead;
    wanted.full = {2, 17'012};
    wanted.start = {0, lead};
    check_in_clusters(wanted);
  }
}

TEST_P(ClusterRows, WithKeysOnTheDeviceAgreeWithTheCpu) {
  static const uint64_t key[] = {7, uint64_t{1} << 33};
  Case wanted = base(2, 16'900);
  wanted.key = {key[0], key[1]};
  wanted.tau_per_row = true;
  check_in_clusters(wanted, [](Problem& problem) {
    problem.arguments().key = key;
    problem.arguments().host_key = {};
  });
}

/// Masked in whole, by a NaN or an infinity in the last block's classes, and but for one class.
TEST_P(ClusterRows, WithoutADistributionAreNan) {
  const int64_t classes = 16'500, last = classes - 2;
  Problem problem(base(5, classes));
  for (const int64_t row : {1, 4})
    for (int64_t k = 0; k < classes; ++k) problem.set_input(row, k, -kInfinity);
  problem.set_input(2, last, std::nan(""));
  problem.set_input(3, last, kInfinity);
  problem.set_input(4, last, -3);
  run_on_model(problem, {.multiprocessors = 2, .clusters = true});
  for (int64_t k = 0; k < classes; k += 97) {
    EXPECT_TRUE(std::isfinite(problem.output(0, k)));
    for (const int64_t row : {1, 2, 3}) ASSERT_TRUE(std::isnan(problem.output(row, k))) << row;
    ASSERT_EQ(problem.output(4, k), 0) << k;
  }
  EXPECT_EQ(problem.output(4, last), 1);
}

INSTANTIATE_TEST_SUITE_P(Model, ClusterRows,
                         ::testing::Values(DType::kFloat32, DType::kFloat16, DType::kBFloat16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace torch_gumbel::testing
