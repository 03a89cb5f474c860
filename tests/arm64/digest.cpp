// SPDX-License-Identifier: Apache-2.0
// A number for the bits of every op on the build that TORCH_GUMBEL_CPU names: equal on every
// processor.
#include <cstdio>

#include "../cpp/problem.h"

using namespace torch_gumbel;

int main() {
  uint64_t digest = 14695981039346656037u;  // FNV-1a
  for (const Op op : testing::kAllOps)
    for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16})
      for (const int64_t classes : {2, 5, 10, 31, 33, 100, 300, 1000, 2049, 9000})
        for (const int dim : {0, 1})
          for (const double tau : {0.6, 1.0}) {
            testing::Case wanted;
            wanted.op = op;
            wanted.input = wanted.grad = wanted.output = type;
            wanted.dim = dim;
            wanted.tau = tau;
            wanted.sizes = dim == 0 ? testing::Sizes{classes, 18} : testing::Sizes{5, classes};
            testing::Problem problem(wanted);
            problem.run(cpu::selected_kernels());
            for (const uint64_t bits : problem.results()) digest = (digest ^ bits) * 1099511628211u;
          }
  std::printf("%s %016llx\n", cpu::selected_kernels().name,
              static_cast<unsigned long long>(digest));
}
