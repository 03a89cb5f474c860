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

/// Whether the random words of a row follow each other. If not (`dim` is not the last one), several
/// neighbouring rows are taken together, because it is then their words that follow each other.
inline bool words_run_along_classes(const Rows& rows) {
  return rows.step(Operand::kWord) == 1 || rows.classes == 1;
}

/// Rows handled together: enough to fill a tile, or, across rows, to make runs of words worth a
/// vector.
inline int64_t rows_per_group(const Rows& rows) {
  constexpr int64_t kAcrossRows = 64;
  constexpr int64_t kAcrossElements = 65536;
  if (rows.classes > kLongRow) return 1;
  if (words_run_along_classes(rows)) return rows.classes < kTile ? kTile / rows.classes : 1;
  return rows.classes * kAcrossRows < kAcrossElements ? kAcrossRows
                                                      : kAcrossElements / rows.classes;
}

/// Whether incoming gradients are read where they lie; otherwise a group's are copied to scratch.
inline bool grads_in_place(const Arguments& a, DType compute_type) {
  const int grad = static_cast<int>(Operand::kGrad);
  const Rows& rows = a.rows;
  const bool packed = rows.dims == 0 || rows.stride[grad][rows.dims - 1] == rows.classes;
  return a.grad_type == compute_type && rows.class_stride[grad] == 1 && packed;
}

/// Scratch that `Kernels::rows` and the tile functions need, in bytes: a group's values, and in a
/// backward its incoming gradients where they must be copied. For rows along the last dimension at
/// most 64 KiB (128 KiB for float64 with gradients to copy); 512 KiB where rows run across memory,
/// twice that for float64.
inline int64_t scratch_bytes(Op op, const Arguments& a) {
  const Rows& rows = a.rows;
  const int64_t whole = rows.count * rows.classes;
  const int64_t elements = rows.classes > kLongRow ? kTile : rows_per_group(rows) * rows.classes;
  const bool wide = (op == Op::kNoise ? a.output_type : a.input_type) == DType::kFloat64;
  const bool backward = op == Op::kBackward || op == Op::kHardBackward;
  const bool two = backward && !grads_in_place(a, wide ? DType::kFloat64 : DType::kFloat32);
  return (elements < whole ? elements : whole) * (wide ? 8 : 4) * (two ? 2 : 1);
}

/// What the first pass over a tile leaves for the second.
struct TileStat {
  double max = 0;     // largest score (NaN: the tile holds NaN or +inf)
  double sum = 0;     // of exp((score - max) / tau)
  double dot = 0;     // of that exponential (or y) times the incoming gradient
  int64_t index = 0;  // class of the largest score
  double tau = 0;     // second pass: this tile's share of d loss / d tau
};

struct Kernels {
  const char* name;
  /// The whole op on rows [begin, end). `scratch` (here and below): scratch_bytes(op, a), the
  /// caller's own, 64-byte aligned.
  void (*rows)(Op op, const Arguments& a, int64_t begin, int64_t end, void* scratch);
  /// First pass over tiles [begin, end) of one long row; `stats` has one entry per tile of the row.
  void (*reduce_tiles)(Op op, const Arguments& a, int64_t row, int64_t begin, int64_t end,
                       TileStat* stats, void* scratch);
  /// Second pass, once `stats` is complete: writes the output of tiles [begin, end), and their
  /// `tau`.
  void (*finish_tiles)(Op op, const Arguments& a, int64_t row, int64_t begin, int64_t end,
                       TileStat* stats, void* scratch);
  /// The row's own results (index, log-sum-exp, gradient at tau), after both passes.
  void (*finish_row)(Op op, const Arguments& a, int64_t row, const TileStat* stats);
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
