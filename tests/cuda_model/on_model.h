// SPDX-License-Identifier: Apache-2.0
// The ops of cuda/kernels.h on the execution model, beside the CPU's.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "../../cuda/kernels.h"
#include "../cpp/problem.h"
#include "model/model.h"

namespace torch_gumbel::testing {

/// Whether this build is a slow one, for fewer shapes, and whether a deeper sweep is wanted.
#ifdef CUDA_MODEL_SMALL
constexpr bool kSmall = true;
#else
constexpr bool kSmall = false;
#endif
bool deep();

/// How much further than the CPU's bounds soft values and gradients may be off.
constexpr double kDeviceAllowance = 2.5;

/// Noise and choices, whose bits are the CPU's.
bool is_exact(Op op);

/// Calls the op's function of cuda/kernels.h.
void launch(Op op, const KernelParams& a, const cuda::Resources& resources = {});

/// How a problem is run.
struct Conditions {
  cuda_model::Order order = cuda_model::Order::kForward;
  int multiprocessors = 0;  // of a device that gives a workspace; 0: none is given
  bool clusters = false;
};

/// Runs a problem's op; a fault fails the test.
void run_on_model(Problem& problem, const Conditions& under = {});

using Change = std::function<void(Problem&)>;

/// Runs a case, changed before, in several orders, which must agree in bits; with and without a
/// workspace if it has use for one. Exact ops are compared with the CPU op, the others with the
/// reference: their rows must have a distribution.
void check_on_model(const Case& wanted, const Change& change = {});

/// Likewise on a device of few multiprocessors that has clusters, by kernels that these run.
void check_in_clusters(const Case& wanted, const Change& change = {});

/// Equal, or both NaN.
bool same(double a, double b);

/// Runs a case of kHardSoft, changed before, and compares its one-hots alone: with the CPU's hard
/// samples. For rows whose soft samples depend on how a score is rounded.
void check_one_hots_on_model(const Case& wanted, const Change& change);

/// What a case is, for messages.
std::string text_of(const Case& wanted);

/// What was run so far in this program.
struct Tally {
  std::set<std::string> kernels;
  uint64_t cases = 0;
};
Tally& tally();

}  // namespace torch_gumbel::testing
