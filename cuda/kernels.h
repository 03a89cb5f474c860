// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels as their callers see them. Torch-free.
//
// Every function queues its work on `stream` and returns: nothing is synchronised and nothing is
// allocated. Pointers are to memory that the device reads and writes. KernelParams are taken as
// correct; the caller asks cudaGetLastError() whether the launch was. Without rows or classes (or
// keys) nothing is launched.
//
// Few very long rows are processed by several blocks each, in two launches, if `Resources` has a
// workspace of at least workspace_bytes() bytes, 16-byte aligned, free for the launch's use until
// the stream has run it. Without one they take one block each.
//
// Arithmetic is float64 where `input_type` is (for `noise`: where `output_type` is), else float32,
// whatever the other operands hold. Noise, scores, and choices are bitwise equal to those of the
// CPU kernels. Sums run in an order of their own, fixed by the number of classes and the row's word
// position.
//
// A row is undefined if its scores hold NaN or +inf, if they are all -inf, or if its temperature is
// not positive and finite: sample and gradient are then all NaN.
#pragma once

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "../csrc/include/torch_gumbel/export.h"
#include "../csrc/math/gate.h"
#include "../csrc/math/noise_at.h"

namespace torch_gumbel::cuda {

struct Resources {
  void* workspace = nullptr;
  int multiprocessors = 132;  // of the device
  bool clusters = false;      // has_clusters() of the device
};

/// Bytes of the workspace; 0 if the problem needs none.
TORCH_GUMBEL_API int64_t workspace_bytes(Op op, const KernelParams& a, int multiprocessors,
                                         bool clusters = false);

/// Whether long rows are given to clusters of blocks on the current device, of that major compute
/// capability: if TORCH_GUMBEL_CUDA_CLUSTERS is 1, which the first call reads, on 9 and higher, with
/// code for it.
TORCH_GUMBEL_API bool has_clusters(int capability);

/// output = softmax((input + noise) / tau).
/// row_value, unless null: log sum_k exp((input_k + noise_k) / tau), -inf for a row of -inf.
TORCH_GUMBEL_API void soft_forward(const KernelParams& a, cudaStream_t stream,
                                   const Resources& resources = {});

/// output = one-hot of the first maximum of input + noise: one 1, zeros elsewhere.
TORCH_GUMBEL_API void hard_forward(const KernelParams& a, cudaStream_t stream,
                                   const Resources& resources = {});

/// output = the soft sample and one_hot = the hard one, each as above, of the same noise. The 1 is
/// where the exact scores have their first maximum, whatever the rounding of the soft sample.
/// `row_value` is not written.
TORCH_GUMBEL_API void hard_soft_forward(const KernelParams& a, cudaStream_t stream,
                                        const Resources& resources = {});

/// index = the first maximum of the scores input * (1 / tau) + noise, 0 for an undefined row. At a
/// temperature of 0 the scores are the inputs.
/// row_value, unless null: that score; NaN for an undefined row, -inf where every class is -inf.
TORCH_GUMBEL_API void argmax(const KernelParams& a, cudaStream_t stream,
                             const Resources& resources = {});

/// From a soft sample y = input: output = y (grad - sum_k y_k grad_k) / tau.
/// row_value, unless null: the gradient at tau, -sum_k output_k log y_k, with 0 log 0 = 0.
TORCH_GUMBEL_API void backward(const KernelParams& a, cudaStream_t stream,
                               const Resources& resources = {});

/// `backward` with y recomputed from the logits `input` and the key.
TORCH_GUMBEL_API void hard_backward(const KernelParams& a, cudaStream_t stream,
                                    const Resources& resources = {});

/// output = standard Gumbel noise.
TORCH_GUMBEL_API void noise(const KernelParams& a, cudaStream_t stream);

/// Gates; elements are rows of one class. See csrc/math/gate.h.
TORCH_GUMBEL_API void gates(GateOp op, const GateParams& a, cudaStream_t stream);

/// The backward of a one-hot sample whose choices are index: from logits = input and gradients at
/// the sample = grad, output = the estimator's gradient (csrc/math/estimators.h), a mean over
/// `draws`, which it adds up in the output, of kGumbelRao. An index out of range counts as 0.
/// row_value, unless null: the gradient at tau; not written for kZgr and kReinMax.
TORCH_GUMBEL_API void one_hot_backward(const KernelParams& a, cudaStream_t stream);

/// The one of these that computes `op`.
inline void run_op(Op op, const KernelParams& a, cudaStream_t stream, const Resources& resources) {
  switch (op) {
    case Op::kSoft:
      return soft_forward(a, stream, resources);
    case Op::kHard:
      return hard_forward(a, stream, resources);
    case Op::kHardSoft:
      return hard_soft_forward(a, stream, resources);
    case Op::kArgmax:
      return argmax(a, stream, resources);
    case Op::kBackward:
      return backward(a, stream, resources);
    case Op::kHardBackward:
      return hard_backward(a, stream, resources);
    case Op::kNoise:
      return noise(a, stream);
  }
}

/// out[i][k] = fold_in(keys[k], first + i) for i < per_key, k < count; keys are pairs of words.
/// `first` is any 64-bit pattern; the sum wraps.
TORCH_GUMBEL_API void fold_in(const uint64_t* keys, int64_t count, int64_t first, int64_t per_key,
                              uint64_t* out, cudaStream_t stream);

/// out[k] = fold_in(keys[k], *number) for k < count, with the number on the device.
TORCH_GUMBEL_API void fold_in(const uint64_t* keys, int64_t count, const uint64_t* number,
                              uint64_t* out, cudaStream_t stream);

/// The noise of single positions, float or (`wide`) double.
TORCH_GUMBEL_API void noise_at(const NoiseAtParams& a, bool wide, cudaStream_t stream);

/// Seed and offset of a block of words that a generator set aside: numbers, or, while a graph is
/// captured, where the device finds them when the graph runs.
struct Reservation {
  uint64_t seed = 0, offset = 0;  // if captured: `offset` counts from the device's
  const int64_t *device_seed = nullptr, *device_offset = nullptr;  // null: not captured
};

/// key = fold_in((seed, 0), offset / 4): the one Philox block that the reservation owns, computed
/// on the device, because while a graph is captured only the device will know seed and offset.
TORCH_GUMBEL_API void write_key(const Reservation& reservation, uint64_t* key, cudaStream_t stream);

}  // namespace torch_gumbel::cuda
