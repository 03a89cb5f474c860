// SPDX-License-Identifier: Apache-2.0
#include "backward.cuh"
#include "hard.cuh"
#include "kernels.h"
#include "keys.cuh"
#include "soft.cuh"

namespace torch_gumbel::cuda {

namespace {

/// Far more blocks than any device runs at once; each takes as many rows as it must.
constexpr int64_t kMaxBlocks = 1 << 20;

unsigned blocks_for(int64_t pieces) {
  return static_cast<unsigned>(pieces < kMaxBlocks ? pieces : kMaxBlocks);
}

using Kernel = void (*)(Arguments);

void launch(DType type, Kernel in_float, Kernel in_double, const Arguments& a,
            cudaStream_t stream) {
  if (a.rows.count == 0 || a.rows.classes == 0) return;
  const Kernel kernel = type == DType::kFloat64 ? in_double : in_float;
  void* arguments[] = {const_cast<Arguments*>(&a)};
  cudaLaunchKernel(kernel, blocks_for(a.rows.count), kThreads, arguments, 0, stream);
}

void launch_fold_in(const uint64_t* keys, int64_t count, uint64_t first, const uint64_t* number,
                    int64_t per_key, uint64_t* out, cudaStream_t stream) {
  if (count == 0 || per_key == 0) return;
  const int64_t pieces = (per_key * count + kThreads - 1) / kThreads;
  void* arguments[] = {&keys, &count, &first, &number, &per_key, &out};
  cudaLaunchKernel(fold_in_kernel, blocks_for(pieces), kThreads, arguments, 0, stream);
}

}  // namespace

void soft_forward(const Arguments& a, cudaStream_t stream) {
  launch(a.input_type, soft_forward_kernel<float>, soft_forward_kernel<double>, a, stream);
}

void hard_forward(const Arguments& a, cudaStream_t stream) {
  launch(a.input_type, hard_forward_kernel<float>, hard_forward_kernel<double>, a, stream);
}

void argmax(const Arguments& a, cudaStream_t stream) {
  launch(a.input_type, argmax_kernel<float>, argmax_kernel<double>, a, stream);
}

void backward(const Arguments& a, cudaStream_t stream) {
  launch(a.input_type, backward_kernel<float>, backward_kernel<double>, a, stream);
}

void hard_backward(const Arguments& a, cudaStream_t stream) {
  launch(a.input_type, hard_backward_kernel<float>, hard_backward_kernel<double>, a, stream);
}

void noise(const Arguments& a, cudaStream_t stream) {
  launch(a.output_type, noise_kernel<float>, noise_kernel<double>, a, stream);
}

void fold_in(const uint64_t* keys, int64_t count, int64_t first, int64_t per_key, uint64_t* out,
             cudaStream_t stream) {
  launch_fold_in(keys, count, static_cast<uint64_t>(first), nullptr, per_key, out, stream);
}

void fold_in(const uint64_t* keys, int64_t count, const uint64_t* number, uint64_t* out,
             cudaStream_t stream) {
  launch_fold_in(keys, count, 0, number, 1, out, stream);
}

}  // namespace torch_gumbel::cuda
