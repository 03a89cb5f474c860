// SPDX-License-Identifier: Apache-2.0
// The CPU kernels as the launcher sees them: one table per instruction set. Torch-free.
#pragma once

#include <stdint.h>

#include "../math/rows.h"

namespace torch_gumbel::cpu {

/// Classes that one pass handles at a time, and the unit of the fixed summation tree: a row's sums
/// are formed per tile and combined in order, whatever the threads, the strides, or the number of
/// rows.
constexpr int64_t kTile = 2048;

/// Rows up to this many classes are held in scratch between their two passes. Longer ones are
/// "long": a thread takes them tile by tile, and several threads may share one.
constexpr int64_t kLongRow = 8192;

/// Whether the random words of a row are consecutive. If not (`dim` is not the last one), several
/// neighbouring rows are processed together, because their words of one class are then consecutive.
inline bool words_run_along_classes(const Rows& rows) {
  return rows.step(Operand::kWord) == 1 || rows.classes == 1;
}

constexpr int64_t element_size(DType type) {
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}

constexpr int64_t kLine = 64;  // bytes of a cache line

/// Whether rows of `classes` elements end where lines do, if their first one begins with one.
constexpr bool whole_lines(int64_t classes, DType type) {
  return classes * element_size(type) % kLine == 0;
}

/// Whether the output is written with nontemporal stores, because it exceeds the caches: its lines
/// are then not read before they are written.
inline bool uses_nontemporal(const KernelParams& a) {
  constexpr int64_t kNontemporalFrom = int64_t{8} << 20;  // bytes
  return a.rows.count * a.rows.classes * element_size(a.output_type) >= kNontemporalFrom;
}

/// Most rows of a spatial group, and the fewest.
constexpr int64_t kMaxSpatialRows = 256;
constexpr int64_t kMinSpatialRows = 16;

/// Rows of a group: enough to fill a tile, or, of spatial rows, equal parts of the innermost row
/// dimension.
inline int64_t rows_per_group(const Rows& rows) {
  if (words_run_along_classes(rows)) {
    const int64_t fit = rows.classes < kTile ? kTile / rows.classes : 1;
    return fit < 16 ? fit : fit / 16 * 16;  // 16 rows end with a cache line, and a block of words
  }
  constexpr int64_t kSpatialElements =
      1024 * 256;  // values of a group, unless these are too few rows
  const int64_t inner = rows.dims > 0 ? rows.size[rows.dims - 1] : 1;
  const int64_t fit = kSpatialElements / rows.classes;
  const int64_t most = fit > kMaxSpatialRows   ? kMaxSpatialRows
                       : fit < kMinSpatialRows ? kMinSpatialRows
                                               : fit;
  const int64_t parts = (inner + most - 1) / most;
  const int64_t equal = (inner + parts - 1) / parts;
  return (equal + kMinSpatialRows - 1) / kMinSpatialRows * kMinSpatialRows;
}

/// Whether rows are spatial (processed class by class): neighbours' words are consecutive, and
/// there are enough.
inline bool is_spatial(const KernelParams& a) {
  const Rows& rows = a.rows;
  if (words_run_along_classes(rows) || rows.dims == 0) return false;
  const int last = rows.dims - 1;
  const auto step = [&](Operand operand) { return rows.stride[static_cast<int>(operand)][last]; };
  return rows.size[last] >= kMinSpatialRows && step(Operand::kWord) == 1 &&
         (a.key == nullptr || step(Operand::kKey) == 0);
}

constexpr int64_t kShortRow =
    256;  // up to here, the weights of a group are computed in one flat pass

constexpr bool draws_soft(Op op) { return op == Op::kSoft || op == Op::kHardSoft; }

/// Whether rows are written with nontemporal stores a cache line at a time, including lines that
/// two rows share.
inline bool in_lines(Op op, const KernelParams& a) {
  const DType type = a.input_type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  return draws_soft(op) && uses_nontemporal(a) && words_run_along_classes(a.rows) &&
         a.rows.classes > kShortRow && a.rows.classes <= kTile && a.output_type == type;
}

/// Whether rows are taken tile by tile. Soft ones already from the second tile on: their weights
/// may be stored in the output.
inline bool in_tiles(Op op, const KernelParams& a) {
  const bool early = draws_soft(op) && words_run_along_classes(a.rows) && !in_lines(op, a);
  return a.rows.classes > (early ? kTile : kLongRow) && !is_spatial(a);
}

/// Rows that a kernel is called with at once. Soft samples with nontemporal stores: several groups,
/// of which the last ends with a line if the first begins with one.
inline int64_t rows_per_call(Op op, const KernelParams& a) {
  constexpr int64_t kElements = 32768, kLines = 16;  // rows that end with a line, of any length
  const int64_t group = rows_per_group(a.rows), classes = a.rows.classes;
  if (!in_lines(op, a)) return group;
  const int64_t together = whole_lines(classes, a.output_type) ? group : kLines * group;
  return (kElements / classes + together - 1) / together * together;
}

/// Scratch values of a spatial group.
inline int64_t spatial_values(const Rows& rows) {
  const int64_t cached = rows.classes <= kLongRow ? rows.classes : kLongRow;
  const int64_t tiles = (rows.classes + kTile - 1) / kTile;
  return (cached + 4 * tiles) * rows_per_group(rows);
}

/// Whether incoming gradients are read where they lie; otherwise a group's are copied to scratch.
inline bool grads_in_place(const KernelParams& a, DType opmath_type) {
  const int grad = static_cast<int>(Operand::kGrad);
  const Rows& rows = a.rows;
  const bool packed = rows.dims == 0 || rows.stride[grad][rows.dims - 1] == rows.classes;
  return a.grad_type == opmath_type && rows.class_stride[grad] == 1 && packed;
}

/// Rows of more classes are never transposed in a vector, on any instruction set.
constexpr int64_t kMaxSmallRow = 16;

/// Padding of a group's values: a line before them, and values past them that kernels may read and
/// restore.
constexpr int64_t kScratchSlack = 64;

/// Scratch that `Kernels::rows` and the tile functions need, in bytes: a group's values, and in a
/// backward its incoming gradients where they must be copied. For rows along the last dimension at
/// most 64 KiB (128 KiB for float64 with gradients to copy); 1 MiB for spatial rows, twice that for
/// float64.
inline int64_t scratch_bytes(Op op, const KernelParams& a) {
  const Rows& rows = a.rows;
  const int64_t whole = rows.count * rows.classes;
  const int64_t elements = in_tiles(op, a) ? kTile : rows_per_group(rows) * rows.classes;
  const bool wide = (op == Op::kNoise ? a.output_type : a.input_type) == DType::kFloat64;
  const bool backward = op == Op::kBackward || op == Op::kHardBackward;
  const bool two = backward && !grads_in_place(a, wide ? DType::kFloat64 : DType::kFloat32);
  if (is_spatial(a)) return spatial_values(rows) * (wide ? 8 : 4);
  return ((elements < whole ? elements : whole) + kScratchSlack) * (wide ? 8 : 4) * (two ? 2 : 1);
}

/// Bytes of the weight cache of a row in tiles, which holds its unnormalised weights between the
/// two passes; 0 for none: they are then stored in the output, or recomputed.
inline int64_t weight_cache_bytes(Op op, const KernelParams& a, int threads) {
  constexpr int64_t kMaxCachedClasses =
      131072;  // classes: with this many, it stays in the second-level cache
  if ((!draws_soft(op) && op != Op::kHardBackward) || a.rows.classes > kMaxCachedClasses) return 0;
  const DType type = a.input_type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  const bool in_output = a.output_type == type && a.rows.step(Operand::kOutput) == 1;
  // Weights in the output load its lines into the caches first, 12 bytes of traffic per element and
  // not 8: faster as long as few threads share the memory bandwidth. A gradient would overwrite
  // them.
  constexpr int kFewThreads = 4;
  if (in_output && (!uses_nontemporal(a) || (draws_soft(op) && threads <= kFewThreads))) return 0;
  return (a.rows.classes + kScratchSlack) * element_size(type);
}

/// Results of the first pass over a tile.
struct TileStat {
  double max = 0;     // largest score (NaN: the tile holds NaN or +inf)
  double sum = 0;     // of exp((score - max) / tau)
  double dot = 0;     // of that weight (or y) times the incoming gradient
  int64_t index = 0;  // class of the largest score
  double tau = 0;     // second pass: this tile's share of d loss / d tau
};

struct KlParams;  // kl_params.h

struct Kernels {
  const char* name;
  /// The whole op on rows [begin, end). `scratch` (here and below): scratch_bytes(op, a), the
  /// caller's own, 64-byte aligned.
  void (*rows)(Op op, const KernelParams& a, int64_t begin, int64_t end, void* scratch);
  /// First pass over tiles [begin, end) of one long row; `stats` has one entry per tile of the row.
  /// `weight_cache`: weight_cache_bytes(op, a, threads) for the whole row, or null. Writes the
  /// zeros of a hard row, and may store unnormalised weights in the output.
  void (*reduce_tiles)(Op op, const KernelParams& a, int64_t row, int64_t begin, int64_t end,
                       TileStat* stats, void* scratch, void* weight_cache);
  /// Second pass, once `stats` is complete: writes the output of tiles [begin, end), lines that
  /// tiles share with the first of them, and their `tau`.
  void (*finish_tiles)(Op op, const KernelParams& a, int64_t row, int64_t begin, int64_t end,
                       TileStat* stats, void* scratch, void* weight_cache);
  /// The row's own results (index, log-sum-exp, gradient at tau), after both passes.
  void (*finish_row)(Op op, const KernelParams& a, int64_t row, const TileStat* stats);
  /// Relative entropy of rows [begin, end), and its gradient. `scratch`: kl_scratch_bytes(a).
  void (*kl)(const KlParams& a, int64_t begin, int64_t end, void* scratch);
  void (*kl_backward)(const KlParams& a, int64_t begin, int64_t end, void* scratch);
};

constexpr int64_t tiles_of(int64_t classes) { return (classes + kTile - 1) / kTile; }

/// Builds of kernels.cpp that this library holds and this machine runs, slowest first.
/// TORCH_GUMBEL_CPU=name in the environment (read once) picks one; std::invalid_argument if it
/// names none.
const Kernels& selected_kernels();

/// Names of the builds that this machine runs, separated by spaces, and one of them by name (null:
/// not here).
const char* runnable_names();
const Kernels* kernels_by_name(const char* name);

}  // namespace torch_gumbel::cpu
