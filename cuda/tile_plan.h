// SPDX-License-Identifier: Apache-2.0
// What a plan is, and that of tiles of short rows.
#pragma once

#include "row_layout.h"

namespace torch_gumbel::cuda {

/// kTile: short contiguous rows. kRow: a row in the registers of a warp or a block. kSpatial: rows
/// with a stride between classes, kWidth neighbours to a lane; few of them are shared by blocks, in
/// launches as of kMultiBlock. kLooped: a row read twice by one
/// block. kMultiBlock: a row of several blocks, in two launches (three where a gradient at tau is
/// asked for as well). kRun: noise of consecutive words in consecutive elements. kCluster: a row in
/// the registers of a cluster of blocks, which exchange their sums. kGeneric: every layout and
/// dtype.
enum class Family { kGeneric, kTile, kRow, kSpatial, kLooped, kMultiBlock, kRun, kCluster };

/// The device and its resources.
struct Device {
  int multiprocessors = 132;
  bool has_workspace = false;  // whether launches get one
  bool has_clusters = false;   // whether rows are given to clusters of blocks
};

/// How a tile's rows avoid each other's banks of shared memory (kernels/tile.cuh).
struct TileBanking {
  int distance_log2 = 0;  // of the rows that a warp processes at a time
  int rows_step = 0;      // from a row to the one that the same threads process next
  int shift = 0;          // elements after every 2^shift_log2
  int shift_log2 = 0;
};

struct Plan {
  Family family = Family::kGeneric;
  int64_t blocks = 0;
  int threads = 0;
  int classes_per_thread = 0;  // kRow, kTile: in registers
  bool block_per_row = false;  // kRow: else a warp
  bool spatial = false;        // kGeneric
  int threads_per_row = 1;     // kGeneric, kTile: threads that share a row
  int blocks_per_row = 1;      // kMultiBlock, kSpatial, kRun, kCluster: blocks that share a row
  int vectors_per_block = 0;   // kMultiBlock; kSpatial: classes; kRun: groups
  int tile_rows = 0;           // kTile
  int tile_floats = 0;         // kTile
  TileBanking banking;         // kTile
  bool aligned = true;         // kLooped, kMultiBlock: else loads of one element
  int64_t shared_bytes = 0;
  int64_t workspace_bytes = 0;
};

namespace planning {

constexpr int kWarp = 32;
constexpr int kShortRow = 128;           // classes that a tile's rows have at most
constexpr int kShortestRow = 33;         // a warp for less than a class per lane is wasteful
constexpr int kItemsPerThread = 32;      // classes in registers, scores and gradients
constexpr int kMaxItemsPerThread = 64;   // classes in registers, scores alone
constexpr int kMostWarps = 8;            // of a block: two blocks to a multiprocessor overlap
constexpr int64_t kMaxBlocks = 1 << 20;  // of kernels whose blocks loop over rows
constexpr int64_t kMaxGrid = 0x7FFFFFFF;

inline int64_t power_of_two_from(int64_t least) {
  int64_t power = 1;
  while (power < least) power *= 2;
  return power;
}

inline int log2_of(int64_t power) {
  int log2 = 0;
  while (int64_t{1} << log2 < power) ++log2;
  return log2;
}

/// A warp reads class j of 32 / threads_per_row rows at once. Neighbouring rows of K = 2^a odd
/// classes begin at multiples of 2^a banks. Where the row's threads are at least as many, rows at a
/// distance of threads_per_row / 2^a begin at different multiples of threads_per_row. Where they
/// are fewer, 32 / 2^a rows meet no bank twice, and a shift after so many frees those between, as
/// long as the tile is still read and written well: in vectors, or because a shift of one element
/// after 32 suits scalars. Of 128, only K = 6, 12, 24, 48, and 96 stay without: two ways.
inline TileBanking tile_banking(int classes, int threads_per_row, int rows, int rows_at_once) {
  constexpr int kBanks = 32;
  TileBanking banking;
  banking.rows_step = rows_at_once;
  int factor = 1;
  while (factor < kBanks && classes % (2 * factor) == 0) factor *= 2;
  const int period = classes * (kBanks / factor);
  if (factor <= threads_per_row) {
    banking.distance_log2 = log2_of(threads_per_row / factor);
    // 16 rows at once of 2 per warp: only 32 rows have all distances of 16.
    const bool over = (kBanks / threads_per_row << banking.distance_log2) > rows_at_once;
    if (over && rows != 2 * rows_at_once) --banking.distance_log2;
    if (over && rows == 2 * rows_at_once) banking.rows_step /= 2;
  } else if ((period & (period - 1)) == 0) {
    banking.shift = threads_per_row;
    banking.shift_log2 = log2_of(period);
  }
  return banking;
}

inline Plan tile_plan(Op op, const KernelParams& a) {
  constexpr int kThreads = 256;
  constexpr int kElements = 16 * kThreads;  // of a tile, at most
  const auto classes = static_cast<int>(a.rows.classes);
  Plan plan;
  plan.family = Family::kTile;
  plan.threads = kThreads;
  plan.classes_per_thread = classes <= 4 ? 4 : 8;
  plan.threads_per_row =
      static_cast<int>(power_of_two_from(ceil_div(classes, plan.classes_per_thread)));
  const int at_once = kThreads / plan.threads_per_row;
  plan.tile_rows = kElements / (at_once * classes) * at_once;
  plan.banking = tile_banking(classes, plan.threads_per_row, plan.tile_rows, at_once);
  const int elements = plan.tile_rows * classes;
  const int floats = elements + plan.banking.shift * (elements >> plan.banking.shift_log2);
  plan.tile_floats = static_cast<int>(ceil_div(floats, 4) * 4);  // whole vectors
  const bool row_values = op == Op::kArgmax && a.tau != nullptr;
  plan.shared_bytes = int64_t{4} * plan.tile_floats * (has_grad(op) ? 2 : 1) +
                      (row_values ? 4 * plan.tile_rows : 0);
  plan.blocks = ceil_div(a.rows.count, plan.tile_rows);
  return plan;
}

}  // namespace planning

}  // namespace torch_gumbel::cuda
