// SPDX-License-Identifier: Apache-2.0
// Streams and devices: work is queued on the current stream of the logits' device, and no call
// waits for the GPU.
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/Sleep.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch_gumbel/torch_gumbel.h>

#include <functional>
#include <map>
#include <string>

#include "gpu.h"
#include "ops/ops.h"

namespace torch_gumbel {
namespace {

using std::nullopt;

class GpuStreams : public Gpu {};

using Work = std::function<at::Tensor(const at::Tensor& logits)>;

/// Every op, on logits of any shape.
std::map<std::string, Work> every_work() {
  const at::Tensor tau = at::scalar_tensor(0.7, at::kDouble);
  return {
      {"soft", [](auto& x) { return gumbel_softmax(x, 0.7, false, -1, false, nullopt, key(3)); }},
      {"hard", [](auto& x) { return gumbel_softmax(x, 0.7, true, -1, false, nullopt, key(3)); }},
      {"index", [](auto& x) { return gumbel_argmax(x, -1, false, nullopt, 0.7, nullopt, key(3)); }},
      {"backward",
       [=](auto& x) {
         return std::get<0>(ops::backward().call(x, x, tau, x.dim() - 1, nullopt, true));
       }},
      {"backward from logits",
       [=](auto& x) {
         return std::get<0>(
             ops::hard_backward().call(x, x, tau, key(3), x.dim() - 1, true, nullopt, nullopt));
       }},
      {"noise", [](auto& x) { return ops::noise().call(x, key(3), nullopt, nullopt); }},
      {"drawn key", [](auto& x) { return gumbel_softmax(x, 0.7, true).sum(-1); }},
  };
}

TEST_F(GpuStreams, CallsJoinTheCurrentStreamAndDoNotWait) {
  constexpr int64_t kLongSleep = 1'000'000'000;  // clocks: half a second
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  for (const auto& shape : {std::vector<int64_t>{300, 10}, {64, 1000}, {2, 70000}}) {
    const at::Tensor filled = on_gpu(some_logits(shape).softmax(-1));
    for (const auto& [name, work] : every_work()) {
      const at::Tensor wanted = work(filled).cpu();
      const at::Tensor logits = at::zeros_like(filled);
      cudaDeviceSynchronize();
      const c10::cuda::CUDAStreamGuard guard(stream);
      work(logits);  // kernels are loaded and memory is allocated now: both may wait
      stream.synchronize();
      at::cuda::sleep(kLongSleep);
      logits.copy_(filled);
      const at::Tensor result = work(logits);
      EXPECT_FALSE(stream.query()) << name << " waited for the stream";
      stream.synchronize();
      EXPECT_TRUE(same_bits(result, wanted)) << name << " ran before what it depends on";
    }
  }
}

TEST_F(GpuStreams, StreamsSideBySideGiveTheSameBits) {
  const at::Tensor logits = on_gpu(some_logits({500, 1000}));
  for (const auto& [name, work] : every_work()) {
    if (name == "drawn key") continue;
    const at::Tensor wanted = work(logits).cpu();
    cudaDeviceSynchronize();
    std::vector<at::Tensor> results;
    for (int i = 0; i < 8; ++i) {
      const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
      results.push_back(work(logits));
    }
    cudaDeviceSynchronize();
    for (const at::Tensor& result : results) EXPECT_TRUE(same_bits(result, wanted)) << name;
  }
}

TEST_F(GpuStreams, EveryDeviceWorksWhileAnotherIsCurrent) {
  const auto count = c10::cuda::device_count();
  const at::Tensor logits = some_logits({40, 300});
  const at::Tensor wanted = gumbel_softmax(logits, 0.7, true, -1, false, nullopt, key(3));
  for (c10::DeviceIndex index = 0; index < count; ++index) {
    const auto other = static_cast<c10::DeviceIndex>((index + 1) % count);
    const c10::cuda::CUDAGuard elsewhere(other);
    const at::Device device(at::kCUDA, index);
    const at::Tensor x = logits.to(device);
    const at::Tensor hard = gumbel_softmax(x, 0.7, true, -1, false, nullopt, key(3));
    EXPECT_EQ(hard.device(), device);
    EXPECT_TRUE(same_bits(hard, wanted)) << device;
    EXPECT_EQ(gumbel_softmax(x, 0.7, true).device(), device);
    EXPECT_EQ(new_key(nullopt, device).device(), device);
    EXPECT_EQ(c10::cuda::current_device(), other) << "the current device was changed";
  }
}

}  // namespace
}  // namespace torch_gumbel
