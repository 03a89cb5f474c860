// SPDX-License-Identifier: Apache-2.0
// Which kernel takes which gates, and how it is launched.
#include <cuda_runtime.h>

#include "kernels.h"
#include "kernels/gate.cuh"
#include "plan.h"

namespace torch_gumbel::cuda {

namespace {

/// Whether all tensors are flat, of one temperature, one key, and one type that has a fast kernel,
/// and begin where 16 bytes and a block of words do.
bool are_flat_gates(const GateParams& a) {
  const Rows& rows = a.rows;
  const auto step = [&](Operand operand) -> int64_t {
    return rows.dims == 0 ? 1 : rows.stride[static_cast<int>(operand)][0];
  };
  const auto fits = [&](Operand operand, const void* data, DType type) {
    return data == nullptr || (type == a.input_type && step(operand) == 1 &&
                               reinterpret_cast<uintptr_t>(data) % 16 == 0);
  };
  const bool one_row = rows.dims <= 1 && a.input_type != DType::kFloat64;
  const bool one_tau = a.tau == nullptr || rows.dims == 0 || step(Operand::kTau) == 0;
  const bool one_key = a.key == nullptr || rows.dims == 0 || step(Operand::kKey) == 0;
  return one_row && one_tau && one_key && step(Operand::kWord) == 1 && rows.first_word % 4 == 0 &&
         fits(Operand::kInput, a.input, a.input_type) &&
         fits(Operand::kGrad, a.grad, a.grad_type) &&
         fits(Operand::kOutput, a.output, a.output_type) &&
         fits(Operand::kOutput, a.one_hot, a.output_type);
}

GateKind kind_of(GateOp op, const GateParams& a) {
  if (op == GateOp::kBackward) return GateKind::kBackward;
  if (op == GateOp::kRecompute) return GateKind::kRecompute;
  if (a.one_hot != nullptr) return GateKind::kKeep;
  if (a.hard) return GateKind::kHard;
  return a.lower != 0 || a.upper != 1 ? GateKind::kStretched : GateKind::kSoft;
}

using FlatKernel = void (*)(GateProblem);

template <typename Element>
FlatKernel flat_kernel(GateKind kind) {
  switch (kind) {
    case GateKind::kSoft:
      return gate_kernel<Element, GateKind::kSoft>;
    case GateKind::kStretched:
      return gate_kernel<Element, GateKind::kStretched>;
    case GateKind::kHard:
      return gate_kernel<Element, GateKind::kHard>;
    case GateKind::kKeep:
      return gate_kernel<Element, GateKind::kKeep>;
    case GateKind::kBackward:
      return gate_kernel<Element, GateKind::kBackward>;
    case GateKind::kRecompute:
      return gate_kernel<Element, GateKind::kRecompute>;
  }
  return nullptr;
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>(
      planning::at_most(planning::ceil_div(threads, kThreads), planning::kMaxBlocks));
}

}  // namespace

void gates(GateOp op, const GateParams& a, cudaStream_t stream) {
  if (a.rows.count == 0) return;
  GateProblem problem;
  problem.a = a;
  problem.keys = math::round_keys(a.host_key.seed);
  if (!are_flat_gates(a)) {
    void* arguments[] = {&problem, &op};
    const auto kernel =
        a.input_type == DType::kFloat64 ? gate_generic_kernel<double> : gate_generic_kernel<float>;
    (void)cudaLaunchKernel(kernel, dim3(blocks_for(a.rows.count)), dim3(kThreads), arguments, 0,
                           stream);
    return;
  }
  const int width = planning::width_of(a.input_type);
  problem.vectors = a.rows.count / width;
  const GateKind kind = kind_of(op, a);
  const FlatKernel kernel = a.input_type == DType::kFloat32   ? flat_kernel<Float32>(kind)
                            : a.input_type == DType::kFloat16 ? flat_kernel<Float16>(kind)
                                                              : flat_kernel<BFloat16>(kind);
  void* arguments[] = {&problem};
  // Threads for the elements after the last vector, too: fewer than there are vectors, or a block.
  (void)cudaLaunchKernel(kernel, dim3(blocks_for(problem.vectors + 1)), dim3(kThreads), arguments,
                         0, stream);
}

}  // namespace torch_gumbel::cuda
