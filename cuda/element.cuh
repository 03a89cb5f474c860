// SPDX-License-Identifier: Apache-2.0
// Elements of any dtype, read and written as the compute type. The dtype is the same for every
// thread, so that its switch never diverges.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../csrc/math/rows.h"

namespace torch_gumbel::cuda {

template <typename T>
__device__ __forceinline__ T load(const void* data, DType type, int64_t at) {
  switch (type) {
    case DType::kFloat32:
      return static_cast<T>(static_cast<const float*>(data)[at]);
    case DType::kFloat64:
      return static_cast<T>(static_cast<const double*>(data)[at]);
    case DType::kFloat16:
      return static_cast<T>(__half2float(static_cast<const __half*>(data)[at]));
    case DType::kBFloat16:
      return static_cast<T>(__bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]));
  }
  __builtin_unreachable();
}

/// Rounds to nearest even; float64 goes to a half by way of float32, as on the CPU.
template <typename T>
__device__ __forceinline__ void store(void* data, DType type, int64_t at, T value) {
  switch (type) {
    case DType::kFloat32:
      static_cast<float*>(data)[at] = static_cast<float>(value);
      return;
    case DType::kFloat64:
      static_cast<double*>(data)[at] = static_cast<double>(value);
      return;
    case DType::kFloat16:
      static_cast<__half*>(data)[at] = __float2half(static_cast<float>(value));
      return;
    case DType::kBFloat16:
      static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16(static_cast<float>(value));
      return;
  }
}

template <typename T>
__device__ __forceinline__ T load_input(const Arguments& a, const Row& row, int64_t k) {
  const int64_t at = row[Operand::kInput] + k * a.rows.step(Operand::kInput);
  return load<T>(a.input, a.input_type, at);
}

template <typename T>
__device__ __forceinline__ T load_grad(const Arguments& a, const Row& row, int64_t k) {
  const int64_t at = row[Operand::kGrad] + k * a.rows.step(Operand::kGrad);
  return load<T>(a.grad, a.grad_type, at);
}

template <typename T>
__device__ __forceinline__ void store_output(const Arguments& a, const Row& row, int64_t k,
                                             T value) {
  const int64_t at = row[Operand::kOutput] + k * a.rows.step(Operand::kOutput);
  store(a.output, a.output_type, at, value);
}

__device__ __forceinline__ double tau_of(const Arguments& a, const Row& row) {
  return a.tau == nullptr ? a.host_tau : load<double>(a.tau, a.tau_type, row[Operand::kTau]);
}

}  // namespace torch_gumbel::cuda
