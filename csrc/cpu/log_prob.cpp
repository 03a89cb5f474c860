// SPDX-License-Identifier: Apache-2.0
// Log-probabilities and entropies on the CPU: rows shared among threads.
#include <torch/library.h>

#include "../ops/log_prob_backend.h"
#include "../ops/parallel.h"
#include "kernels.h"
#include "log_prob_params.h"
#include "scratch.h"

namespace torch_gumbel::cpu {
namespace {

struct Backend {
  /// Without a read of it that the forward would not make: rows are few beside logits.
  static void check_index(const at::Tensor& index, int64_t classes) {
    const at::Tensor packed = index.contiguous();
    const auto* values = packed.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < packed.numel(); ++i)
      TORCH_CHECK_INDEX(values[i] >= 0 && values[i] < classes,
                        "log_prob_entropy: index must be in [0, ", classes, "), got ", values[i],
                        " for row ", i);
  }

  static void run(bool backward, const LogProbParams& params, const at::Tensor&) {
    const LogProbCall a = {params, make_log_prob_plan(params)};
    const LogProbKernels& kernels = log_prob_kernels(selected_kernels());
    const auto rows = backward ? kernels.backward : kernels.forward;
    ops::parallel_for(0, a.rows.count, a.plan.grain, [&](int64_t begin, int64_t end) {
      const Scratch scratch(a.plan.scratch_bytes);
      rows(a, begin, end, scratch.get());
    });
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) { ops::LogProbOps<Backend>::register_on(m); }

}  // namespace
}  // namespace torch_gumbel::cpu
