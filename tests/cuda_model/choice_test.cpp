// SPDX-License-Identifier: Apache-2.0
// Which kernel runs for which shape.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "on_model.h"
#include "switches.h"

namespace torch_gumbel::testing {
namespace {

using cuda::Family;

/// Of those that have kernels by shape: all; those with 64 classes per thread in registers; the
/// others.
enum class Ops { kAll, kMaxItems, kOthers };

bool uses_max_items(Op op) { return op == Op::kSoft || op == Op::kHardSoft; }

bool among(Op op, Ops ops) {
  return op != Op::kNoise && (ops == Ops::kAll || uses_max_items(op) == (ops == Ops::kMaxItems));
}

/// For every number of classes in [from, to]: "soft_" family "_kernel<" arguments ", false" (what
/// draws: whether the key is on the device) stage ">".
struct Choice {
  int64_t from, to;
  const char* family;
  const char* arguments;
  const char* stage = "";
  Ops ops = Ops::kAll;
};

constexpr int64_t kMost = 300'000;

const Choice kFloat32[] = {
    {1, 4, "tile", "Float32, 4"},
    {5, 128, "tile", "Float32, 8"},
    {129, 259, "row", "Float32, 2, WarpThreadGroup"},
    {260, 515, "row", "Float32, 4, WarpThreadGroup"},
    {516, 1027, "row", "Float32, 8, WarpThreadGroup"},
    {1028, 8192, "row", "Float32, 8, BlockThreadGroup"},
    {8193, 16384, "row", "Float32, 16, BlockThreadGroup", "", Ops::kMaxItems},
    {8193, kMost, "looped", "Float32", ", (Stage)0", Ops::kOthers},
    {16385, kMost, "looped", "Float32", ", (Stage)0", Ops::kMaxItems},
};
const Choice kBFloat16[] = {
    {1, 4, "tile", "BFloat16, 4"},
    {5, 128, "tile", "BFloat16, 8"},
    {129, 263, "row", "BFloat16, 1, WarpThreadGroup"},
    {264, 519, "row", "BFloat16, 2, WarpThreadGroup"},
    {520, 1031, "row", "BFloat16, 4, WarpThreadGroup"},
    {1032, 8192, "row", "BFloat16, 4, BlockThreadGroup"},
    {8193, 16384, "row", "BFloat16, 8, BlockThreadGroup", "", Ops::kMaxItems},
    {8193, kMost, "looped", "BFloat16", ", (Stage)0", Ops::kOthers},
    {16385, kMost, "looped", "BFloat16", ", (Stage)0", Ops::kMaxItems},
};

const char* prefix_of(Op op) {
  const char* prefixes[] = {"soft",     "hard",          "hard_soft", "argmax",
                            "backward", "hard_backward", "noise"};
  return prefixes[static_cast<int>(op)];
}

std::string kernel_of(Op op, const Choice& choice, bool device_key = false) {
  const std::string family = choice.family;
  const bool keyed = family != "generic" && op != Op::kBackward;
  return std::string(prefix_of(op)) + "_" + family + "_kernel<" + choice.arguments +
         (keyed ? device_key ? ", true" : ", false" : "") + choice.stage + ">";
}

/// Both launches of a row that several blocks share, and the third of a gradient at tau.
std::string multi_block_kernels_of(Op op, const char* element) {
  const auto stage = [&](Op of, const char* number, bool key) {
    return std::string(prefix_of(of)) + "_looped_kernel<" + element + (key ? ", false" : "") +
           ", (Stage)" + number + ">";
  };
  const bool draws = op != Op::kBackward;
  const std::string first = stage(op, "1", draws);
  if (op == Op::kArgmax) return first + " + argmax_multi_block_kernel";
  const bool gradient = op == Op::kBackward || op == Op::kHardBackward;
  return first + " + " + stage(op, "2", draws) + (gradient ? " + sum_multi_block_kernel" : "");
}

template <typename Check>
void for_each_choice(Op op, DType type, Check check) {
  const auto each = [&](const auto& choices) {
    for (const Choice& choice : choices)
      if (among(op, choice.ops)) check(choice);
  };
  return type == DType::kFloat32 ? each(kFloat32) : each(kBFloat16);
}

class Choices : public ::testing::TestWithParam<std::tuple<Op, DType>> {
 protected:
  Sketch sketch() const {
    Sketch one;
    std::tie(one.op, one.type) = GetParam();
    return one;
  }
  const char* element() const { return sketch().type == DType::kFloat32 ? "Float32" : "BFloat16"; }
};

TEST_P(Choices, OfContiguousRows) {
  Sketch one = sketch();
  for_each_choice(one.op, one.type, [&](const Choice& choice) {
    for (one.classes = choice.from; one.classes <= choice.to;
         one.classes += 1 + (one.classes - choice.from) / 4)
      for (const int64_t rows : {1, 2, 131, 132, 1'000'000})
        for (const bool device_key : {false, true}) {
          one.rows = rows, one.device_key = device_key;
          ASSERT_EQ(kernels_of(one), kernel_of(one.op, choice, device_key))
              << rows << " rows of " << one.classes;
        }
    one.device_key = false;
    one.classes = choice.to;
    EXPECT_EQ(kernels_of(one), kernel_of(one.op, choice)) << one.classes;
  });
}

/// A switch that no range above begins at was not thought of.
TEST_P(Choices, OfContiguousRowsHaveNoOtherSwitches) {
  const Sketch one = sketch();
  for (const int64_t at : switches(one.op, one.type, kMost)) {
    Sketch before = one, after = one;
    before.classes = at - 1, after.classes = at;
    before.rows = after.rows = 100'000;
    if (kernels_of(before) == kernels_of(after)) continue;
    bool known = false;
    for_each_choice(one.op, one.type, [&](const Choice& choice) { known |= choice.from == at; });
    EXPECT_TRUE(known) << at;
  }
}

TEST_P(Choices, FewLongRowsAreSharedByBlocksThatHaveAWorkspace) {
  Sketch one = sketch();
  one.workspace = true;
  for (const int64_t classes : {16384, 16385, 20'001, 300'000})
    for (const int64_t rows : {1, 8, 131, 132, 230, 300, 400}) {
      one.rows = rows, one.classes = classes;
      const bool reads_twice = one.op != Op::kHard && one.op != Op::kArgmax;
      // A block's row is read again from the cache, which does not hold all of them.
      if (reads_twice && rows > 264 && classes < 300'000) continue;
      EXPECT_EQ(kernels_of(one), multi_block_kernels_of(one.op, element()))
          << rows << " of " << classes;
      const cuda::Plan plan = plan_of(one);
      EXPECT_EQ(plan.blocks, rows * plan.blocks_per_row);
      EXPECT_GE(plan.blocks_per_row, 2);
      EXPECT_LE(plan.blocks_per_row, 8 * 132 / rows + 1);
      EXPECT_GE(plan.blocks, std::min<int64_t>(7 * 132, rows * (classes / 2048) * 3 / 4));
    }
  one.rows = 1, one.classes = 16383;
  EXPECT_EQ(plan_of(one).family, uses_max_items(one.op) ? Family::kRow : Family::kLooped);
}

/// Two, three, or four rows for every multiprocessor, and from eight on any number.
TEST_P(Choices, LongRowsThatKeepEveryMultiprocessorBusyAreNotShared) {
  Sketch one = sketch();
  one.workspace = true, one.classes = 300'000;
  for (const int64_t rows : {264, 390, 528, 523, 1056, 1057, 100'000}) {
    one.rows = rows;
    EXPECT_EQ(plan_of(one).blocks_per_row, 1) << rows;
  }
}

/// 300 rows of 40,000 classes do not stay in the cache between two launches, 264 do in one.
TEST_P(Choices, LongRowsThatOnlyABlockReadsAgainFromTheCacheAreNotShared) {
  Sketch one = sketch();
  const bool reads_twice = one.op != Op::kHard && one.op != Op::kArgmax;
  const bool reads_grad = one.op == Op::kBackward || one.op == Op::kHardBackward;
  const int64_t bytes = (one.type == DType::kFloat32 ? 4 : 2) * (reads_grad ? 2 : 1);
  one.workspace = true, one.rows = 300, one.classes = (40 << 20) / (264 * bytes);
  EXPECT_EQ(plan_of(one).blocks_per_row == 1, reads_twice || one.classes < 16384);
  one.classes *= 2;
  EXPECT_GT(plan_of(one).blocks_per_row, 1);
}

TEST_P(Choices, OfSpatialRows) {
  Sketch one = sketch();
  const Choice spatial = {1, kMost, "spatial", element()};
  const Choice generic = {1, kMost, "generic", "float"};
  for (const int64_t classes : {2, 7, 64, 1000, 20'000}) {
    one.classes = classes;
    for (const int64_t inner : {8, 16, 200, 3136}) {
      one.inner = inner, one.rows = 3 * inner;
      EXPECT_EQ(kernels_of(one), kernel_of(one.op, spatial)) << classes << ", " << inner;
    }
    one.inner = 49, one.rows = 3 * 49;
    EXPECT_EQ(kernels_of(one), kernel_of(one.op, generic)) << classes;
    EXPECT_TRUE(plan_of(one).spatial);
  }
}

/// Both launches, and the third of a gradient at tau.
TEST_P(Choices, FewSpatialRowsAreSharedByBlocksThatHaveAWorkspace) {
  Sketch one = sketch();
  one.workspace = true;
  const std::string spatial = kernel_of(one.op, {1, kMost, "spatial", element()});
  const bool gradient = one.op == Op::kBackward || one.op == Op::kHardBackward;
  const std::string second = one.op == Op::kArgmax ? "argmax_multi_block_kernel" : spatial;
  const int64_t width = one.type == DType::kFloat32 ? 4 : 8;
  for (const auto& [classes, inner, batch] :
       {std::array<int64_t, 3>{256, 8, 1}, {1024, 256, 8}, {300, 4096, 1}, {1024, 49 * 8, 60}}) {
    one.classes = classes, one.inner = inner, one.rows = batch * inner;
    EXPECT_EQ(kernels_of(one),
              spatial + " + " + second + (gradient ? " + sum_multi_block_kernel" : ""))
        << classes << ", " << one.rows;
    const cuda::Plan plan = plan_of(one);
    const int64_t groups = (one.rows / width + 31) / 32;
    EXPECT_EQ(plan.blocks, groups * plan.blocks_per_row);
    EXPECT_LE(plan.blocks_per_row, classes / 32);
    EXPECT_GE(plan.blocks, std::min<int64_t>(4 * 132, groups * (classes / 32)) * 3 / 4);
  }
  one.classes = 255, one.inner = one.rows = 8;
  EXPECT_EQ(kernels_of(one), spatial);
  one.classes = 1024, one.inner = one.rows = 4 * 132 * 32 * width;
  EXPECT_EQ(kernels_of(one), spatial);
}

/// Off a 16-byte boundary words' blocks and vectors are out of step: only y needs no words.
TEST_P(Choices, OfRowsOffAVectorsBoundary) {
  Sketch one = sketch();
  one.lead = 1, one.rows = 100;
  for (const int64_t classes : {3, 32, 33, 300, 20'000}) {
    one.classes = classes;
    const bool words = one.op != Op::kBackward, looped = one.op == Op::kArgmax && classes >= 512;
    const Family wanted = looped || (!words && classes > 8192) ? Family::kLooped
                          : words || classes < 33              ? Family::kGeneric
                                                               : Family::kRow;
    EXPECT_EQ(plan_of(one).family, wanted) << classes;
  }
}

/// An index: in the words' vectors, loaded one by one; by several blocks as other rows are.
TEST_P(Choices, OfAnIndexOffAVectorsBoundaryAreLooped) {
  Sketch one = sketch();
  if (one.op != Op::kArgmax) return;
  const std::string unaligned = std::string("Unaligned<") + element() + ">";
  one.lead = 3, one.rows = 100;
  for (const int64_t classes : {512, 8193, 50'257}) {
    one.classes = classes;
    const std::string whole = "argmax_looped_kernel<" + unaligned;
    EXPECT_EQ(kernels_of(one), whole + ", false, (Stage)0>") << classes;
  }
  one.workspace = true;
  EXPECT_EQ(kernels_of(one),
            "argmax_looped_kernel<" + unaligned + ", false, (Stage)1> + argmax_multi_block_kernel");
  one.classes = 511;
  EXPECT_EQ(plan_of(one).family, Family::kGeneric);
}

/// Two outputs that differ by their boundaries have no vectors in common.
TEST_P(Choices, OfAOneHotOffTheSamplesBoundaryAreGeneric) {
  Sketch one = sketch();
  one.one_hot_lead = 1;
  for (const int64_t classes : {8, 300, 2000, 20'000})
    for (const int64_t inner : {1, 8}) {
      one.classes = classes, one.inner = inner, one.rows = 4 * inner;
      EXPECT_EQ(plan_of(one).family == Family::kGeneric, one.op == Op::kHardSoft) << classes;
    }
}

/// float32 beside halves is no matter; an index has no type.
TEST_P(Choices, OfMixedTypes) {
  Sketch one = sketch();
  one.mixed = true, one.rows = 100;
  for (const int64_t classes : {5, 300, 20'000})
    for (const DType other : {DType::kFloat32, DType::kFloat16, DType::kFloat64}) {
      one.classes = classes, one.other = other;
      const bool fast = other == DType::kFloat32 || one.op == Op::kArgmax;
      EXPECT_EQ(plan_of(one).family == Family::kGeneric, !fast) << classes << name_of(other);
    }
}

TEST_P(Choices, OfFloat64AreGeneric) {
  Sketch one = sketch();
  one.type = DType::kFloat64;
  for (const int64_t classes : {1, 8, 200, 300'000}) {
    one.classes = classes;
    EXPECT_EQ(kernels_of(one), std::string(prefix_of(one.op)) + "_generic_kernel<double>");
  }
}

INSTANTIATE_TEST_SUITE_P(Model, Choices,
                         ::testing::Combine(::testing::Values(Op::kSoft, Op::kHard, Op::kHardSoft,
                                                              Op::kArgmax, Op::kBackward,
                                                              Op::kHardBackward),
                                            ::testing::Values(DType::kFloat32, DType::kBFloat16)),
                         [](const auto& info) {
                           return std::string(name_of(std::get<0>(info.param))) + "_" +
                                  name_of(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace torch_gumbel::testing
