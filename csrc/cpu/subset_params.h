// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples as their launcher sees them: what the kernels take, and a table of them per
// instruction set. Torch-free.
#pragma once

#include "../include/torch_gumbel/export.h"
#include "../math/subset.h"
#include "plan.h"

namespace torch_gumbel::cpu {

struct SubsetCall : SubsetParams {
  Plan plan;

  /// Elements from one buffer of a row to the next.
  int64_t pitch() const {
    return (rows.classes + 2 * kScratchSlack - 1) / kScratchSlack * kScratchSlack;
  }
};

/// rows_per_group, grain, scratch_bytes, opmath. The backward's scratch holds the weights of every
/// round of a row, and its scores where the gradient at the temperature is wanted.
TORCH_GUMBEL_API Plan make_subset_plan(const SubsetParams& a, bool backward);

/// Rows [begin, end). `scratch`: a.plan.scratch_bytes, the caller's own, 64-byte aligned.
struct SubsetKernels {
  void (*forward)(const SubsetCall& a, int64_t begin, int64_t end, void* scratch);
  void (*backward)(const SubsetCall& a, int64_t begin, int64_t end, void* scratch);
};

struct Kernels;  // kernels.h
/// Those of the instruction set of these kernels.
TORCH_GUMBEL_API const SubsetKernels& subset_kernels(const Kernels& kernels);

}  // namespace torch_gumbel::cpu
