// SPDX-License-Identifier: Apache-2.0
// Layouts: any class dimension, strides, shards, batched keys, temperatures per row. What an
// element gets depends on its position in the logical shape only.
#include <gtest/gtest.h>

#include <string>

#include "isa_probe.h"
#include "problem.h"
#include "reference.h"

namespace torch_gumbel::testing {
namespace {

constexpr Placement kPlacements[] = {Placement::kContiguous, Placement::kGaps, Placement::kStepped,
                                     Placement::kTransposed};

struct Shape {
  Sizes sizes;
  int dim;
};

/// Short rows and long ones, along the last dimension, the middle, and the first.
std::vector<Shape> shapes() {
  return {{{37}, 0},         {{5, 7}, 1},       {{5, 7}, 0},        {{3, 4, 5}, 1},
          {{2, 130, 70}, 1}, {{130, 3, 2}, 0},  {{2, 3, 4, 9}, 2},  {{1, 1, 1}, 2},
          {{3, 1, 5}, 1},    {{2, 300}, 1},     {{300, 200}, 0},    {{1500, 50}, 0},
          {{3000, 3}, 0},    {{2, 3000, 3}, 1}, {{2, 3, 2500}, 2},  {{9000, 2}, 0},
          {{2, 9000}, 1},    {{2, 8500, 2}, 1}, {{66, 2, 3, 2}, 0}, {{3, 5, 1}, 2}};
}

class Layouts : public ::testing::TestWithParam<Op> {
 protected:
  /// Every build against the reference, over all shapes; `change` makes the case.
  template <typename F>
  void check(F&& change) {
    int count = 0;
    const IsaBuild* builds = runnable_builds(count);
    for (const Shape& shape : shapes())
      for (int i = 0; i < count && !HasFailure(); ++i) {
        Case wanted;
        wanted.op = GetParam();
        wanted.sizes = shape.sizes;
        wanted.dim = shape.dim;
        if (!change(wanted)) continue;
        SCOPED_TRACE(::testing::Message() << builds[i].kernels->name << ", dim " << shape.dim
                                          << " of " << ::testing::PrintToString(shape.sizes));
        Problem problem(wanted);
        problem.run(*builds[i].kernels);
        expect_reference(problem);
      }
  }
};

TEST_P(Layouts, EveryPlacementMatchesTheReference) {
  for (const Placement place : kPlacements)
    check([&](Case& wanted) {
      wanted.input_place = wanted.grad_place = wanted.output_place = place;
      return true;
    });
}

TEST_P(Layouts, OperandsMayLieDifferently) {
  check([&](Case& wanted) {
    wanted.input_place = Placement::kTransposed;
    wanted.grad_place = Placement::kBroadcast;
    wanted.grad = DType::kBFloat16;
    return true;
  });
  check([&](Case& wanted) {
    wanted.input_place = Placement::kStepped;
    wanted.grad_place = Placement::kGaps;
    wanted.input = DType::kFloat16;
    wanted.output = DType::kFloat64;
    return true;
  });
  check([&](Case& wanted) {
    wanted.input_place = Placement::kGaps;
    wanted.output_place = Placement::kTransposed;
    wanted.input = wanted.grad = wanted.output = DType::kFloat64;
    return true;
  });
}

TEST_P(Layouts, TemperaturesPerRow) {
  for (const DType type : kAllTypes)
    check([&](Case& wanted) {
      wanted.tau_per_row = true;
      wanted.tau_type = type;
      wanted.tau = 0.5;
      return true;
    });
}

TEST_P(Layouts, KeysOfABatch) {
  for (const int batch : {1, 2})
    check([&](Case& wanted) {
      wanted.key_batch = batch;
      wanted.tau_per_row = batch == 2;
      return batch <= wanted.dim;
    });
}

TEST_P(Layouts, ShardsOfALargerTensor) {
  check([&](Case& wanted) {
    for (const int64_t size : wanted.sizes) {
      wanted.full.push_back(2 * size + 3);
      wanted.start.push_back(size / 2 + 1);
    }
    return true;
  });
  check([&](Case& wanted) {  // of more than 2^32 blocks
    wanted.full = wanted.sizes;
    wanted.start.assign(wanted.sizes.size(), 0);
    wanted.full[0] = int64_t{1} << 45;
    wanted.start[0] = (int64_t{1} << 44) + 5;
    return true;
  });
}

TEST_P(Layouts, ShardsOfABatchWithKeys) {
  check([&](Case& wanted) {
    wanted.key_batch = 1;
    wanted.full = wanted.sizes;
    wanted.start.assign(wanted.sizes.size(), 0);
    wanted.full.back() += 5;
    wanted.start.back() = 3;
    return wanted.dim >= 1;
  });
}

/// The same logical tensor, however it lies and wherever rows are divided, gives the same bits.
TEST_P(Layouts, PlacementAndSplitsDoNotChangeBits) {
  const cpu::Kernels& kernels = cpu::selected_kernels();
  for (const Shape& shape : shapes()) {
    Case wanted;
    wanted.op = GetParam();
    wanted.sizes = shape.sizes;
    wanted.dim = shape.dim;
    Problem whole(wanted);
    whole.run(kernels);
    for (const Placement place : kPlacements) {
      wanted.input_place = wanted.grad_place = wanted.output_place = place;
      Problem placed(wanted);
      placed.run(kernels);
      EXPECT_TRUE(placed.results() == whole.results()) << "placement " << static_cast<int>(place);
    }
    if (whole.planned().plan.path == cpu::Path::kTiles) continue;
    Problem divided(wanted);
    for (int64_t begin = 0, end; begin < divided.rows(); begin = end) {
      end = std::min(divided.rows(), begin + 1 + begin % 13);
      divided.with_scratch(
          [&](void* scratch) { kernels.rows(divided.planned(), begin, end, scratch); });
    }
    EXPECT_TRUE(divided.results() == whole.results()) << "divided rows";
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Layouts, ::testing::ValuesIn(kAllOps),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace torch_gumbel::testing
