// SPDX-License-Identifier: Apache-2.0
// Which kernel takes which problem, and how it is launched.
#pragma once

#include "tile_plan.h"

namespace torch_gumbel::cuda {

namespace planning {

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

/// Threads of a block that reads a long row: the launch bounds of the kernels, by the registers that
/// they need for two blocks to a multiprocessor (kernels/looped_soft.cuh).
inline int looped_threads(Op op, bool device_key) {
  switch (op) {
    case Op::kSoft:
      return device_key ? 320 : 512;
    case Op::kHardSoft:
      return 384;
    case Op::kBackward:
      return 512;
    case Op::kHardBackward:
      return device_key ? 256 : 320;
    default:
      return 256;
  }
}

inline Plan looped_plan(Op op, const KernelParams& a) {
  Plan plan;
  plan.family = Family::kLooped;
  plan.threads = looped_threads(op, a.key != nullptr);
  plan.blocks = a.rows.count;
  return plan;
}

/// Rows of at least this many classes are worth a second launch if blocks would idle otherwise.
constexpr int64_t kMultiBlockFrom = 16384;
constexpr int kMultiBlockThreads = 128;

/// Rows off the 16-byte boundaries of at least this many classes are looped over, also where aligned
/// ones are held in registers; shorter ones are generic.
constexpr int64_t kUnalignedFrom = 512;

/// What a block of those that share a row leaves for the second launch.
inline int state_bytes(Op op) {
  const bool sums = op != Op::kHard && op != Op::kArgmax;
  const bool chooses = !sums || op == Op::kHardSoft;
  return (sums ? 16 : 0) + (chooses ? 8 : 0);
}

inline Plan multi_block_plan(Op op, const KernelParams& a, int64_t blocks_per_row) {
  const int64_t vectors = a.rows.classes / width_of(a.input_type);
  const int64_t grain = kWarp * (16 / width_of(a.input_type));
  Plan plan;
  plan.family = Family::kMultiBlock;
  plan.threads = kMultiBlockThreads;
  plan.vectors_per_block =
      static_cast<int>(ceil_div(ceil_div(vectors, blocks_per_row), grain) * grain);
  plan.blocks_per_row = static_cast<int>(ceil_div(vectors, plan.vectors_per_block));
  plan.blocks = a.rows.count * plan.blocks_per_row;
  plan.workspace_bytes = plan.blocks * state_bytes(op);
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

/// Spatial rows of at least this many classes are worth a second launch if blocks would idle.
constexpr int64_t kSpatialFrom = 256;

/// Blocks that share the classes of spatial rows, as blocks_per_row_for() has it for others: four for
/// each multiprocessor, which holds two at a time, and a pass of classes for each.
inline int64_t spatial_blocks_for(Op op, const KernelParams& a, const Device& device,
                                  int64_t groups) {
  const int64_t most = 4 * device.multiprocessors, group = kWarp * width_of(a.input_type);
  if (!device.has_workspace || a.rows.classes < kSpatialFrom || groups >= most) return 1;
  if (are_balanced(groups, device)) return 1;
  const bool reads_twice = op != Op::kHard && op != Op::kArgmax;
  const int64_t at_once = 2 * device.multiprocessors;
  if (reads_twice && groups > at_once && are_cached(op, a, at_once * group) &&
      !are_cached(op, a, groups * group))
    return 1;
  return at_most(ceil_div(most, groups), a.rows.classes / 32);
}

inline Plan spatial_plan(Op op, const KernelParams& a, const Device& device) {
  const int64_t groups = ceil_div(a.rows.count / width_of(a.input_type), kWarp);
  const int64_t shared_by = spatial_blocks_for(op, a, device, groups);
  Plan plan;
  plan.family = Family::kSpatial;
  const bool more = op == Op::kHardBackward || (op == Op::kHardSoft && a.key != nullptr);
  const int warps = more && width_of(a.input_type) > 4 ? 6 : 8;  // kernels/spatial.cuh
  plan.threads = static_cast<int>(kWarp * at_most(a.rows.classes, warps));
  plan.vectors_per_block = static_cast<int>(ceil_div(a.rows.classes, shared_by));
  plan.blocks_per_row = static_cast<int>(ceil_div(a.rows.classes, plan.vectors_per_block));
  plan.blocks = groups * plan.blocks_per_row;
  if (plan.blocks_per_row > 1)
    plan.workspace_bytes = a.rows.count * plan.blocks_per_row * state_bytes(op);
  return plan;
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

/// Blocks of a cluster at most, on any device that has clusters, and of their threads.
constexpr int kMostClusterBlocks = 8;
constexpr int kMostClusterThreads = 512;

/// A row to a cluster: the fewest blocks of 256 threads, a power of two, that hold it with 64 classes
/// in each thread's registers; beyond those of eight, eight of up to 512 threads, one to a
/// multiprocessor. No plan if the row is shorter, longer, or too few rows are there for one block on
/// each multiprocessor.
inline Plan cluster_plan(Op op, const KernelParams& a, const Device& device) {
  Plan plan;
  const int64_t per_warp = int64_t{kMaxItemsPerThread} * kWarp, classes = a.rows.classes;
  const int64_t longest = per_warp * (kMostClusterThreads / kWarp) * kMostClusterBlocks;
  if (!device.has_clusters || op != Op::kSoft || classes > longest) return plan;
  int blocks = 2;
  while (blocks < kMostClusterBlocks && classes > per_warp * kMostWarps * blocks) blocks *= 2;
  if (classes <= longest_register_row(op) || a.rows.count * blocks < device.multiprocessors)
    return plan;
  plan.family = Family::kCluster;
  plan.classes_per_thread = kMaxItemsPerThread;
  plan.threads = static_cast<int>(kWarp * ceil_div(classes, per_warp * blocks));
  plan.blocks_per_row = blocks;
  plan.blocks = a.rows.count * blocks;
  return plan;
}

inline Plan aligned_row_plan(Op op, const KernelParams& a, const Device& device) {
  if (const Plan plan = cluster_plan(op, a, device); plan.blocks > 0 && plan.blocks <= kMaxGrid)
    return plan;
  const int64_t blocks_per_row = blocks_per_row_for(op, a, device);
  if (blocks_per_row > 1) return multi_block_plan(op, a, blocks_per_row);
  if (a.rows.classes <= longest_register_row(op)) return row_plan(a);
  return looped_plan(op, a);
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
  // An index has no output that lies otherwise than its words.
  if (op == Op::kArgmax && a.rows.classes >= kUnalignedFrom && are_contiguous(a)) {
    const int64_t blocks_per_row = blocks_per_row_for(op, a, device);
    Plan plan = blocks_per_row > 1 ? multi_block_plan(op, a, blocks_per_row) : looped_plan(op, a);
    plan.aligned = false;
    if (plan.blocks <= kMaxGrid) return plan;
  }
  if (are_spatial(op, a)) {
    const Plan plan = spatial_plan(op, a, device);
    if (plan.blocks <= kMaxGrid) return plan;
  }
  return generic_plan(op, a);
}

}  // namespace torch_gumbel::cuda
