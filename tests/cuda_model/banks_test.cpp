// SPDX-License-Identifier: Apache-2.0
// Bank conflicts of tiles of short rows, by the plan and as the kernels run.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <memory>
#include <set>

#include "faults.h"
#include "model/memory.h"
#include "on_model.h"
#include "switches.h"

namespace torch_gumbel::testing {
namespace {

constexpr int kWarp = 32, kShortest = 1, kLongest = 128;
const std::set<int64_t> kTwoWays = {6, 12, 24, 48, 96};

/// The times that the banks take for an access of every lane, by its element's index.
template <typename IndexOf>
int served(IndexOf index_of) {
  std::set<int64_t> words[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) {
    const int64_t at = index_of(lane);
    if (at >= 0) words[at % kWarp].insert(at);
  }
  size_t most = 0;
  for (const auto& of_bank : words) most = std::max(most, of_bank.size());
  return static_cast<int>(most);
}

/// Which row of its tile a thread of the block processes in one of its turns, as tile_rows.cuh has
/// it.
int64_t row_of(const cuda::Plan& plan, int thread, int turn) {
  const int slot = thread / plan.threads_per_row, of_warp = kWarp / plan.threads_per_row;
  const int distance = 1 << plan.banking.distance_log2, group = of_warp * distance;
  return slot / group * group + slot % of_warp * distance + slot % group / of_warp +
         turn * plan.banking.rows_step;
}

/// Average over the accesses of a tile's rows.
double ways_of_rows(const cuda::Plan& plan, int64_t classes) {
  int64_t all = 0, accesses = 0;
  const int turns = plan.tile_rows * plan.threads_per_row / plan.threads;
  for (int turn = 0; turn < turns; ++turn)
    for (int warp = 0; warp < plan.threads / kWarp; ++warp)
      for (int j = 0; j < plan.classes_per_thread; ++j) {
        const int times = served([&](int lane) {
          const int thread = warp * kWarp + lane;
          const int64_t k = thread % plan.threads_per_row + j * plan.threads_per_row;
          const int64_t row = row_of(plan, thread, turn);
          const int64_t shifted = plan.banking.shift * (row * classes >> plan.banking.shift_log2);
          return k < classes ? row * classes + k + shifted : -1;
        });
        all += times, accesses += times > 0;
      }
  return static_cast<double>(all) / static_cast<double>(accesses);
}

cuda::Plan tile_of(int64_t classes) {
  return plan_of({Op::kSoft, DType::kFloat32, 100'000, classes});
}

TEST(Banks, OfARowsClassesDoNotConflict) {
  for (int64_t classes = kShortest; classes <= kLongest; ++classes) {
    const bool two = kTwoWays.contains(classes);
    const bool some = classes % 2 == 1 && classes >= 65 && classes <= 85;
    EXPECT_LE(ways_of_rows(tile_of(classes), classes), two || some ? 2.0 : 1.0) << classes;
  }
}

TEST(Banks, EveryRowOfATileIsProcessedOnce) {
  for (int64_t classes = kShortest; classes <= kLongest; ++classes) {
    const cuda::Plan plan = tile_of(classes);
    std::vector<int> seen(plan.tile_rows);
    for (int turn = 0; turn < plan.tile_rows * plan.threads_per_row / plan.threads; ++turn)
      for (int thread = 0; thread < plan.threads; thread += plan.threads_per_row)
        ++seen.at(row_of(plan, thread, turn));
    EXPECT_EQ(seen, std::vector<int>(plan.tile_rows, 1)) << classes;
  }
}

/// A row lies within a period of shifts, whose memory the plan has.
TEST(Banks, ShiftsAreBetweenRows) {
  for (int64_t classes = kShortest; classes <= kLongest; ++classes) {
    const cuda::Plan plan = tile_of(classes);
    const int log2 = plan.banking.shift_log2;
    const int64_t last = plan.tile_rows * classes - 1;
    EXPECT_EQ((int64_t{1} << log2) % (plan.banking.shift > 0 ? classes : 1), 0) << classes;
    EXPECT_EQ(plan.tile_floats % 4, 0);
    EXPECT_GT(plan.tile_floats, last + plan.banking.shift * (last >> log2)) << classes;
  }
}

TEST(BanksOnModel, ConflictsAreCounted) {
  if (!cuda_model::kChecked) GTEST_SKIP() << "only a checked build sees every access";
  for (const auto& [stride, ways] : std::initializer_list<std::pair<int, double>>{
           {0, 1}, {1, 1}, {2, 2}, {3, 1}, {24, 8}, {32, 32}}) {
    const auto out = std::make_unique<float[]>(32);
    cuda_model::take_bank_use();
    cuda_model::settings().count_banks = true;
    cuda_model::testing::run_strides(out.get(), stride);
    cuda_model::settings() = {};
    EXPECT_EQ(cuda_model::take_bank_use().ways(), ways) << stride;
  }
  cuda_model::take_launches();
}

/// All accesses of a launch: the tile in and out, and its rows.
double measured_ways(int64_t classes) {
  Case wanted;
  wanted.op = Op::kSoft;
  wanted.sizes = {tile_of(classes).tile_rows, classes};
  wanted.input_lead = wanted.output_lead = 0;
  wanted.row_value = false;
  Problem problem(wanted);
  cuda_model::take_bank_use();
  cuda_model::settings().count_banks = true;
  launch(wanted.op, problem.arguments());
  cuda_model::settings() = {};
  cuda_model::take_launches();
  return cuda_model::take_bank_use().ways();
}

/// K: ways, of all 128, into a file that benchmarks/launch_report.py reads.
void write_ways(const std::vector<double>& ways) {
  const char* name = std::getenv("TORCH_GUMBEL_MODEL_BANKS");
  if (name == nullptr) return;
  std::ofstream file(name);
  for (size_t i = 0; i < ways.size(); ++i)
    file << i + 1 << " " << std::fixed << std::setprecision(2) << ways[i] << "\n";
}

TEST(BanksOnModel, OfWholeTilesHaveFewConflicts) {
  if (!cuda_model::kChecked) GTEST_SKIP() << "only a checked build sees every access";
  std::vector<double> ways;
  for (int64_t classes = kShortest; classes <= kLongest; ++classes) {
    const bool two = kTwoWays.contains(classes) || classes == 16;
    const bool some = classes % 2 == 1 && classes >= 65 && classes <= 85;
    ways.push_back(measured_ways(classes));
    EXPECT_LE(ways.back(), two || some ? 1.9 : 1.01) << classes;
  }
  write_ways(ways);
}

}  // namespace
}  // namespace torch_gumbel::testing
