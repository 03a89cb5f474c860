// SPDX-License-Identifier: Apache-2.0
// What the kernels of relative entropy take. Torch-free.
#pragma once

#include "plan.h"

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
  Plan plan;                   // make_kl_plan(rows, type)
};

}  // namespace torch_gumbel::cpu
