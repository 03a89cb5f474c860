// SPDX-License-Identifier: Apache-2.0
// Which kernel takes which problem, and how it is launched.
#pragma once

#include <stdint.h>

#include "row_layout.h"

namespace torch_gumbel::cuda {

/// kTile: short contiguous rows. kRow: a row in the registers of a warp or a block. kSpatial: rows
/// with a stride between classes, kWidth neighbours to a lane. kLooped: a row read twice by one
/// block. kMultiBlock: a row of several blocks, in two launches (three where a gradient at tau is
/// asked for as well). kRun: noise of consecutive words in consecutive elements. kGeneric: every
/// layout and dtype.
enum class Family { kGeneric, kTile, kRow, kSpatial, kLooped, kMultiBlock, kRun };

/// The device and its resources.
struct Device {
  int multiprocessors = 132;
  bool has_workspace = false;  // whether launches get one
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
  int blocks_per_row = 1;      // kMultiBlock, kRun: blocks that share a row
  int vectors_per_block = 0;   // kMultiBlock; kRun: groups
  int tile_rows = 0;           // kTile
  int tile_floats = 0;         // kTile
  TileBanking banking;         // kTile
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

inline Plan row_plan(const KernelParams& a) {
  const int width = width_of(a.input_type);
  const int64_t vectors = a.rows.classes / width;  // of a row, at most
  Plan plan;
  plan.family = Family::kRow;
  for (int items = 8; items <= kItemsPerThread; items *= 2) {
    plan.classes_per_thread = items;
    if (vectors * width <= int64_t{items} * kWarp) {
      plan.threads = 4 * kWarp;
      plan.blocks = ceil_div(a.rows.count, 4);
      return plan;
    }
  }
  plan.block_per_row = true;
  if (a.rows.classes > int64_t{kItemsPerThread} * kWarp * kMostWarps)
    plan.classes_per_thread = kMaxItemsPerThread;
  plan.threads =
      static_cast<int>(kWarp * ceil_div(vectors * width, int64_t{plan.classes_per_thread} * kWarp));
  plan.blocks = a.rows.count;
  return plan;
}

inline Plan spatial_plan(const KernelParams& a) {
  Plan plan;
  plan.family = Family::kSpatial;
  plan.threads = static_cast<int>(kWarp * at_most(a.rows.classes, 8));
  plan.blocks = ceil_div(a.rows.count / width_of(a.input_type), kWarp);
  return plan;
}

inline Plan looped_plan(Op op) {
  Plan plan;
  plan.family = Family::kLooped;
  const bool alone = op == Op::kHard || op == Op::kArgmax;
  const bool fuller = op == Op::kHardSoft || op == Op::kHardBackward;
  plan.threads = alone ? 256 : fuller ? 384 : 512;
  return plan;
}

/// Rows of at least this many classes are worth a second launch if blocks would idle otherwise.
constexpr int64_t kMultiBlockFrom = 16384;
constexpr int kMultiBlockThreads = 128;

inline Plan multi_block_plan(Op op, const KernelParams& a, int64_t blocks_per_row) {
  const int64_t vectors = a.rows.classes / width_of(a.input_type);
  const int64_t grain = kWarp * (16 / width_of(a.input_type));
  Plan plan = looped_plan(op);
  plan.family = Family::kMultiBlock;
  plan.threads = kMultiBlockThreads;
  plan.vectors_per_block =
      static_cast<int>(ceil_div(ceil_div(vectors, blocks_per_row), grain) * grain);
  plan.blocks_per_row = static_cast<int>(ceil_div(vectors, plan.vectors_per_block));
  plan.blocks = a.rows.count * plan.blocks_per_row;
  const bool sums = op != Op::kHard && op != Op::kArgmax;
  const bool chooses = !sums || op == Op::kHardSoft;
  plan.workspace_bytes = plan.blocks * ((sums ? 16 : 0) + (chooses ? 8 : 0));
  return plan;
}

/// Whether every multiprocessor gets nearly as many equal blocks as the others, and at least two.
inline bool are_balanced(int64_t blocks, const Device& device) {
  const int64_t most = ceil_div(blocks, device.multiprocessors);
  return most >= 2 && 8 * blocks >= 7 * most * device.multiprocessors;
}

/// Whether the second read finds so many rows in the L2 cache, of which 40 MB are taken to be free.
inline bool are_cached(Op op, const KernelParams& a, int64_t rows) {
  constexpr int64_t kCacheBytes = 40 << 20;
  const int64_t bytes = size_of(a.input_type) + (has_grad(op) ? size_of(a.grad_type) : 0);
  return rows * a.rows.classes * bytes <= kCacheBytes;
}

constexpr int64_t kBlocksPerMultiprocessor = 8;  // of 128 threads that share rows

/// Blocks per row: so many that every multiprocessor has eight, which leaves at most one in nine
/// idle at the end, but at least a pass of classes for each. One where there are eight rows for each
/// multiprocessor, or fewer but evenly many, or where only a row at a time finds its second read in
/// the cache.
inline int64_t blocks_per_row_for(Op op, const KernelParams& a, const Device& device) {
  const int64_t most = kBlocksPerMultiprocessor * device.multiprocessors;
  if (!device.has_workspace || a.rows.classes < kMultiBlockFrom || a.rows.count >= most) return 1;
  if (are_balanced(a.rows.count, device)) return 1;
  const bool reads_twice = op != Op::kHard && op != Op::kArgmax;
  const int64_t at_once = 2 * device.multiprocessors;  // rows of one block each
  if (reads_twice && a.rows.count > at_once && are_cached(op, a, at_once) &&
      !are_cached(op, a, a.rows.count))
    return 1;
  return at_most(ceil_div(most, a.rows.count), a.rows.classes / (kMultiBlockThreads * 16));
}

/// Whether neighbouring rows are contiguous and classes are not.
inline bool is_spatial(Op op, const KernelParams& a) {
  const Rows& rows = a.rows;
  const auto operand = static_cast<int>(op == Op::kNoise ? Operand::kOutput : Operand::kInput);
  return rows.dims > 0 && rows.classes > 1 && rows.class_stride[operand] != 1 &&
         rows.stride[operand][rows.dims - 1] == 1;
}

inline Plan generic_plan(Op op, const KernelParams& a) {
  constexpr int kThreads = 256;
  Plan plan;
  plan.threads = kThreads;
  plan.spatial = is_spatial(op, a);
  // A thread processes whole blocks of four words; of spatial rows, a warp processes 32 rows.
  const int64_t wanted = plan.spatial ? at_most(ceil_div(a.rows.classes, 16), kThreads / kWarp)
                                      : at_most(ceil_div(a.rows.classes, 4), kThreads);
  plan.threads_per_row = static_cast<int>(power_of_two_from(wanted));
  plan.blocks = at_most(ceil_div(a.rows.count, kThreads / plan.threads_per_row), kMaxBlocks);
  return plan;
}

/// Runs of noise, each shared by blocks: so many that every multiprocessor has several, but at most
/// kMostPasses groups for each thread. Short rows, and others than runs, are generic.
inline Plan noise_plan(const KernelParams& a, const Device& device) {
  constexpr int64_t kThreads = 256, kShortestRun = 1024, kMostPasses = 8;
  constexpr int64_t kBlocksPerMultiprocessor = 8;
  const Rows& rows = a.rows;
  const bool runs = rows.step(Operand::kOutput) == 1 && rows.step(Operand::kWord) == 1;
  const int64_t width = width_of(a.output_type), group = width < 4 ? 4 : width;
  const int64_t groups = ceil_div(rows.classes, group) + 1;  // the first and the last in part
  if (!runs || (rows.count > 1 && rows.classes < kShortestRun)) return generic_plan(Op::kNoise, a);
  const int64_t passes =
      ceil_div(groups, kThreads * kBlocksPerMultiprocessor * device.multiprocessors);
  const int64_t per_block = kThreads * at_most(passes, kMostPasses);
  const int64_t blocks_per_row = ceil_div(groups, per_block);
  if (blocks_per_row > kMaxGrid / rows.count) return generic_plan(Op::kNoise, a);
  Plan plan;
  plan.family = Family::kRun;
  plan.threads = static_cast<int>(kThreads);
  plan.vectors_per_block = static_cast<int>(per_block);
  plan.blocks_per_row = static_cast<int>(blocks_per_row);
  plan.blocks = rows.count * blocks_per_row;
  return plan;
}

inline int64_t longest_register_row(Op op) {
  const bool most = op == Op::kSoft || op == Op::kHardSoft;
  const int items = most ? kMaxItemsPerThread : kItemsPerThread;
  return int64_t{items} * kWarp * kMostWarps;
}

inline Plan aligned_row_plan(Op op, const KernelParams& a, const Device& device) {
  const int64_t blocks_per_row = blocks_per_row_for(op, a, device);
  if (blocks_per_row > 1) return multi_block_plan(op, a, blocks_per_row);
  if (a.rows.classes <= longest_register_row(op)) return row_plan(a);
  Plan plan = looped_plan(op);
  plan.blocks = a.rows.count;
  return plan;
}

}  // namespace planning

/// The plan for a problem of at least one row and class.
inline Plan plan_for(Op op, const KernelParams& a, const Device& device) {
  using namespace planning;
  if (op == Op::kNoise) return noise_plan(as_run(a), device);
  if (are_aligned(op, a)) {
    Plan plan;
    if (a.rows.classes <= kShortRow && are_flat(op, a))
      plan = tile_plan(op, a);
    else if (a.rows.classes >= kShortestRow)
      plan = aligned_row_plan(op, a, device);
    if (plan.blocks > 0 && plan.blocks <= kMaxGrid) return plan;
  }
  if (are_spatial(op, a)) {
    const Plan plan = spatial_plan(a);
    if (plan.blocks <= kMaxGrid) return plan;
  }
  return generic_plan(op, a);
}

}  // namespace torch_gumbel::cuda
