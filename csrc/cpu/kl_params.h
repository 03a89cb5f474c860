// SPDX-License-Identifier: Apache-2.0
// What the kernels of relative entropy take, and their scratch. Torch-free.
#pragma once

#include "kernels.h"

namespace torch_gumbel::cpu {

/// One value per row: of the opmath type, contiguous; the backward reads what the forward wrote.
struct KlParams {
  Rows rows;
  const void* values = nullptr;     // logits or probabilities
  const void* log_prior = nullptr;  // Operand::kLogPrior, of the opmath type; null: uniform
  void* output = nullptr;           // backward: gradient at the values
  DType type = DType::kFloat32;     // of values and output
  bool from_probs = false;
  void* kl = nullptr;       // [rows]
  void* base = nullptr;     // [rows] largest logit, or sum of the probabilities
  void* log_sum = nullptr;  // [rows] log of the sum of exp(logit - base), or of the probabilities
  const void* grad = nullptr;  // [rows] backward: gradient of the loss at kl
};

/// Most rows of a group, how many there are in one, and the values of a group's tile.
constexpr int64_t kKlRows = 256;

inline int64_t kl_rows_at_once(const Rows& rows) {
  constexpr int64_t kSpatialElements = 65536;  // values of a tile, unless these are too few rows
  const int64_t classes = rows.classes < kTile ? rows.classes : kTile;
  const bool along = rows.step(Operand::kInput) == 1;
  const int64_t fit = (along ? kTile : kSpatialElements) / (classes > 0 ? classes : 1);
  if (along && rows.classes > kTile) return 1;
  return fit < 1 ? 1 : fit > kKlRows ? kKlRows : fit;
}

inline int64_t kl_buffer_values(const Rows& rows) {
  const int64_t classes = rows.classes < kTile ? rows.classes : kTile;
  return kl_rows_at_once(rows) * classes + kScratchSlack;
}

/// Scratch of Kernels::kl and kl_backward, in bytes.
inline int64_t kl_scratch_bytes(const KlParams& a) {
  return 2 * kl_buffer_values(a.rows) * (a.type == DType::kFloat64 ? 8 : 4);
}

}  // namespace torch_gumbel::cpu
