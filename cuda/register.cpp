// SPDX-License-Identifier: Apache-2.0
// The CUDA backend: device, stream, launch, error check; and keys from CUDA generators.
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <ATen/cuda/CUDAGraphsUtils.cuh>

#include "../csrc/build_info.h"
#include "../csrc/ops/backend.h"
#include "../csrc/ops/checks.h"
#include "../csrc/ops/filter_backend.h"
#include "../csrc/ops/gate_backend.h"
#include "../csrc/ops/keys.h"
#include "../csrc/ops/log_prob_backend.h"
#include "../csrc/ops/noise_at.h"
#include "../csrc/ops/subset_backend.h"
#include "filter.h"
#include "kernels.h"
#include "log_prob.h"
#include "subset.h"

namespace torch_gumbel::cuda {
namespace {

using at::Tensor;

struct Backend {
  static constexpr bool kHardGivesIndex = false;

  static void run_one_hot_backward(const KernelParams& a, const Tensor& on) {
    const c10::cuda::CUDAGuard guard(on.device());
    one_hot_backward(a, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

  static void run(Op op, const KernelParams& a, const Tensor& on) {
    const c10::cuda::CUDAGuard guard(on.device());
    const cudaDeviceProp* device = at::cuda::getCurrentDeviceProperties();
    Tensor workspace;  // freed at the end, but not used again before the stream has run the launch
    Resources resources = {nullptr, device->multiProcessorCount, has_clusters(device->major)};
    const auto bytes = workspace_bytes(op, a, resources.multiprocessors, resources.clusters);
    if (bytes > 0) {
      workspace = at::empty({bytes}, on.options().dtype(at::kByte));
      resources.workspace = workspace.mutable_data_ptr();
    }
    run_op(op, a, c10::cuda::getCurrentCUDAStream(), resources);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

struct GateBackend {
  static void run(GateOp op, const GateParams& a, const Tensor& on) {
    const c10::cuda::CUDAGuard guard(on.device());
    gates(op, a, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

struct LogProbBackend {
  static void check_index(const Tensor&, int64_t) {}  // rows of others are NaN

  static void run(bool backward, const LogProbParams& a, const Tensor& on) {
    const c10::cuda::CUDAGuard guard(on.device());
    (backward ? log_prob_backward : log_prob)(a, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

struct SubsetBackend {
  static void run(const SubsetParams& a, const Tensor& on) {
    const c10::cuda::CUDAGuard guard(on.device());
    // Freed at the end, but not used again before the stream has run the launch.
    const Tensor workspace = at::empty({subset_workspace_bytes(a)}, on.options().dtype(at::kByte));
    subset(a, workspace.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

struct FilterBackend {
  static constexpr bool kAlongClasses = false;

  static void run(const FilterParams& a, const Tensor& on) {
    const c10::cuda::CUDAGuard guard(on.device());
    filtered(a, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

struct NoiseAtBackend {
  static void run(const NoiseAtParams& a, bool wide, const Tensor& on) {
    const c10::cuda::CUDAGuard guard(on.device());
    noise_at(a, wide, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

Reservation plain(const at::PhiloxCudaState& state) {
  if (!state.captured_) return {state.seed_.val, state.offset_.val};
  return {0, state.offset_intragraph_, state.seed_.ptr, state.offset_.ptr};
}

/// Reserves the four words of one Philox block: nothing else that draws from the generator can use
/// them.
at::PhiloxCudaState reserve_block(const std::optional<at::Generator>& generator,
                                  c10::Device device) {
  auto* source = at::get_generator_or_default<at::CUDAGeneratorImpl>(
      generator, at::cuda::detail::getDefaultCUDAGenerator(device.index()));
  TORCH_CHECK_VALUE(source->device() == device, "torch_gumbel: generator must be on ", device,
                    ", got one on ", source->device());
  const std::lock_guard<std::mutex> lock(source->mutex_);
  return source->philox_cuda_state(4);
}

Tensor new_key_cuda(const Tensor& anchor, std::optional<at::Generator> generator) {
  const c10::cuda::CUDAGuard guard(anchor.device());
  const Tensor key = at::empty({2}, anchor.options().dtype(at::kUInt64));
  const auto reservation = reserve_block(generator, anchor.device());
  write_key(plain(reservation), static_cast<uint64_t*>(key.mutable_data_ptr()),
            c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return key;
}

bool is_capturing(c10::Device device) {
  if (c10::cuda::device_count() == 0) return false;  // a fake tensor's
  const c10::cuda::CUDAGuard guard(device);
  return at::cuda::currentStreamCaptureStatus() != at::cuda::CaptureStatus::None;
}

/// The same key computed here, which saves a launch; undefined while a graph is captured.
Tensor host_key(const Tensor& logits, const std::optional<at::Generator>& generator) {
  const c10::cuda::CUDAGuard guard(logits.device());
  if (is_capturing(logits.device())) return {};
  const Tensor key = at::empty({2}, at::TensorOptions().dtype(at::kUInt64));
  const auto reservation = reserve_block(generator, logits.device());
  TORCH_INTERNAL_ASSERT(!reservation.captured_, "the generator belongs to a graph being captured");
  const math::Key made = math::fold_in({reservation.seed_.val, 0}, reservation.offset_.val / 4);
  auto* words = static_cast<uint64_t*>(key.mutable_data_ptr());
  words[0] = made.seed;
  words[1] = made.offset;
  return key;
}

/// Pairs of words, contiguous, of `key`.
const uint64_t* words_of(const Tensor& key) {
  return static_cast<const uint64_t*>(key.const_data_ptr());
}
uint64_t* words_in(const Tensor& key) { return static_cast<uint64_t*>(key.mutable_data_ptr()); }

Tensor split_cuda(const Tensor& key, int64_t num) {
  const c10::cuda::CUDAGuard guard(key.device());
  const Tensor packed = key.contiguous(), out = ops::empty_split(key, num);
  fold_in(words_of(packed), packed.numel() / 2, 0, num, words_in(out),
          c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

Tensor fold_in_cuda(const Tensor& key, int64_t data) {
  const c10::cuda::CUDAGuard guard(key.device());
  const Tensor packed = key.contiguous(), out = ops::empty_fold(key);
  fold_in(words_of(packed), packed.numel() / 2, data, 1, words_in(out),
          c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

Tensor fold_in_tensor_cuda(const Tensor& key, const Tensor& data) {
  ops::check_fold_data(key, data);
  const c10::cuda::CUDAGuard guard(key.device());
  const Tensor packed = key.contiguous(), out = ops::empty_fold(key);
  fold_in(words_of(packed), packed.numel() / 2, words_of(data), words_in(out),
          c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

TORCH_LIBRARY_IMPL(torch_gumbel, CUDA, m) {
  ops::PrivateOps<Backend>::register_on(m);
  ops::GateOps<GateBackend>::register_on(m);
  ops::LogProbOps<LogProbBackend>::register_on(m);
  ops::FilterOps<FilterBackend>::register_on(m);
  ops::SubsetOps<SubsetBackend>::register_on(m);
  m.impl("_gumbel_at", TORCH_FN(ops::noise_at_op<NoiseAtBackend>));
  m.impl("_new_key", TORCH_FN(new_key_cuda));
  m.impl("_split_key", TORCH_FN(split_cuda));
  m.impl("_fold_in_key", TORCH_FN(fold_in_cuda));
  m.impl("_fold_in_key.tensor", TORCH_FN(fold_in_tensor_cuda));
  ops::register_host_key(host_key);
  ops::register_capturing(is_capturing);
  set_cuda_build(TORCH_GUMBEL_CUDA_VERSION, TORCH_GUMBEL_CUDA_ARCHITECTURES);
}

}  // namespace
}  // namespace torch_gumbel::cuda
