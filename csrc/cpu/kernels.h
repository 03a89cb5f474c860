// SPDX-License-Identifier: Apache-2.0
// The CPU kernels as the launcher sees them: one table per instruction set. Torch-free.
#pragma once

#include "../include/torch_gumbel/export.h"
#include "plan.h"

namespace torch_gumbel {

struct GateParams;  // ../math/gate.h
enum class GateOp;

namespace cpu {

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
  /// The whole op on rows [begin, end). `scratch` (here and below): plan.scratch_bytes, the
  /// caller's own, 64-byte aligned.
  void (*rows)(const PlannedParams& a, int64_t begin, int64_t end, void* scratch);
  /// First pass over tiles [begin, end) of one long row; `stats` has one entry per tile of the row.
  /// `weight_cache`: plan.weight_cache_bytes for the whole row, or null. Writes the zeros of a hard
  /// row, and may store unnormalised weights in the output.
  void (*reduce_tiles)(const PlannedParams& a, int64_t row, int64_t begin, int64_t end,
                       TileStat* stats, void* scratch, void* weight_cache);
  /// Second pass, once `stats` is complete: writes the output of tiles [begin, end), lines that
  /// tiles share with the first of them, and their `tau`.
  void (*finish_tiles)(const PlannedParams& a, int64_t row, int64_t begin, int64_t end,
                       TileStat* stats, void* scratch, void* weight_cache);
  /// The row's own results (index, log-sum-exp, gradient at tau), after both passes.
  void (*finish_row)(const PlannedParams& a, int64_t row, const TileStat* stats);
  /// Relative entropy of rows [begin, end), and its gradient. `scratch`: a.plan.scratch_bytes.
  void (*kl)(const KlParams& a, int64_t begin, int64_t end, void* scratch);
  void (*kl_backward)(const KlParams& a, int64_t begin, int64_t end, void* scratch);
  /// Gates of elements [begin, end), each a row of one class.
  void (*gates)(GateOp op, const GateParams& a, int64_t begin, int64_t end);
  /// The backward of one-hot samples: rows [begin, end). a.plan: make_one_hot_plan.
  void (*one_hot_backward)(const PlannedParams& a, int64_t begin, int64_t end, void* scratch);
};

/// Builds of kernels.cpp that this library holds and this machine runs, slowest first.
/// TORCH_GUMBEL_CPU=name in the environment (read once) picks one; std::invalid_argument if it
/// names none.
TORCH_GUMBEL_API const Kernels& selected_kernels();

/// Names of the builds that this machine runs, separated by spaces, and one of them by name (null:
/// not here).
TORCH_GUMBEL_API const char* runnable_names();
TORCH_GUMBEL_API const Kernels* kernels_by_name(const char* name);

}  // namespace cpu
}  // namespace torch_gumbel
