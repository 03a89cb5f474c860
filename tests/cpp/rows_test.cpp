// SPDX-License-Identifier: Apache-2.0
// row_at against loops over the coordinates.
#include "math/rows.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace torch_gumbel {
namespace {

using Sizes = std::vector<int64_t>;

/// Calls f(row index, coordinates) for every row, in row-major order.
void for_each_row(const Sizes& sizes, const std::function<void(int64_t, const Sizes&)>& f) {
  Sizes at(sizes.size(), 0);
  for (int64_t index = 0;; ++index) {
    f(index, at);
    int d = static_cast<int>(sizes.size()) - 1;
    while (d >= 0 && ++at[d] == sizes[d]) at[d--] = 0;
    if (d < 0) return;
  }
}

Rows make_rows(const Sizes& sizes, const std::vector<Sizes>& strides, uint64_t first_word) {
  Rows rows;
  rows.dims = static_cast<int32_t>(sizes.size());
  rows.count = 1;
  for (int d = 0; d < rows.dims; ++d) {
    rows.size[d] = sizes[d];
    rows.count *= sizes[d];
    for (int operand = 0; operand < kOperands; ++operand)
      rows.stride[operand][d] = strides[operand][d];
  }
  rows.first_word = first_word;
  return rows;
}

void expect_brute_force(const Sizes& sizes, const std::vector<Sizes>& strides,
                        uint64_t first_word) {
  const Rows rows = make_rows(sizes, strides, first_word);
  int64_t seen = 0;
  for_each_row(sizes, [&](int64_t index, const Sizes& at) {
    const Row row = row_at(rows, index);
    ++seen;
    for (int operand = 0; operand < kOperands; ++operand) {
      const bool word = operand == static_cast<int>(Operand::kWord);
      uint64_t expected = word ? first_word : 0;
      for (size_t d = 0; d < sizes.size(); ++d)
        expected += static_cast<uint64_t>(at[d]) * static_cast<uint64_t>(strides[operand][d]);
      ASSERT_EQ(static_cast<uint64_t>(row.offset[operand]), expected) << index << " " << operand;
      ASSERT_EQ(row[static_cast<Operand>(operand)], row.offset[operand]);
    }
  });
  EXPECT_EQ(seen, rows.count);
}

TEST(RowAt, OneRowWithoutDimensions) {
  Rows rows;
  rows.count = 1;
  rows.first_word = 17;
  const Row row = row_at(rows, 0);
  EXPECT_EQ(row[Operand::kWord], 17);
  EXPECT_EQ(row[Operand::kInput], 0);
}

TEST(RowAt, ContiguousMergedRows) {
  const Sizes step = {7};
  expect_brute_force({1000}, {step, step, step, {1}, {2}, step}, 0);
}

TEST(RowAt, StridedTransposedAndBroadcastOperands) {
  // Input transposed, gradient broadcast, output contiguous, tau per middle index, key per outer.
  expect_brute_force({3, 4, 5},
                     {{1, 3, 12}, {0, 0, 0}, {100, 25, 5}, {0, 1, 0}, {2, 0, 0}, {100, 25, 5}}, 0);
}

TEST(RowAt, NegativeStrides) {
  expect_brute_force({4, 3}, {{-3, -1}, {3, 1}, {-30, 10}, {0, 0}, {0, 0}, {3, 1}}, 5);
}

TEST(RowAt, ShardOfALargerTensor) {
  // A [2, 3, K = 4] shard at (1, 5, 8) of a [6, 10, 16] tensor.
  const uint64_t first = 1 * 160 + 5 * 16 + 8;
  expect_brute_force({2, 3}, {{12, 4}, {12, 4}, {12, 4}, {0, 0}, {0, 0}, {160, 16}}, first);
}

TEST(RowAt, WordPositionsBeyond63BitsWrap) {
  const int64_t huge = INT64_MAX / 2;
  expect_brute_force({3, 3}, {{3, 1}, {3, 1}, {3, 1}, {0, 0}, {0, 0}, {huge, 1}}, ~0ull - 2);
}

TEST(RowAt, EveryDimensionOfTheTable) {
  Sizes sizes(kMaxRowDims, 2);
  std::vector<Sizes> strides(kOperands, Sizes(kMaxRowDims));
  for (int operand = 0; operand < kOperands; ++operand)
    for (int d = 0; d < kMaxRowDims; ++d) strides[operand][d] = (operand + 1) * (1 << d) + d % 3;
  expect_brute_force(sizes, strides, 1);
}

TEST(RowAt, MoreThanTwoToThe31Rows) {
  const int64_t size = int64_t{1} << 33;
  const Rows rows = make_rows({size, 3}, {{9, 3}, {9, 3}, {9, 3}, {0, 0}, {0, 0}, {9, 3}}, 0);
  const Row row = row_at(rows, 3 * size - 1);
  EXPECT_EQ(row[Operand::kInput], 9 * (size - 1) + 6);
  EXPECT_EQ(row[Operand::kWord], 9 * (size - 1) + 6);
}

TEST(KeyOf, HostKeyOrTheKeyOfTheRow) {
  const uint64_t keys[] = {1, 2, 3, 4};
  KernelParams a;
  a.host_key = {5, 6};
  Row row;
  row.offset[static_cast<int>(Operand::kKey)] = 2;
  EXPECT_EQ(key_of(a, row).seed, 5u);
  a.key = keys;
  EXPECT_EQ(key_of(a, row).seed, 3u);
  EXPECT_EQ(key_of(a, row).offset, 4u);
}

}  // namespace
}  // namespace torch_gumbel
