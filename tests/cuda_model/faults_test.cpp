// SPDX-License-Identifier: Apache-2.0
// A model that catches nothing proves nothing: what it must punish, planted.
#include "faults.h"

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <tuple>

#include "contains.h"
#include "model/memory.h"
#include "model/model.h"

namespace cuda_model::testing {
namespace {

constexpr size_t kCount = 128;

/// What the model says of a piece of work; empty if nothing.
template <typename Work>
std::string fault_of(Work work) {
  try {
    work();
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}

class Orders : public ::testing::TestWithParam<Order> {
 protected:
  void SetUp() override { settings() = {GetParam(), 1, true}; }
  void TearDown() override { settings() = {}; }
};

std::string name_of_order(const ::testing::TestParamInfo<Order>& info) {
  const char* names[] = {"Forward", "Reverse", "Shuffled"};
  return names[static_cast<int>(info.param)];
}

constexpr Order kOrders[] = {Order::kForward, Order::kReverse, Order::kShuffled};

struct PlantedFault {
  const char* name;
  Planted planted;
  bool by_access;    // seen only where every access is
  const char* said;  // a regular expression
};

const PlantedFault kFaults[] = {
    {"NoBarrierBeforeRead", Planted::kNoBarrierBeforeRead, true,
     "a read of 4 bytes of shared reduction_kernel<false, true>::of_warp, which nobody has "
     "written"},
    {"NoBarrierBeforeReuse", Planted::kNoBarrierBeforeReuse, true,
     "a write of 4 bytes of shared .*of_warp that thread [0-9]+ read at faults.cu:[0-9]+"},
    {"ReadBeforeWrite", Planted::kReadBeforeWrite, true,
     "of shared shared_fault::words that thread (3 read|40 wrote) at faults.cu"},
    {"TwoWriters", Planted::kTwoWriters, true,
     "a write of 4 bytes of shared shared_fault::words that thread (0|32) wrote at faults.cu"},
    {"AtomicsThenRead", Planted::kAtomicsThenRead, true,
     "a read of 4 bytes of shared shared_fault::counter that thread [0-9]+ wrote at faults.cu"},
    {"ShuffleInsteadOfSyncwarp", Planted::kShuffleInsteadOfSyncwarp, true,
     "a read of 4 bytes of shared shared_fault::words that thread [0-9]+ wrote"},
    {"UnwrittenShared", Planted::kUnwrittenShared, true,
     "thread \\(0, 0, 0\\), .*shared_fault::unwritten, which nobody has written"},
    {"SharedOutOfBounds", Planted::kSharedOutOfBounds, true,
     "thread \\(33, 0, 0\\), at faults.cu:[0-9]+: an array index out of bounds"},
    {"SharedPointerOutOfBounds", Planted::kSharedPointerOutOfBounds, true,
     "thread \\(33, 0, 0\\), at faults.cu:[0-9]+: a pointer to an object smaller than 'float'"},
    {"DynamicSharedOutOfBounds", Planted::kDynamicSharedOutOfBounds, true,
     "thread \\(63, 0, 0\\), .*a write of 4 bytes outside every shared variable"},
    {"TooMuchSharedInFunction", Planted::kTooMuchSharedInFunction, true,
     "too_much::much, with which the kernel's shared memory is over 49152 bytes"},
    {"BarrierOfSome", Planted::kBarrierOfSome, false,
     "at faults.cu:[0-9]+: a barrier that thread \\(40, 0, 0\\) does not reach: it has ended"},
    {"BarrierAfterExit", Planted::kBarrierAfterExit, false,
     "a barrier that thread \\(7, 0, 0\\) does not reach: it has ended"},
    {"DifferentBarriers", Planted::kDifferentBarriers, false,
     "a barrier, while \\([0-9]+, 0, 0\\) waits at another one, faults.cu:[0-9]+"},
    {"ShuffleOfSome", Planted::kShuffleOfSome, false,
     "shuffle (with mask .* names lane [0-9]+, which|that thread \\(20, 0, 0\\) does not reach: "
     "it) has ended"},
    {"ShuffleWithExited", Planted::kShuffleWithExited, false,
     "(names lane 8, which|thread \\(40, 0, 0\\) does not reach: it) has ended"},
    {"ShuffleWithOtherMask", Planted::kShuffleWithOtherMask, false,
     "shuffle (with mask 0xffffffff names lane [0-9]+, which (has ended|gives mask "
     "0x0000ffff)|that thread .* does not reach)"},
    {"ShuffleAtOtherPlace", Planted::kShuffleAtOtherPlace, false,
     "names lane [0-9]+, which is at faults.cu:[0-9]+"},
    {"ShuffleFromUnnamedLane", Planted::kShuffleFromUnnamedLane, false,
     "mask 0x000000ff reads lane 8, which it leaves out"},
    {"ShuffleByUnnamedLane", Planted::kShuffleByUnnamedLane, false,
     "thread \\(8, 0, 0\\), .*by lane 8, which it leaves out"},
    {"ShuffleWithMissingLane", Planted::kShuffleWithMissingLane, false,
     "names lane 20, which the block does not have"},
    {"ShuffleAcrossABarrier", Planted::kShuffleAcrossABarrier, false,
     "names lane 3, which waits at the barrier of faults.cu|a barrier, while .* waits at another "
     "one"},
    {"VoteOfSome", Planted::kVoteOfSome, false,
     "__any_sync.*(lane 31, which has ended|it has ended)"},
    {"VoteOfTheBlockOfSome", Planted::kVoteOfTheBlockOfSome, false,
     "a barrier that thread \\([0-9]+, 0, 0\\) does not reach: it has ended"},
    {"SyncwarpOfSome", Planted::kSyncwarpOfSome, false,
     "__syncwarp.*(lane 3[01], which has ended|it has ended)"},
    {"ReduceOfSome", Planted::kReduceOfSome, false,
     "__reduce_max_sync.*(lane [0-9]+, which has ended|it has ended)"},
    {"MisalignedVector", Planted::kMisalignedVector, true,
     "thread \\(5, 0, 0\\), at faults.cu:[0-9]+: a misaligned pointer to .*float4.*16 bytes"},
    {"MisalignedLoad", Planted::kMisalignedLoad, true,
     "thread \\(5, 0, 0\\), at faults.cu:[0-9]+: a misaligned pointer to .*float4.*16 bytes"},
    {"MisalignedElement", Planted::kMisalignedElement, true,
     "thread \\(5, 0, 0\\), at faults.cu:[0-9]+: a misaligned pointer to 'float'"},
    {"ReadOutOfBounds", Planted::kReadOutOfBounds, true,
     "faulty_kernel, block \\([01], 0, 0\\), thread \\(5, 0, 0\\), at faults.cu:[0-9]+: a read of "
     "4 "
     "bytes out of bounds of global memory"},
    {"ReadBeforeBounds", Planted::kReadBeforeBounds, true, "a read of 4 bytes out of bounds"},
    {"VectorOverTheEnd", Planted::kVectorOverTheEnd, true, "a read of [0-9]+ bytes out of bounds"},
    {"WriteOutOfBounds", Planted::kWriteOutOfBounds, true, "a write of 4 bytes out of bounds"},
    {"NullPointer", Planted::kNullPointer, true, "null pointer"},
    {"BlocksShareAWord", Planted::kBlocksShareAWord, true,
     "a write of 4 bytes of global memory that a thread of another block wrote at faults.cu"},
    {"BlocksReadAndOneWrites", Planted::kBlocksReadAndOneWrites, true,
     "of global memory that a thread of another block (read|wrote) at faults.cu"},
    {"BlockReadsAnother", Planted::kBlockReadsAnother, true,
     "of global memory that a thread of another block (read|wrote) at faults.cu"},
    {"GlobalWithoutBarrier", Planted::kGlobalWithoutBarrier, true,
     "of global memory that thread [0-9]+ (read|wrote) at faults.cu"},
    {"AnotherStack", Planted::kAnotherStack, true, "of another thread's local memory"},
    {"LocalArrayOutOfBounds", Planted::kLocalArrayOutOfBounds, true,
     "an array index out of bounds"},
    {"LocalPointerOutOfBounds", Planted::kLocalPointerOutOfBounds, true,
     "a pointer to an object smaller than 'const float'|an array index out of bounds"},
    {"SignedOverflow", Planted::kSignedOverflow, true, "signed overflow"},
};

std::string name_of_fault(const ::testing::TestParamInfo<std::tuple<PlantedFault, Order>>& info) {
  const char* orders[] = {"Forward", "Reverse", "Shuffled"};
  return std::string(std::get<0>(info.param).name) + "_" +
         orders[static_cast<int>(std::get<1>(info.param))];
}

void PrintTo(const PlantedFault& fault, std::ostream* os) { *os << fault.name; }

class Faults : public ::testing::TestWithParam<std::tuple<PlantedFault, Order>> {};

TEST_P(Faults, IsCaught) {
  const auto& [fault, order] = GetParam();
  settings() = {order, 1, true};
  const auto data = std::make_unique<float[]>(kCount);
  const std::string said = fault_of([&] { run_planted(fault.planted, data.get(), kCount); });
  settings() = {};
  EXPECT_TRUE(contains(said, fault.said)) << "said: " << said;
  EXPECT_NE(said.find("kernel "), std::string::npos) << said;
  EXPECT_NE(said.find(", thread ("), std::string::npos) << said;
}

std::vector<PlantedFault> faults_seen_here() {
  std::vector<PlantedFault> seen;
  for (const PlantedFault& fault : kFaults)
    if (kChecked || !fault.by_access) seen.push_back(fault);
  return seen;
}

INSTANTIATE_TEST_SUITE_P(Model, Faults,
                         ::testing::Combine(::testing::ValuesIn(faults_seen_here()),
                                            ::testing::ValuesIn(kOrders)),
                         name_of_fault);

TEST_P(Orders, TheModelGoesOnAfterAFault) {
  const auto data = std::make_unique<float[]>(kCount);
  EXPECT_NE(fault_of([&] { run_planted(Planted::kBarrierOfSome, data.get(), kCount); }), "");
  EXPECT_EQ(fault_of([&] { run_planted(Planted::kNone, data.get(), kCount); }), "");
  EXPECT_EQ(data[0], 192);
  EXPECT_EQ(data[1], 192);
}

TEST(Launches, OverTheLimitsAreRefused) {
  const auto said = [](dim3 grid, dim3 block, size_t shared) {
    return fault_of([&] { run_idle(grid, block, shared); });
  };
  const std::string who = "kernel idle_kernel, launch: ";
  EXPECT_EQ(said(1, 1025, 0), who + "a block of 1025 x 1 x 1 threads, at most 1024 x 1024 x 64");
  EXPECT_EQ(said(1, {32, 33, 1}, 0), who + "a block of 32 x 33 x 1 threads, together at most 1024");
  EXPECT_EQ(said(1, {1, 1, 65}, 0),
            who + "a block of 1 x 1 x 65 threads, at most 1024 x 1024 x 64");
  EXPECT_NE(said(1, 0, 0), "");
  EXPECT_NE(said(0, 1, 0), "");
  EXPECT_NE(said({1, 65536, 1}, 1, 0), "");
  EXPECT_NE(said({1, 1, 65536}, 1, 0), "");
  EXPECT_NE(said(0x80000000u, 1, 0), "");
  EXPECT_EQ(said(1, 32, 49153), who + "49153 bytes of shared memory, at most 49152");
  EXPECT_EQ(said(2, 1024, 49152), "");
  EXPECT_EQ(said({2, 3, 4}, {8, 2, 64}, 0), "");
}

TEST(Launches, StaticAndDynamicSharedMemoryCountTogether) {
  EXPECT_EQ(fault_of([] { run_large(8 * 1024); }), "");
  EXPECT_EQ(fault_of([] { run_large(8 * 1024 + 1); }),
            "kernel large_kernel, launch: 49153 bytes of shared memory, at most 49152");
}

TEST(Launches, ArgumentsAreWhatTheKernelHas) {
  const auto said = [](KernelParams arguments) {
    return fault_of([&] { run_with_arguments(arguments); });
  };
  const std::string who = "kernel two_arguments_kernel, launch: ";
  EXPECT_EQ(said(KernelParams::kRight), "");
  EXPECT_EQ(said(KernelParams::kNone), who + "no arguments");
  EXPECT_EQ(said(KernelParams::kNullOne), who + "argument 0 is null");
  if (arguments_are_counted()) {
    EXPECT_EQ(said(KernelParams::kTooFew), who + "1 arguments for 2 parameters");
    EXPECT_EQ(said(KernelParams::kTooMany), who + "3 arguments for 2 parameters");
  }
  EXPECT_EQ(fault_of(run_null_kernel), "launch: the kernel is null");
  EXPECT_NE(fault_of(run_from_a_kernel).find("a launch from a kernel"), std::string::npos);
}

TEST(Launches, AreRecorded) {
  take_launches();
  settings().run = false;
  run_idle({1000, 1000, 2}, 64, 128);
  settings() = {};
  const auto launches = take_launches();
  ASSERT_EQ(launches.size(), 1u);
  EXPECT_EQ(launches[0].kernel, "idle_kernel");
  EXPECT_EQ(launches[0].grid.y, 1000u);
  EXPECT_EQ(launches[0].block.x, 64u);
  EXPECT_EQ(launches[0].dynamic_shared, 128u);
  EXPECT_TRUE(take_launches().empty());
}

TEST_P(Orders, WarpFunctionsGiveWhatCudaDocuments) {
  constexpr int kFunctions = 13;
  int out[kFunctions * 32] = {};
  run_warp_functions(out);
  for (int lane = 0; lane < 32; ++lane) {
    const int wanted[kFunctions] = {5,
                                    lane / 8 * 8 + 5,
                                    lane ^ 3,
                                    lane < 2 ? lane : lane - 2,
                                    lane < 2 ? lane + 30 : lane,
                                    static_cast<int>(1.5 * (lane % 8 < 4 ? lane + 4 : lane)),
                                    0x49249249,
                                    1,
                                    0,
                                    11,
                                    -20,
                                    496,
                                    5};
    for (int i = 0; i < kFunctions; ++i)
      EXPECT_EQ(out[32 * i + lane], wanted[i]) << "function " << i << ", lane " << lane;
  }
}

TEST_P(Orders, PartsOfAWarpMeetByThemselves) {
  float out[32] = {};
  run_partial_warps(out);
  const auto first = [](int t) { return static_cast<float>(t == 0 || t == 12 ? t + 1 : t - 1); };
  for (int t = 0; t < 32; ++t) EXPECT_EQ(out[t], first(t) + first(31 - t)) << t;
}

TEST_P(Orders, VotesOfTheBlock) {
  int out[3] = {};
  run_votes_of_the_block(out);
  EXPECT_EQ(out[0], 22);
  EXPECT_EQ(out[1], 1);
  EXPECT_EQ(out[2], 0);
}

#ifndef CUDA_MODEL_CHECKED  // there, counting across threads is a fault
/// Order is what makes a missing barrier show where accesses are not seen.
TEST_P(Orders, BlocksAndThreadsRunInOrder) {
  std::vector<int> forward(12), reverse(12), out(12);
  std::iota(forward.begin(), forward.end(), 0);
  std::iota(reverse.rbegin(), reverse.rend(), 0);
  run_arrival(out.data());
  EXPECT_EQ(out == forward, GetParam() == Order::kForward);
  EXPECT_EQ(out == reverse, GetParam() == Order::kReverse);
}
#endif

INSTANTIATE_TEST_SUITE_P(Model, Orders, ::testing::ValuesIn(kOrders), name_of_order);

}  // namespace
}  // namespace cuda_model::testing
