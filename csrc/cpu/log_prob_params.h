// SPDX-License-Identifier: Apache-2.0
// Log-probabilities and entropies as their launcher sees them: what the kernels take, and a table of
// them per instruction set. Torch-free.
#pragma once

#include "../include/torch_gumbel/export.h"
#include "../math/log_prob.h"
#include "plan.h"

namespace torch_gumbel::cpu {

struct LogProbCall : LogProbParams {
  Plan plan;
};

/// As make_kl_plan, and for the gradient, written to `output`: nontemporal, direct_gradients.
TORCH_GUMBEL_API Plan make_log_prob_plan(const KernelParams& a,
                                         int64_t nontemporal_bytes = kNontemporalBytes);

/// Rows [begin, end). `scratch`: a.plan.scratch_bytes, the caller's own, 64-byte aligned.
struct LogProbKernels {
  void (*forward)(const LogProbCall& a, int64_t begin, int64_t end, void* scratch);
  void (*backward)(const LogProbCall& a, int64_t begin, int64_t end, void* scratch);
};

struct Kernels;  // kernels.h
/// Those of the instruction set of these kernels.
TORCH_GUMBEL_API const LogProbKernels& log_prob_kernels(const Kernels& kernels);

}  // namespace torch_gumbel::cpu
