// SPDX-License-Identifier: Apache-2.0
// Soft samples and gradients of rows longer than a block's registers: two reads, the second from
// the cache as far as it reaches, with the noise recomputed.
#pragma once

#include "backward.cuh"
#include "looped.cuh"

namespace torch_gumbel::cuda {

// Threads of a block that has a row to itself: as many as leave two blocks of a multiprocessor the
// registers that they need without spills (plan.h has the same numbers). A key on the device keeps
// its round keys in registers, and gradients beside noise take more than sums.
constexpr int kLoopedThreads = 512;
template <bool kDeviceKey>
constexpr int kLoopedSoftThreads = kDeviceKey ? 320 : kLoopedThreads;
template <bool kDeviceKey>
constexpr int kLoopedGradThreads = kDeviceKey ? 256 : 320;

/// A first read that keeps nothing but sums.
struct SumsOnly {
  template <typename Fragment>
  __device__ __forceinline__ void update(const Fragment&, float, float) {}
};

/// First read: of logits and, with kWithGrad, of incoming gradients. Calls tracker.update(fragment,
/// its largest score, the thread's largest one before).
template <bool kWithGrad, typename Element, typename Key, typename Tracker>
__device__ __forceinline__ Running weigh_range(const Problem& p, const AlignedRow<Element>& aligned,
                                               const BlockRange& range, const Key& key, float scale,
                                               Tracker& tracker) {
  constexpr int kVectors = kLoopedVectors<Element>;
  Running running;
  for_each_fragment<kVectors>(aligned, range, [&](const Fragment<Element, kVectors>& fragment) {
    Gradients<Element, kVectors> grad;
    if (kWithGrad) grad.load(p.a, aligned, fragment);
    Scores<Element, kVectors> scores;
    scores.load(aligned, fragment, key, Unscaled{});
    const float top = scores.max(MaxNumber{});
    tracker.update(fragment, top, running.max);
    running.raise(top, scale);
    const auto weigh = [&](float score) { return exp2_fast((score - running.max) * scale); };
    const float head_tail = weigh(scores.head_tail);
    float sum = head_tail, dot = kWithGrad ? head_tail * grad.head_tail : 0.0f;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float weight = weigh(scores.of[i]);
      sum += weight;
      if (kWithGrad) dot = math::fma(weight, grad.of[i], dot);
    }
    running.sum.add(sum);
    if (kWithGrad) running.dot.add(dot);
  });
  return running;
}

/// Second read: the thread's samples of a fragment.
template <typename Element, int kVectors, typename Key>
__device__ __forceinline__ void write_fragment(const KernelParams& a,
                                               const AlignedRow<Element>& aligned,
                                               const Fragment<Element, kVectors>& fragment,
                                               const Key& key, const LoopedState& state,
                                               float scale, float norm) {
  Scores<Element, kVectors> scores;
  scores.load(aligned, fragment, key, Unscaled{});
  const auto y = [&](float score) { return exp2_fast((score - state.max) * scale) * norm; };
#pragma unroll
  for (float& value : scores.of) value = y(value);
  store_fragment(a, aligned, fragment, scores.of);
  if (fragment.head_tail >= 0)
    store_one<Element>(aligned.output, a.output_type, fragment.head_tail, y(scores.head_tail));
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kLoopedSoftThreads<kDeviceKey>, kDeviceKey ? 2 : 0)
    soft_looped_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLoopedVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const BlockRange range(p, aligned, index);
  const RowKey<kDeviceKey> key(p, row);
  const float scale = temperature(p, row).scale;
  LoopedState state;
  SumsOnly tracker;
  if (!row_state<kStage>(p, range, scale, state, [&] {
        return weigh_range<false>(p, aligned, range, key, scale, tracker);
      }))
    return;
  const float norm = 1.0f / state.sum;
  for_each_fragment<kVectors>(aligned, range, [&](const Fragment<Element, kVectors>& fragment) {
    write_fragment(p.a, aligned, fragment, key, state, scale, norm);
  });
  if (p.a.row_value == nullptr || range.block != 0 || threadIdx.x != 0) return;
  Weigh weigh(state.max, scale);
  weigh.direct = false;
  static_cast<float*>(p.a.row_value)[index] = log_sum_exp(weigh, state.sum, tau_of(p.a, row));
}

/// The gradient at tau: of the row, or of a block for sum_multi_block_kernel.
template <Stage kStage>
__device__ __forceinline__ void write_tau_gradient(const Problem& p, const BlockRange& range,
                                                   float own) {
  __shared__ BlockThreadGroup::Scratch<float> scratch;
  if (p.a.row_value == nullptr) return;
  const float total = BlockThreadGroup::reduce(own, 0.0f, scratch, Sum{});
  if (threadIdx.x != 0) return;
  const int64_t row = row_of_block_again(p);
  if (kStage == Stage::kWhole)
    static_cast<float*>(p.a.row_value)[row] = total;
  else
    states_of(p, row)[range.block].tau = total;
}

template <typename Element, typename Weights>
__device__ __forceinline__ float differentiate_range(const Problem& p,
                                                     const AlignedRow<Element>& aligned,
                                                     const BlockRange& range,
                                                     const Differentiate& by, Weights weights) {
  constexpr int kVectors = kLoopedVectors<Element>;
  KahanSum<float> at_tau;
  for_each_fragment<kVectors>(aligned, range, [&](const Fragment<Element, kVectors>& fragment) {
    Gradients<Element, kLoopedVectors<Element>> grad;  // g++ 12 stumbles over kVectors here
    grad.load(p.a, aligned, fragment);
    float of[kVectors * Element::kWidth];
    const float head_tail = weights(fragment, of);
    float terms = differentiate_all(by, grad.of, p.a.row_value != nullptr, of);
    store_fragment(p.a, aligned, fragment, of);
    if (fragment.head_tail >= 0) {
      const float gradient = by.careful(head_tail, grad.head_tail);
      terms += tau_term(gradient, head_tail * by.norm);
      store_one<Element>(aligned.output, p.a.output_type, fragment.head_tail, gradient);
    }
    at_tau.add(terms);
  });
  return at_tau.sum;
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kLoopedGradThreads<kDeviceKey>, 2)
    hard_backward_looped_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLoopedVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const BlockRange range(p, aligned, index);
  const RowKey<kDeviceKey> key(p, row);
  const Temperature tau = temperature(p, row);
  LoopedState state;
  SumsOnly tracker;
  if (!row_state<kStage>(p, range, tau.scale, state, [&] {
        return weigh_range<true>(p, aligned, range, key, tau.scale, tracker);
      }))
    return;
  const float norm = 1.0f / state.sum;
  const auto weights = [&](const Fragment<Element, kVectors>& fragment, float* of) {
    Scores<Element, kVectors> scores;
    scores.load(aligned, fragment, key, Unscaled{});
#pragma unroll
    for (int i = 0; i < 16; ++i) of[i] = exp2_fast((scores.of[i] - state.max) * tau.scale);
    return exp2_fast((scores.head_tail - state.max) * tau.scale);
  };
  const float at_tau =
      differentiate_range(p, aligned, range, {norm, state.dot * norm, tau.inverse}, weights);
  write_tau_gradient<kStage>(p, range, at_tau);
}

/// A thread's values of y; the one in the head or tail is returned.
template <typename Element, int kVectors>
__device__ __forceinline__ float load_samples(const AlignedRow<Element>& aligned,
                                              const Fragment<Element, kVectors>& fragment,
                                              float* y) {
  Bits128 raw[kVectors];
  load_fragment<Element>(aligned.input, aligned.head, fragment, 0, raw);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) Element::unpack(raw[i], y + i * Element::kWidth);
  return fragment.head_tail >= 0 ? Element::widen(aligned.input[fragment.head_tail]) : 0.0f;
}

template <typename Element, Stage kStage>
__global__ void __launch_bounds__(kLoopedThreads)
    backward_looped_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLoopedVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const BlockRange range(p, aligned, index);
  const auto dot_range = [&] {
    Running running;
    for_each_fragment<kVectors>(aligned, range, [&](const Fragment<Element, kVectors>& fragment) {
      Gradients<Element, kVectors> grad;
      grad.load(p.a, aligned, fragment);
      float y[16];
      const float head_tail = load_samples(aligned, fragment, y);
      running.dot.add(dot_of(y, grad.of, head_tail * grad.head_tail));
    });
    return running;
  };
  LoopedState state;
  if (!row_state<kStage>(p, range, 1.0f, state, dot_range)) return;
  const auto samples = [&](const Fragment<Element, kVectors>& fragment, float* y) {
    return load_samples(aligned, fragment, y);
  };
  const float at_tau = differentiate_range(p, aligned, range,
                                           {1.0f, state.dot, temperature(p, row).inverse}, samples);
  write_tau_gradient<kStage>(p, range, at_tau);
}

/// The gradients at tau of rows of several blocks: one warp for each row.
static __global__ void __launch_bounds__(kWarpSize)
    sum_multi_block_kernel(const __grid_constant__ Problem p) {
  const LoopedState* states = states_of(p, blockIdx.x);
  float own = 0;
  for (int block = static_cast<int>(threadIdx.x); block < p.blocks_per_row; block += kWarpSize)
    own += states[block].tau;
  const float total = reduce_lanes(own, Sum{});
  if (threadIdx.x == 0) static_cast<float*>(p.a.row_value)[blockIdx.x] = total;
}

}  // namespace torch_gumbel::cuda
