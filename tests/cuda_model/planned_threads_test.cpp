// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "on_model.h"
#include "switches.h"

namespace torch_gumbel::testing {
namespace {

using cuda::Family;

constexpr int64_t kMost = 300'000;

/// Of a block that reads a row in passes.
int looped_bound(Op op, bool device_key) {
  switch (op) {
    case Op::kSoft:
      return device_key ? 320 : 512;
    case Op::kBackward:
      return 512;
    case Op::kHardSoft:
      return 384;
    case Op::kHardBackward:
      return device_key ? 256 : 320;
    default:
      return 256;
  }
}

void check_bounds(Op op, DType type, int64_t classes) {
  for (const bool device_key : {false, true}) {
    const cuda::Plan plan = plan_of(
        {.op = op, .type = type, .rows = 100, .classes = classes, .device_key = device_key});
    const bool grads = op == Op::kBackward || op == Op::kHardBackward;
    const int items = plan.classes_per_thread * (grads ? 2 : 1);
    const int row = !plan.block_per_row ? 128 : items <= 32 ? 256 : 512;
    const int bound = plan.family == Family::kRow      ? row
                      : plan.family == Family::kLooped ? looped_bound(op, device_key)
                                                       : 256;
    EXPECT_LE(plan.threads, bound) << name_of(op) << " of " << classes;
  }
}

/// Blocks' sizes that the kernels' launch bounds allow, which the model does not know.
TEST(PlannedThreads, KeepTheLaunchBounds) {
  for (const Op op : kAllOps)
    for (const DType type : {DType::kFloat32, DType::kBFloat16})
      for (const int64_t at : switches(op, type, kMost))
        for (const int64_t classes : {at - 1, at}) check_bounds(op, type, classes);
}

/// Halves of spatial rows whose kernels need the most registers.
TEST(PlannedThreads, OfSpatialRowsKeepTheLaunchBounds) {
  for (const Op op : kAllOps)
    for (const DType type : {DType::kFloat32, DType::kBFloat16})
      for (const bool device_key : {false, true}) {
        if (op == Op::kNoise) continue;
        const cuda::Plan plan = plan_of({.op = op,
                                         .type = type,
                                         .rows = 64,
                                         .classes = 100,
                                         .inner = 64,
                                         .device_key = device_key});
        const bool more = op == Op::kHardBackward || (op == Op::kHardSoft && device_key);
        EXPECT_EQ(plan.family, Family::kSpatial);
        EXPECT_EQ(plan.threads, more && type == DType::kBFloat16 ? 192 : 256) << name_of(op);
      }
}

}  // namespace
}  // namespace torch_gumbel::testing
