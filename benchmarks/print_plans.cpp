// SPDX-License-Identifier: Apache-2.0
// Prints how cuda/plan.h launches contiguous problems, for launch_report.py. A line of standard input
// is "op dtype rows classes inner clusters", by their numbers in csrc/math/rows.h, clusters 1 on a
// device that has them; a line of output "family threads blocks blocks_per_row".
#include <cstdio>
#include <initializer_list>

#include "../cuda/plan.h"

namespace {

using namespace torch_gumbel;

alignas(256) unsigned char somewhere[256];  // never read or written

KernelParams contiguous(DType type, long rows, long classes, long inner) {
  KernelParams a;
  a.rows.count = rows;
  a.rows.classes = classes;
  a.rows.dims = inner > 1 ? 2 : 1;
  a.rows.size[0] = rows / inner;
  a.rows.size[1] = inner;
  for (const Operand o : {Operand::kInput, Operand::kGrad, Operand::kOutput, Operand::kWord}) {
    const auto operand = static_cast<int>(o);
    a.rows.class_stride[operand] = inner;
    a.rows.stride[operand][0] = inner * classes;
    a.rows.stride[operand][1] = 1;
  }
  a.input = a.grad = a.output = a.one_hot = somewhere;
  a.input_type = a.grad_type = a.output_type = type;
  return a;
}

}  // namespace

int main() {
  int op, type, clusters;
  long rows, classes, inner;
  while (std::scanf("%d %d %ld %ld %ld %d", &op, &type, &rows, &classes, &inner, &clusters) == 6) {
    const KernelParams a = contiguous(static_cast<DType>(type), rows, classes, inner);
    const cuda::Plan plan = cuda::plan_for(static_cast<Op>(op), a, {132, true, clusters == 1});
    std::printf("%d %d %lld %d\n", static_cast<int>(plan.family), plan.threads,
                static_cast<long long>(plan.blocks), plan.blocks_per_row);
  }
}
