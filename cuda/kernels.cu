// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "cluster.h"
#include "device/keys.cuh"
#include "device/ops.cuh"
#include "kernels.h"
#include "kernels/estimators.cuh"
#include "plan.h"

namespace torch_gumbel::cuda {

namespace {

void start(Kernel kernel, const Problem& problem, int64_t blocks, int threads, int64_t shared,
           cudaStream_t stream) {
  void* arguments[] = {const_cast<Problem*>(&problem)};
  (void)cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)),
                         dim3(static_cast<unsigned>(threads)), arguments,
                         static_cast<size_t>(shared), stream);
}

/// f(Element) for the type of a fast kernel's input.
template <typename F>
Kernel with_element(DType type, F f) {
  if (type == DType::kFloat32) return f(Float32{});
  if (type == DType::kFloat16) return f(Float16{});
  return f(BFloat16{});
}

/// f(Output) for the type of noise.
template <typename F>
Kernel with_output(DType type, F f) {
  if (type == DType::kFloat64) return f(Float64{});
  return with_element(type, f);
}

/// f(std::true_type-like) for a bool.
template <bool kValue>
struct Constant {
  static constexpr bool value = kValue;
};

template <typename F>
Kernel with_bool(bool value, F f) {
  return value ? f(Constant<true>{}) : f(Constant<false>{});
}

template <typename Op>
Kernel tile_kernel(const Plan& plan, const KernelParams& a) {
  return with_element(a.input_type, [&](auto element) {
    return with_bool(a.key != nullptr, [&](auto on_device) {
      using Element = decltype(element);
      constexpr bool kDevice = decltype(on_device)::value;
      return plan.classes_per_thread == 4 ? Op::template tile<Element, 4, kDevice>()
                                          : Op::template tile<Element, 8, kDevice>();
    });
  });
}

/// The kernel of rows in registers by classes per thread: of a warp, then of a block.
template <typename Op, typename Element, bool kDevice>
Kernel select_row_kernel(const Plan& plan) {
  constexpr int kWidth = Element::kWidth;
  const int items = plan.classes_per_thread;
  if (!plan.block_per_row) {
    if (items == 8) return Op::template row<Element, 8 / kWidth, WarpThreadGroup, kDevice>();
    if (items == 16) return Op::template row<Element, 16 / kWidth, WarpThreadGroup, kDevice>();
    return Op::template row<Element, 32 / kWidth, WarpThreadGroup, kDevice>();
  }
  if constexpr (Op::kUsesMaxItems)
    if (items == 64) return Op::template row<Element, 64 / kWidth, BlockThreadGroup, kDevice>();
  return Op::template row<Element, 32 / kWidth, BlockThreadGroup, kDevice>();
}

template <typename Op>
Kernel row_kernel(const Plan& plan, const KernelParams& a) {
  return with_element(a.input_type, [&](auto element) {
    return with_bool(a.key != nullptr, [&](auto on_device) {
      return select_row_kernel<Op, decltype(element), decltype(on_device)::value>(plan);
    });
  });
}

template <typename Op>
Kernel spatial_kernel(const KernelParams& a) {
  return with_element(a.input_type, [&](auto element) {
    return with_bool(a.key != nullptr, [&](auto on_device) {
      return Op::template spatial<decltype(element), decltype(on_device)::value>();
    });
  });
}

template <typename Op, Stage kStage>
Kernel looped_kernel(const Plan& plan, const KernelParams& a) {
  return with_element(a.input_type, [&](auto element) {
    return with_bool(a.key != nullptr, [&](auto on_device) {
      using Element = decltype(element);
      constexpr bool kDevice = decltype(on_device)::value;
      if constexpr (std::is_same_v<Op, Argmax>)
        if (!plan.aligned) return Op::template looped<Unaligned<Element>, kDevice, kStage>();
      return Op::template looped<Element, kDevice, kStage>();
    });
  });
}

Kernel noise_kernel(const Plan& plan, const KernelParams& a) {
  if (plan.family != Family::kRun)
    return a.output_type == DType::kFloat64 ? noise_generic_kernel<double>
                                            : noise_generic_kernel<float>;
  return with_output(a.output_type, [&](auto output) {
    return with_bool(a.key != nullptr, [&](auto on_device) -> Kernel {
      return noise_run_kernel<decltype(output), decltype(on_device)::value>;
    });
  });
}

Problem problem_of(const KernelParams& a, const Plan& plan, void* workspace) {
  Problem problem;
  problem.a = a;
  problem.keys = math::round_keys(a.host_key.seed);
  problem.temperature = temperature_of(a.host_tau);
  problem.scaled = a.tau != nullptr || a.host_tau != 1.0;
  problem.spatial = plan.spatial;
  problem.threads_per_row = plan.threads_per_row;
  while (1 << problem.threads_per_row_log2 < plan.threads_per_row) ++problem.threads_per_row_log2;
  problem.tile_rows = plan.tile_rows;
  problem.tile_floats = plan.tile_floats;
  problem.tile_distance_log2 = plan.banking.distance_log2;
  problem.tile_rows_step = plan.banking.rows_step;
  problem.tile_shift = plan.banking.shift;
  problem.tile_shift_log2 = plan.banking.shift_log2;
  problem.blocks_per_row = plan.blocks_per_row;
  problem.vectors_per_block = plan.vectors_per_block;
  problem.workspace = workspace;
  return problem;
}

/// Both launches, and the sum of the blocks' gradients at tau.
template <typename Ops>
void start_multi_block(Op op, const Plan& plan, Problem p, cudaStream_t stream) {
  const bool spatial = plan.family == Family::kSpatial;
  p.stage = static_cast<int32_t>(Stage::kReduce);
  start(spatial ? spatial_kernel<Ops>(p.a) : looped_kernel<Ops, Stage::kReduce>(plan, p.a), p,
        plan.blocks, plan.threads, 0, stream);
  // An index needs one block for each row, whatever their layout.
  const bool index = op == Op::kArgmax;
  p.stage = static_cast<int32_t>(Stage::kFinish);
  start(
      spatial && !index ? spatial_kernel<Ops>(p.a) : looped_kernel<Ops, Stage::kFinish>(plan, p.a),
      p, index ? p.a.rows.count : plan.blocks, plan.threads, 0, stream);
  if (planning::has_grad(op) && p.a.row_value != nullptr)
    start(sum_multi_block_kernel, p, p.a.rows.count, kWarpSize, 0, stream);
}

template <typename Ops>
void launch(Op op, Kernel generic_float, Kernel generic_double, const KernelParams& a,
            cudaStream_t stream, const Resources& resources) {
  if (a.rows.count == 0 || a.rows.classes == 0) return;
  const Plan plan = plan_for(
      op, a, {resources.multiprocessors, resources.workspace != nullptr, resources.clusters});
  Problem p = problem_of(a, plan, resources.workspace);
  if (op == Op::kArgmax) p.temperature.inverse = math::sampling_inverse_of<float>(a.host_tau);
  const auto once = [&](Kernel kernel) {
    start(kernel, p, plan.blocks, plan.threads, plan.shared_bytes, stream);
  };
  switch (plan.family) {
    case Family::kTile:
      return once(tile_kernel<Ops>(plan, a));
    case Family::kRow:
      return once(row_kernel<Ops>(plan, a));
    case Family::kSpatial:
      if (plan.blocks_per_row > 1) return start_multi_block<Ops>(op, plan, p, stream);
      return once(spatial_kernel<Ops>(a));
    case Family::kLooped:
      return once(looped_kernel<Ops, Stage::kWhole>(plan, a));
    case Family::kMultiBlock:
      return start_multi_block<Ops>(op, plan, p, stream);
    case Family::kCluster:
      return launch_cluster(p, plan, stream);
    case Family::kRun:
    case Family::kGeneric:
      return once(a.input_type == DType::kFloat64 ? generic_double : generic_float);
  }
}

void launch_fold_in(const uint64_t* keys, int64_t count, uint64_t first, const uint64_t* number,
                    int64_t per_key, uint64_t* out, cudaStream_t stream) {
  if (count == 0 || per_key == 0) return;
  const int64_t pieces = planning::ceil_div(per_key * count, kThreads);
  const auto blocks = static_cast<unsigned>(planning::at_most(pieces, planning::kMaxBlocks));
  void* arguments[] = {&keys, &count, &first, &number, &per_key, &out};
  (void)cudaLaunchKernel(fold_in_kernel, dim3(blocks), dim3(kThreads), arguments, 0, stream);
}

}  // namespace

int64_t workspace_bytes(Op op, const KernelParams& a, int multiprocessors, bool clusters) {
  if (a.rows.count == 0 || a.rows.classes == 0) return 0;
  return plan_for(op, a, {multiprocessors, true, clusters}).workspace_bytes;
}

void soft_forward(const KernelParams& a, cudaStream_t stream, const Resources& resources) {
  launch<Soft>(Op::kSoft, soft_generic_kernel<float>, soft_generic_kernel<double>, a, stream,
               resources);
}

void hard_forward(const KernelParams& a, cudaStream_t stream, const Resources& resources) {
  launch<Hard>(Op::kHard, hard_generic_kernel<float>, hard_generic_kernel<double>, a, stream,
               resources);
}

void hard_soft_forward(const KernelParams& a, cudaStream_t stream, const Resources& resources) {
  launch<HardSoft>(Op::kHardSoft, hard_soft_generic_kernel<float>, hard_soft_generic_kernel<double>,
                   a, stream, resources);
}

void argmax(const KernelParams& a, cudaStream_t stream, const Resources& resources) {
  launch<Argmax>(Op::kArgmax, argmax_generic_kernel<float>, argmax_generic_kernel<double>, a,
                 stream, resources);
}

void backward(const KernelParams& a, cudaStream_t stream, const Resources& resources) {
  launch<Backward>(Op::kBackward, backward_generic_kernel<float>, backward_generic_kernel<double>,
                   a, stream, resources);
}

void hard_backward(const KernelParams& a, cudaStream_t stream, const Resources& resources) {
  launch<HardBackward>(Op::kHardBackward, hard_backward_generic_kernel<float>,
                       hard_backward_generic_kernel<double>, a, stream, resources);
}

void noise(const KernelParams& given, cudaStream_t stream) {
  if (given.rows.count == 0 || given.rows.classes == 0) return;
  const KernelParams a = planning::as_run(given);
  const Plan plan = plan_for(Op::kNoise, a, {});
  start(noise_kernel(plan, a), problem_of(a, plan, nullptr), plan.blocks, plan.threads, 0, stream);
}

void one_hot_backward(const KernelParams& a, cudaStream_t stream) {
  if (a.rows.count == 0 || a.rows.classes == 0) return;
  const Plan plan = planning::generic_plan(Op::kHardBackward, a);
  const bool wide = a.input_type == DType::kFloat64;
  const Kernel rao = wide ? gumbel_rao_generic_kernel<double> : gumbel_rao_generic_kernel<float>;
  const Kernel other =
      wide ? one_hot_backward_generic_kernel<double> : one_hot_backward_generic_kernel<float>;
  start(a.estimator == Estimator::kGumbelRao ? rao : other, problem_of(a, plan, nullptr),
        plan.blocks, plan.threads, 0, stream);
}

void fold_in(const uint64_t* keys, int64_t count, int64_t first, int64_t per_key, uint64_t* out,
             cudaStream_t stream) {
  launch_fold_in(keys, count, static_cast<uint64_t>(first), nullptr, per_key, out, stream);
}

void fold_in(const uint64_t* keys, int64_t count, const uint64_t* number, uint64_t* out,
             cudaStream_t stream) {
  launch_fold_in(keys, count, 0, number, 1, out, stream);
}

void noise_at(const NoiseAtParams& a, bool wide, cudaStream_t stream) {
  if (a.count == 0) return;
  const int64_t pieces = planning::ceil_div(a.count, kThreads);
  const auto blocks = static_cast<unsigned>(planning::at_most(pieces, planning::kMaxBlocks));
  void* arguments[] = {const_cast<NoiseAtParams*>(&a)};
  const auto kernel = wide ? noise_at_kernel<double> : noise_at_kernel<float>;
  (void)cudaLaunchKernel(kernel, dim3(blocks), dim3(kThreads), arguments, 0, stream);
}

void write_key(const Reservation& reservation, uint64_t* key, cudaStream_t stream) {
  void* arguments[] = {const_cast<Reservation*>(&reservation), &key};
  (void)cudaLaunchKernel(write_key_kernel, dim3(1), dim3(1), arguments, 0, stream);
}

}  // namespace torch_gumbel::cuda
