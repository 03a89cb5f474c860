// SPDX-License-Identifier: Apache-2.0
// Any class dimension, strides, element types, forms of tau and key, and shards.
#include <gtest/gtest.h>

#include "../cpp/extended_positions.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

constexpr Placement kPlacements[] = {Placement::kContiguous, Placement::kGaps, Placement::kStepped,
                                     Placement::kTransposed};

struct Shape {
  Sizes sizes;
  int dim;
};

std::vector<Shape> shapes() {
  std::vector<Shape> all = {
      {{37}, 0},           {{5, 7}, 1},        {{5, 7}, 0},       {{3, 4, 5}, 1},  {{2, 13, 20}, 1},
      {{34, 3, 2}, 0},     {{1, 1, 1}, 2},     {{2, 3, 4, 9}, 2}, {{3, 1, 5}, 1},  {{2, 300}, 1},
      {{33, 50}, 0},       {{2, 64, 3, 5}, 1}, {{66, 2, 3}, 0},   {{1000, 3}, 0},  {{3, 12, 8}, 1},
      {{2, 37, 4, 16}, 1}, {{9, 8}, 0},        {{2, 5, 272}, 1},  {{2, 300, 8}, 1}};
  const std::vector<Shape> longer = {{{300, 40}, 0},      {{2, 19, 9, 7}, 1}, {{3000, 3}, 0},
                                     {{2, 3000, 3}, 1},   {{2, 3, 2500}, 2},  {{9000, 2}, 0},
                                     {{2, 256, 7, 5}, 1}, {{2, 9000}, 1}};
  const std::vector<Shape> many = {{{300, 200}, 0}, {{3, 19, 33, 17}, 1}, {{2, 256, 16, 16}, 1}};
  if (!kSmall) all.insert(all.end(), longer.begin(), longer.end());
  if (deep()) all.insert(all.end(), many.begin(), many.end());
  return all;
}

class LayoutsOnModel : public ::testing::TestWithParam<Op> {
 protected:
  /// Over all shapes; `choose` makes the case, or says that there is none.
  template <typename Choose>
  void check(Choose choose, const Change& change = {}) {
    for (const Shape& shape : shapes()) {
      Case wanted;
      wanted.op = GetParam();
      wanted.sizes = shape.sizes;
      wanted.dim = shape.dim;
      wanted.input_lead = wanted.grad_lead = wanted.output_lead = 0;
      if (!choose(wanted)) continue;
      check_on_model(wanted, change);
      if (HasFailure()) return;
    }
  }
};

TEST_P(LayoutsOnModel, EveryPlacement) {
  for (const DType type : kAllTypes)
    for (const Placement place : kPlacements)
      check([&](Case& wanted) {
        const bool usual = type == DType::kFloat32 || place == Placement::kTransposed || deep();
        if (!usual && (kSmall || place == Placement::kGaps)) return false;
        wanted.input = wanted.grad = wanted.output = type;
        wanted.input_place = wanted.grad_place = wanted.output_place = place;
        return true;
      });
}

TEST_P(LayoutsOnModel, OperandsThatLieDifferently) {
  check([](Case& wanted) {
    wanted.input_place = Placement::kTransposed;
    wanted.grad_place = Placement::kBroadcast;
    wanted.grad = DType::kBFloat16;
    return true;
  });
  check([](Case& wanted) {
    wanted.grad_place = Placement::kBroadcast;
    wanted.output_lead = 1;
    return true;
  });
  check([](Case& wanted) {
    wanted.one_hot_lead = 1;
    return wanted.op == Op::kHardSoft;
  });
  check([](Case& wanted) {
    wanted.input_place = Placement::kStepped;
    wanted.grad_place = Placement::kGaps;
    wanted.input = DType::kFloat16;
    wanted.output = DType::kFloat64;
    return true;
  });
  check([](Case& wanted) {
    wanted.input_place = Placement::kGaps;
    wanted.output_place = Placement::kTransposed;
    wanted.input = wanted.grad = wanted.output = DType::kFloat64;
    return true;
  });
}

/// Of contiguous rows, and of spatial rows.
TEST_P(LayoutsOnModel, EveryOutputAndGradientType) {
  const std::vector<Shape> mixed = {{{3, 17}, 1},   {{3, 32}, 1}, {{3, 300}, 1},
                                    {{3, 2100}, 1}, {{5, 16}, 0}, {{60, 16}, 0}};
  for (const DType input : kAllTypes)
    for (const DType output : kAllTypes)
      for (const DType grad : kAllTypes)
        for (const Shape& shape : mixed) {
          const bool reads_grad = GetParam() == Op::kBackward || GetParam() == Op::kHardBackward;
          if ((grad != output && !reads_grad) || (kSmall && shape.sizes[1] > 300)) continue;
          Case wanted{.op = GetParam(), .sizes = shape.sizes, .dim = shape.dim, .input = input};
          wanted.grad = grad, wanted.output = output;
          wanted.input_lead = wanted.grad_lead = wanted.output_lead = 0;
          wanted.row_value = shape.sizes[1] != 17;
          check_on_model(wanted);
          if (HasFailure()) return;
        }
}

TEST_P(LayoutsOnModel, TemperaturesPerRow) {
  for (const DType type : kAllTypes)
    check([&](Case& wanted) {
      wanted.tau_per_row = true;
      wanted.tau_type = type;
      wanted.tau = 0.5;
      return true;
    });
}

TEST_P(LayoutsOnModel, OneTemperatureOnTheDevice) {
  static const float tau = 0.5f;
  check(
      [](Case& wanted) {
        wanted.tau = tau;
        return true;
      },
      [](Problem& problem) {
        KernelParams& a = problem.arguments();
        a.tau = &tau;
        a.tau_type = DType::kFloat32;
        a.host_tau = -1;
        for (int64_t& stride : a.rows.stride[static_cast<int>(Operand::kTau)]) stride = 0;
      });
}

TEST_P(LayoutsOnModel, KeysOfABatch) {
  for (const int batch : {1, 2})
    check([&](Case& wanted) {
      wanted.key_batch = batch;
      wanted.tau_per_row = batch == 2;
      return batch <= wanted.dim;
    });
}

TEST_P(LayoutsOnModel, OneKeyOnTheDevice) {
  static const uint64_t key[] = {7, uint64_t{1} << 33};
  for (const DType type : kAllTypes)
    check(
        [&](Case& wanted) {
          wanted.input = wanted.grad = wanted.output = type;
          wanted.key = {key[0], key[1]};
          return true;
        },
        [](Problem& problem) {
          problem.arguments().key = key;
          problem.arguments().host_key = {};
        });
}

TEST_P(LayoutsOnModel, EveryKey) {
  for (const math::Key key : {math::Key{0, 0}, math::Key{~0ull, ~0ull - 3},
                              math::Key{1, (1ull << 32) - 9}, math::Key{2, 1ull << 40}})
    check([&](Case& wanted) {
      wanted.key = key;
      return true;
    });
}

TEST_P(LayoutsOnModel, ShardsOfALargerTensor) {
  check([](Case& wanted) {
    for (const int64_t size : wanted.sizes) {
      wanted.full.push_back(2 * size + 3);
      wanted.start.push_back(size / 2 + 1);
    }
    return true;
  });
  check([](Case& wanted) {  // of more than 2^32 blocks
    wanted.full = wanted.sizes;
    wanted.start.assign(wanted.sizes.size(), 0);
    wanted.full[0] = int64_t{1} << 45;
    wanted.start[0] = (int64_t{1} << 44) + 5;
    return true;
  });
  for (const int64_t first : {1, 2, 3})  // rows begin inside a block of words
    check([&](Case& wanted) {
      wanted.key_batch = wanted.dim >= 1 && first == 3;
      wanted.full = wanted.sizes;
      wanted.start.assign(wanted.sizes.size(), 0);
      wanted.full.back() += 4;
      wanted.start.back() = first;
      return true;
    });
}

/// Words below 256 take a second one.
TEST_P(LayoutsOnModel, ExtendedWords) {
  if (GetParam() == Op::kBackward) return;  // reads no words
  ASSERT_GE(extended_positions().size(), 4u);
  for (const uint64_t position : extended_positions())
    for (const int64_t classes : {5, 32, 300, 3000, 20'000})
      for (const int dim : {0, 1}) {
        if ((kSmall || dim == 0) && classes > 300) continue;
        Case wanted{.op = GetParam(), .dim = dim};
        wanted.key = {kExtendedSeed, position / 4 - static_cast<uint64_t>(classes) / 3};
        wanted.sizes = dim == 0 ? Sizes{classes, 2} : Sizes{2, classes};
        wanted.spread = 1;
        wanted.masks = false;
        check_on_model(wanted);
        if (HasFailure()) return;
      }
}

INSTANTIATE_TEST_SUITE_P(Model, LayoutsOnModel, ::testing::ValuesIn(kAllOps),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace torch_gumbel::testing
