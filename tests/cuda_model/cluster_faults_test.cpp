// SPDX-License-Identifier: Apache-2.0
// What the model must punish in clusters of blocks, planted.
#include "cluster_faults.h"

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "contains.h"
#include "model/memory.h"
#include "model/model.h"

namespace cuda_model::testing {
namespace {

constexpr unsigned kBlocks = 8, kThreads = 64;
constexpr Order kOrders[] = {Order::kForward, Order::kReverse, Order::kShuffled};

std::string said_of(ClusterFault fault, unsigned cluster, Order order, float* data) {
  settings() = {order, 1, true};
  std::string said;
  try {
    run_in_clusters(fault, kBlocks, kThreads, cluster, data);
  } catch (const Fault& found) {
    said = found.what();
  }
  settings() = {};
  return said;
}

struct PlantedInCluster {
  const char* name;
  ClusterFault fault;
  bool by_access;    // seen only where every access is
  const char* said;  // a regular expression
};

const PlantedInCluster kFaults[] = {
    {"ReadBeforeBegin", ClusterFault::kReadBeforeBegin, true,
     "a read of 4 bytes of shared memory of block [0-3] of the cluster, which may not have begun"},
    {"ReadBeforeBarrier", ClusterFault::kReadBeforeBarrier, true,
     "a (read|write) of 4 bytes of shared neighbour_kernel::word"
     "(, which nobody has written| that a thread of another block (wrote|read) at cluster_faults)"},
    {"WriteWhileRead", ClusterFault::kWriteWhileRead, true,
     "of shared neighbour_kernel::word that (a thread of another block|thread [0-9]+) (wrote|read) "
     "at cluster_faults"},
    {"LeaveWhileRead", ClusterFault::kLeaveWhileRead, false,
     "its block ends, with nothing to order that after the read|of block [0-3], which has ended"},
    {"BarrierOfSome", ClusterFault::kBarrierOfSome, false,
     "a barrier of the cluster that thread \\(3, 0, 0\\) of block \\([15], 0, 0\\) does not reach: "
     "it has ended"},
    {"ArriveTwice", ClusterFault::kArriveTwice, false, "a second arrival .* without a wait"},
    {"WaitWithoutArrival", ClusterFault::kWaitWithoutArrival, false,
     "a wait at the cluster's barrier without an arrival"},
    {"RankOutside", ClusterFault::kRankOutside, false, "map_shared_rank\\(\\) of block 4 of 4"},
    {"NoSharedVariable", ClusterFault::kNoSharedVariable, false,
     "map_shared_rank\\(\\) of block [0-3] for no shared variable"},
};

class PlantedInClusters : public ::testing::TestWithParam<std::tuple<PlantedInCluster, Order>> {};

TEST_P(PlantedInClusters, IsCaught) {
  const auto& [planted, order] = GetParam();
  float data[kBlocks * kThreads] = {};
  const std::string said = said_of(planted.fault, 4, order, data);
  EXPECT_TRUE(contains(said, planted.said)) << "said: " << said;
  EXPECT_NE(said.find("kernel neighbour_kernel, block ("), std::string::npos) << said;
}

std::string name_of_fault(const ::testing::TestParamInfo<std::tuple<PlantedInCluster, Order>>& i) {
  const char* orders[] = {"Forward", "Reverse", "Shuffled"};
  return std::string(std::get<0>(i.param).name) + "_" +
         orders[static_cast<int>(std::get<1>(i.param))];
}

std::vector<PlantedInCluster> faults_seen_here() {
  std::vector<PlantedInCluster> seen;
  for (const PlantedInCluster& planted : kFaults)
    if (kChecked || !planted.by_access) seen.push_back(planted);
  return seen;
}

INSTANTIATE_TEST_SUITE_P(Model, PlantedInClusters,
                         ::testing::Combine(::testing::ValuesIn(faults_seen_here()),
                                            ::testing::ValuesIn(kOrders)),
                         name_of_fault);

TEST(Clusters, BlocksReadEachOther) {
  for (const Order order : kOrders)
    for (const unsigned cluster : {1, 2, 4, 8})
      for (const auto fault : {ClusterFault::kNone, ClusterFault::kNoneWithSplitBarrier}) {
        float data[kBlocks * kThreads] = {};
        EXPECT_EQ(said_of(fault, cluster, order, data), "");
        for (unsigned block = 0; block < kBlocks; ++block) {
          const unsigned next = block / cluster * cluster + (block + 1) % cluster;
          EXPECT_EQ(data[block * kThreads + 5], static_cast<float>(next)) << cluster;
        }
      }
}

TEST(Clusters, OverTheLimitsAreRefused) {
  const auto said = [](dim3 cluster) {
    try {
      run_in_clusters(ClusterFault::kNone, kBlocks, kThreads, cluster, nullptr);
    } catch (const Fault& found) {
      return std::string(found.what());
    }
    return std::string();
  };
  const std::string who = "kernel neighbour_kernel, launch: a cluster of ";
  EXPECT_EQ(said(16), who + "16 x 1 x 1 blocks, at most 8 x 1 x 1 here");
  EXPECT_EQ(said({2, 2, 1}), who + "2 x 2 x 1 blocks, at most 8 x 1 x 1 here");
  EXPECT_EQ(said(3), who + "3 x 1 x 1 blocks in a grid of 8 x 1 x 1");
}

}  // namespace
}  // namespace cuda_model::testing
