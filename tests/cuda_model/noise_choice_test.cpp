// SPDX-License-Identifier: Apache-2.0
// Which kernel makes noise of which shape.
#include <gtest/gtest.h>

#include <algorithm>

#include "on_model.h"
#include "switches.h"

namespace torch_gumbel::testing {
namespace {

/// A tensor is one run, whatever its dimensions: many blocks, unless it is short.
TEST(NoiseChoices, OfWholeTensorsAreRuns) {
  for (const auto& [type, output] :
       {std::pair{DType::kFloat32, "Float32"}, std::pair{DType::kFloat64, "Float64"}})
    for (const int64_t rows : {1, 7, 3000})
      for (const int64_t inner : {int64_t{1}, rows})
        for (const int64_t classes : {1, 70, 300'000}) {
          const Sketch one = {Op::kNoise, type, rows, classes, inner};
          const std::string wanted = std::string("noise_run_kernel<") + output;
          EXPECT_EQ(kernels_of(one), wanted + ", false>") << rows << " rows of " << classes;
          Sketch keyed = one;
          keyed.device_key = true;
          EXPECT_EQ(kernels_of(keyed), wanted + ", true>");
          const cuda::Plan plan = plan_of(one);
          const int64_t blocks = rows * classes / (256 * 4);
          EXPECT_GE(plan.blocks, std::min<int64_t>(blocks, 4 * 132));
          EXPECT_LE(plan.blocks, blocks + 2);
        }
}

/// Rows of a shard are runs if they are long.
TEST(NoiseChoices, OfShardsAreRunsWhereTheyAreLong) {
  Sketch one = {Op::kNoise, DType::kFloat32, 3};
  one.words_between_rows = 5;
  for (const int64_t classes : {1024, 300'000}) {
    one.classes = classes;
    EXPECT_EQ(kernels_of(one), "noise_run_kernel<Float32, false>") << classes;
    EXPECT_EQ(plan_of(one).blocks, 3 * plan_of(one).blocks_per_row);
  }
  one.classes = 1023;
  EXPECT_EQ(kernels_of(one), "noise_generic_kernel<float>");
  one.classes = 4096, one.inner = 3, one.rows = 6;
  EXPECT_EQ(kernels_of(one), "noise_generic_kernel<float>");
}

}  // namespace
}  // namespace torch_gumbel::testing
