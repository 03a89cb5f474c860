// SPDX-License-Identifier: Apache-2.0
// Which path a call takes on the CPU, and with which sizes: decided once, from its op, shapes,
// strides, and dtypes. Torch-free, and compiled for no particular instruction set.
#pragma once

#include <stdint.h>

#include "../include/torch_gumbel/export.h"
#include "../math/rows.h"

namespace torch_gumbel::cpu {

// The thresholds. Figures are ns per float32 element on one thread, of docs/internals/tuning.md;
// where none is recorded, what the value trades off.

/// Classes that one pass handles at a time, and the unit of the fixed summation tree: a row's sums
/// are formed per tile and combined in order, whatever the threads, the strides, or the number of
/// rows. Bits depend on it. Longer tiles have fewer factors, shorter ones stay in the first cache.
constexpr int64_t kTile = 2048;

/// Rows up to this many classes are held in scratch between their two passes; longer ones are taken
/// tile by tile, and several threads may share one. Scratch against a second reading. Soft rows are
/// taken by tiles from kTile on, in which they keep their weights in the output: (839, 5001)
/// 1.26 -> 1.18.
constexpr int64_t kLongRow = 8192;

/// Bytes of an output from which on it is written with nontemporal stores, because it exceeds the
/// caches: its lines are then not read before they are written. Soft (4096, 1024): 1.60 -> 1.36.
constexpr int64_t kNontemporalBytes = int64_t{8} << 20;

/// Most rows of a spatial group, and the fewest. 64 or 128 of (32, 1024, 16, 16)'s 256 took 2.1
/// instead of 1.5: the rest of every line was fetched and dropped. 16 rows end with a line.
constexpr int64_t kMaxSpatialRows = 256;
constexpr int64_t kMinSpatialRows = 16;
/// Values of a spatial group, unless these are too few rows: 1 MiB of scratch against whole lines.
constexpr int64_t kSpatialElements = 1024 * 256;

/// Up to here, the weights of a group are computed and stored in one flat pass: K 31 1.36 -> 1.27,
/// 64 1.14 -> 1.11; row by row, masked ends cost as much as the rows. Longer rows with nontemporal
/// stores take Path::kLines: K 777 1.47 -> 1.16. From here a backward from y stores rows that are
/// whole lines nontemporally: K 320 2.00 -> 1.87, with its forward.
constexpr int64_t kShortRow = 256;

/// Elements of a call of Path::kLines, and the groups of it after which any row ends with a line,
/// if the first one begins with one: fewer lines that two calls share, fewer calls for threads.
constexpr int64_t kElementsPerCall = 32768;
constexpr int64_t kGroupsToLine = 16;

/// Rows of fewer lines are stored together where they are packed: ends of rows are not lines.
constexpr int64_t kFewLines = 4;

/// Rows of more classes are never transposed in a vector, on any instruction set. One formula for
/// the rows that some transpose and others do not, so that bits are equal.
constexpr int64_t kMaxSmallRow = 16;

/// Rows from which on choices are pruned by bounds, which saves logarithms and costs a second look
/// at what survives; the shortest rows along the words were not recorded. Of spatial rows, a
/// survivor needs its word again: 60 ns each.
constexpr int64_t kPruneFrom = 64;
constexpr int64_t kPruneSpatialFrom = 512;

/// One-hots of fewer classes are made in scratch where stores are nontemporal: whether a line has a
/// 1 is a branch that no processor predicts. Hard (1000000, 33): 1.73 -> 1.43.
constexpr int64_t kShortOneHot = 256;

/// Most classes of a weight cache, which then stays in the second-level cache (512 KiB); longer
/// rows store their weights in the output or compute them again.
constexpr int64_t kMaxCachedClasses = 131072;
/// Weights in the output load its lines into the caches first, 12 bytes of traffic per element and
/// not 8: (131, 32000) 1.09 -> 1.02 on one thread. More threads than these share the memory
/// bandwidth and use a weight cache; where that changes was not measured.
constexpr int kFewThreads = 4;

/// Elements below which a second thread costs more than it saves; tiles alike.
constexpr int64_t kElementsPerThread = 32768;
constexpr int64_t kTilesPerThread = kElementsPerThread / kTile;

/// Relative entropy: most rows of a group, and values of a group's tile where classes are strided,
/// unless these are too few rows. Scratch against whole lines.
constexpr int64_t kKlRows = 256;
constexpr int64_t kKlSpatialElements = 65536;

// Sizes that are no choice.

constexpr int64_t kLine = 64;  // bytes of a cache line

/// Padding of a group's values: a line before them, and values past them that kernels may read and
/// restore.
constexpr int64_t kScratchSlack = 64;

TG_HD constexpr int64_t element_size(DType type) {
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}

/// Whether rows of `classes` elements end where lines do, if their first one begins with one.
TG_HD constexpr bool whole_lines(int64_t classes, DType type) {
  return classes * element_size(type) % kLine == 0;
}

TG_HD constexpr int64_t tiles_of(int64_t classes) { return (classes + kTile - 1) / kTile; }

TG_HD constexpr bool draws_soft(Op op) { return op == Op::kSoft || op == Op::kHardSoft; }

/// kRows: whole rows in scratch, a group at a time. kLines: the same, several groups to a call, and
/// soft samples are written with nontemporal stores line by line, including lines that two rows
/// share. kTiles: long rows, tile by tile. kSpatial: rows whose neighbours' words are consecutive,
/// class by class.
enum class Path { kRows, kLines, kTiles, kSpatial };

struct Plan {
  Path path = Path::kRows;
  DType opmath = DType::kFloat32;  // in which the op computes: kFloat32 or kFloat64

  /// Whether the random words of a row are consecutive. If not (`dim` is not the last one), several
  /// neighbouring rows are processed together, because their words of one class are then
  /// consecutive.
  bool words_along_classes = true;

  int64_t rows_per_group = 1;      // enough to fill a tile; kSpatial: equal parts of the dimension
  int64_t rows_per_call = 1;       // of Kernels::rows, at least: one group, kLines: several
  int64_t grain = 1;               // of at::parallel_for: calls, or rows, or tiles
  bool share_tiles = false;        // kTiles: threads share the tiles of a row, and not the rows
  int64_t scratch_bytes = 0;       // of each thread
  int64_t weight_cache_bytes = 0;  // kTiles: of each row; 0: weights are in the output, or nowhere

  bool nontemporal = false;           // stores of the output
  bool tiles_end_with_lines = false;  // kTiles: a line belongs to the tile that it begins in
  bool holds_rows = true;             // kSpatial: else a group's tiles are computed again

  bool prunes = false;                // choices by bounds
  bool divides = false;               // a temperature of 1 has weights exp(x) / exp1
  bool short_rows = false;            // weights in one flat pass
  bool output_holds_weights = false;  // which are of its type: of long rows, between the passes

  /// Soft rows in scratch that are stored at once; where they are packed, or in any case. Row by
  /// row, nontemporal stores would break at the ends of rows, and the last line of a row would
  /// repeat elements, unless rows end with lines.
  bool stores_packed_rows_at_once = false, stores_rows_at_once = false;

  bool one_hots_in_lines = false;  // where they are packed: stored nontemporally, with their ones
  bool short_one_hots = false;     // the same, made in scratch

  /// Gradients of a group: stored nontemporally, straight to memory (else by way of scratch), and
  /// made from weights without storing probabilities (if of one temperature).
  bool nontemporal_gradients = false, direct_gradients = false, gradients_of_weights = false;
};

/// The plan for an op on at least one row and class, with `threads` threads to share it. Tests may
/// make smaller outputs exceed the caches.
TORCH_GUMBEL_API Plan make_plan(Op op, const KernelParams& a, int threads,
                                int64_t nontemporal_bytes = kNontemporalBytes);

/// That of the relative entropy of rows: rows_per_group, grain, scratch_bytes, opmath.
TORCH_GUMBEL_API Plan make_kl_plan(const Rows& rows, DType type);

/// Tiles of gates, of kTile elements, below which a second thread costs more than it saves; and
/// whether an output of so many elements is stored nontemporally.
constexpr int64_t kGateTilesPerThread = kElementsPerThread / kTile;
TG_HD constexpr bool stores_gates_nontemporally(int64_t elements, DType type) {
  return elements * element_size(type) >= kNontemporalBytes;
}

/// That of the backward of one-hot samples: rows_per_group, rows_per_call, grain, scratch_bytes,
/// opmath, nontemporal, direct_gradients. Its scratch holds so many buffers of a group.
constexpr int64_t kOneHotBuffers = 5;
TORCH_GUMBEL_API Plan make_one_hot_plan(const KernelParams& a,
                                        int64_t nontemporal_bytes = kNontemporalBytes);

/// What the kernels take.
struct PlannedParams : KernelParams {
  Op op = Op::kSoft;
  Plan plan;
};

}  // namespace torch_gumbel::cpu
