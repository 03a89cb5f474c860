// SPDX-License-Identifier: Apache-2.0
// What tests on a GPU share. Where no GPU is they are skipped or, with REQUIRE_CUDA=1, fail; where
// one is, whatever goes wrong with it fails them.
#pragma once

#include <ATen/ATen.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace torch_gumbel {

enum class GpuState { kHere, kAbsent, kBroken };

inline GpuState gpu_state() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return GpuState::kHere;
  if (error == cudaSuccess || error == cudaErrorNoDevice) return GpuState::kAbsent;
  // Also what a machine without any driver says.
  const bool no_driver = error == cudaErrorInsufficientDriver || error == cudaErrorStubLibrary;
  return no_driver && !std::filesystem::exists("/dev/nvidiactl") ? GpuState::kAbsent
                                                                 : GpuState::kBroken;
}

inline bool gpu_required() {
  const char* value = std::getenv("REQUIRE_CUDA");
  return value != nullptr && std::strcmp(value, "") != 0 && std::strcmp(value, "0") != 0;
}

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    const GpuState state = gpu_state();
    if (state == GpuState::kBroken)
      FAIL() << "the GPU cannot be used: " << cudaGetErrorString(cudaGetLastError());
    if (state == GpuState::kHere) return;
    if (gpu_required()) FAIL() << "REQUIRE_CUDA is set, but this machine has no GPU";
    GTEST_SKIP() << "this machine has no GPU";
  }
  void TearDown() override {
    if (gpu_state() != GpuState::kHere) return;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
  }
};

inline at::Tensor some_logits(at::IntArrayRef shape, at::ScalarType type = at::kFloat) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(count, at::kDouble).mul(0.7).sin().mul(3).view(shape).to(type);
}

inline at::Tensor on_gpu(const at::Tensor& tensor) { return tensor.to(at::kCUDA); }

/// Equal in type, shape, and bits, any NaN standing for any other; wherever the tensors are.
inline bool same_bits(const at::Tensor& got, const at::Tensor& wanted) {
  if (got.scalar_type() != wanted.scalar_type() || got.sizes() != wanted.sizes()) return false;
  const at::Tensor x = got.cpu().contiguous(), y = wanted.cpu().contiguous();
  if (!at::isFloatingType(x.scalar_type())) return at::equal(x, y);
  const auto integer = x.element_size() == 2   ? at::kShort
                       : x.element_size() == 4 ? at::kInt
                                               : at::kLong;
  const at::Tensor same = x.view(integer).eq(y.view(integer));
  return same.logical_or_(x.isnan().logical_and_(y.isnan())).all().item<bool>();
}

}  // namespace torch_gumbel
