// SPDX-License-Identifier: Apache-2.0
// Soft samples and gradients of rows longer than a block's registers: two reads, the second from
// the cache as far as it reaches, with the noise made again.
#pragma once

#include "backward.cuh"
#include "long.cuh"

namespace torch_gumbel::cuda {

constexpr int kLongThreads = 512;      // of a block that has a row to itself
constexpr int kLongGradThreads = 384;  // of one that needs more registers: noise and gradients

/// What a first read keeps of each share beside sums: nothing.
struct SumsAlone {
  template <typename Share>
  __device__ __forceinline__ void see(const Share&, float, float) {}
};

/// First read: of logits and, with kWithGrad, of incoming gradients. Calls see(share, its largest
/// score, the thread's largest one before).
template <bool kWithGrad, typename Element, typename Key, typename Seen>
__device__ __forceinline__ Running weigh_part(const Problem& p, const Line<Element>& line,
                                              const Part& part, const Key& key, float scale,
                                              Seen& seen) {
  constexpr int kVectors = kLongVectors<Element>;
  Running running;
  for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
    Gradients<Element, kVectors> grad;
    if (kWithGrad) grad.load(p.a, line, share);
    Scores<Element, kVectors> scores;
    scores.load(line, share, key, Unscaled{});
    const float top = scores.max(MaxNumber{});
    seen.see(share, top, running.max);
    running.raise(top, scale);
    const auto weigh = [&](float score) { return exp2_fast((score - running.max) * scale); };
    const float edge = weigh(scores.edge);
    float sum = edge, dot = kWithGrad ? edge * grad.edge : 0.0f;
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

/// Second read: the thread's samples of a share.
template <typename Element, int kVectors, typename Key>
__device__ __forceinline__ void write_share(const KernelParams& a, const Line<Element>& line,
                                            const Share<Element, kVectors>& share, const Key& key,
                                            const LongState& state, float scale, float norm) {
  Scores<Element, kVectors> scores;
  scores.load(line, share, key, Unscaled{});
  const auto y = [&](float score) { return exp2_fast((score - state.max) * scale) * norm; };
#pragma unroll
  for (float& value : scores.of) value = y(value);
  store_share(a, line, share, scores.of);
  if (share.edge >= 0) store_one<Element>(line.output, a.output_type, share.edge, y(scores.edge));
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kLongThreads)
    soft_long_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLongVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  const RowKey<kDeviceKey> key(p, row);
  const float scale = temperature(p, row).scale;
  LongState state;
  SumsAlone seen;
  if (!row_state<kStage>(p, part, scale, state,
                         [&] { return weigh_part<false>(p, line, part, key, scale, seen); }))
    return;
  const float norm = 1.0f / state.sum;
  for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
    write_share(p.a, line, share, key, state, scale, norm);
  });
  if (p.a.row_value == nullptr || part.number != 0 || threadIdx.x != 0) return;
  Weigh weigh(state.max, scale);
  weigh.direct = false;
  static_cast<float*>(p.a.row_value)[index] = log_sum_exp(weigh, state.sum, tau_of(p.a, row));
}

/// The gradient at tau: of the row, or of a part for sum_parts_kernel.
template <Stage kStage>
__device__ __forceinline__ void write_tau_gradient(const Problem& p, const Part& part, float own) {
  __shared__ BlockTeam::Scratch<float> scratch;
  if (p.a.row_value == nullptr) return;
  const float total = BlockTeam::reduce(own, 0.0f, scratch, Sum{});
  if (threadIdx.x != 0) return;
  if (kStage == Stage::kWhole)
    static_cast<float*>(p.a.row_value)[part.row] = total;
  else
    states_of(p, part.row)[part.number].tau = total;
}

template <typename Element, typename Weights>
__device__ __forceinline__ float differentiate_part(const Problem& p, const Line<Element>& line,
                                                    const Part& part, const Differentiate& by,
                                                    Weights weights) {
  constexpr int kVectors = kLongVectors<Element>;
  LongSum<float> at_tau;
  for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
    Gradients<Element, kLongVectors<Element>> grad;  // g++ 12 stumbles over kVectors here
    grad.load(p.a, line, share);
    float of[kVectors * Element::kWidth];
    const float edge = weights(share, of);
    float terms = differentiate_all(by, grad.of, p.a.row_value != nullptr, of);
    store_share(p.a, line, share, of);
    if (share.edge >= 0) {
      const float gradient = by.careful(edge, grad.edge);
      terms += tau_term(gradient, edge * by.norm);
      store_one<Element>(line.output, p.a.output_type, share.edge, gradient);
    }
    at_tau.add(terms);
  });
  return at_tau.sum;
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kLongGradThreads)
    hard_backward_long_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLongVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  const RowKey<kDeviceKey> key(p, row);
  const Temperature tau = temperature(p, row);
  LongState state;
  SumsAlone seen;
  if (!row_state<kStage>(p, part, tau.scale, state,
                         [&] { return weigh_part<true>(p, line, part, key, tau.scale, seen); }))
    return;
  const float norm = 1.0f / state.sum;
  const auto weights = [&](const Share<Element, kVectors>& share, float* of) {
    Scores<Element, kVectors> scores;
    scores.load(line, share, key, Unscaled{});
#pragma unroll
    for (int i = 0; i < 16; ++i) of[i] = exp2_fast((scores.of[i] - state.max) * tau.scale);
    return exp2_fast((scores.edge - state.max) * tau.scale);
  };
  const float at_tau =
      differentiate_part(p, line, part, {norm, state.dot * norm, tau.inverse}, weights);
  write_tau_gradient<kStage>(p, part, at_tau);
}

/// A thread's values of y; the one of its edge is returned.
template <typename Element, int kVectors>
__device__ __forceinline__ float load_samples(const Line<Element>& line,
                                              const Share<Element, kVectors>& share, float* y) {
  Bits128 raw[kVectors];
  load_share<Element>(line.input, line.head, share, 0, raw);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) Element::unpack(raw[i], y + i * Element::kWidth);
  return share.edge >= 0 ? Element::widen(line.input[share.edge]) : 0.0f;
}

template <typename Element, Stage kStage>
__global__ void __launch_bounds__(kLongThreads)
    backward_long_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLongVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  const auto dot_part = [&] {
    Running running;
    for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
      Gradients<Element, kVectors> grad;
      grad.load(p.a, line, share);
      float y[16];
      const float edge = load_samples(line, share, y);
      running.dot.add(dot_of(y, grad.of, edge * grad.edge));
    });
    return running;
  };
  LongState state;
  if (!row_state<kStage>(p, part, 1.0f, state, dot_part)) return;
  const auto samples = [&](const Share<Element, kVectors>& share, float* y) {
    return load_samples(line, share, y);
  };
  const float at_tau =
      differentiate_part(p, line, part, {1.0f, state.dot, temperature(p, row).inverse}, samples);
  write_tau_gradient<kStage>(p, part, at_tau);
}

/// The gradients at tau of rows cut into parts: one warp for each row.
static __global__ void __launch_bounds__(kWarpSize)
    sum_parts_kernel(const __grid_constant__ Problem p) {
  const LongState* states = states_of(p, blockIdx.x);
  float own = 0;
  for (int part = static_cast<int>(threadIdx.x); part < p.parts; part += kWarpSize)
    own += states[part].tau;
  const float total = reduce_lanes(own, Sum{});
  if (threadIdx.x == 0) static_cast<float*>(p.a.row_value)[blockIdx.x] = total;
}

}  // namespace torch_gumbel::cuda
