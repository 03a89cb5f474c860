// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples on the CPU: rows shared among threads.
#include <torch/library.h>

#include "../ops/parallel.h"
#include "../ops/subset_backend.h"
#include "kernels.h"
#include "scratch.h"
#include "subset_params.h"

namespace torch_gumbel::cpu {
namespace {

struct Backend {
  static void run(const SubsetParams& params, const at::Tensor&) {
    const bool backward = params.grad != nullptr;
    const SubsetCall a = {params, make_subset_plan(params, backward)};
    const SubsetKernels& kernels = subset_kernels(selected_kernels());
    const auto rows = backward ? kernels.backward : kernels.forward;
    ops::parallel_for(0, a.rows.count, a.plan.grain, [&](int64_t begin, int64_t end) {
      const Scratch scratch(a.plan.scratch_bytes);
      rows(a, begin, end, scratch.get());
    });
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) { ops::SubsetOps<Backend>::register_on(m); }

}  // namespace
}  // namespace torch_gumbel::cpu
