// SPDX-License-Identifier: Apache-2.0
// Filtered draws on the CPU.
#include <torch/library.h>

#include "../ops/filter_backend.h"
#include "../ops/parallel.h"
#include "filter_params.h"
#include "kernels.h"
#include "scratch.h"

namespace torch_gumbel::cpu {
namespace {

struct FilterBackend {
  static constexpr bool kAlongClasses = true;

  static void run(const FilterParams& a, const at::Tensor&) {
    const Rows& rows = a.rows;
    const DType opmath = a.input_type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    const int64_t bytes = filter_scratch_bytes(rows.classes, opmath);
    const FilterKernel kernel = filter_kernel(selected_kernels());
    const int64_t grain = std::max<int64_t>(1, kElementsPerThread / rows.classes);
    ops::parallel_for(0, rows.count, grain, [&](int64_t begin, int64_t end) {
      const Scratch scratch(bytes);
      kernel(a, begin, end, scratch.get());
    });
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) { ops::FilterOps<FilterBackend>::register_on(m); }

}  // namespace
}  // namespace torch_gumbel::cpu
