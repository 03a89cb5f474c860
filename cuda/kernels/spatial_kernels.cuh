// SPDX-License-Identifier: Apache-2.0
// Every op on spatial rows, in two reads: see spatial.cuh.
#pragma once

#include "argmax.cuh"
#include "backward.cuh"
#include "spatial.cuh"

namespace torch_gumbel::cuda {

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kMaxSpatialWarps* kWarpSize)
    soft_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ float scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  const RowKey<kDeviceKey> key(p, spatial.row);
  const auto state = weigh_spatial<false>(spatial, key, scratch);
  for_each_spatial_class(spatial, [&](int k, float(&x)[kWidth]) {
    spatial_scores(spatial, key, k, x);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = state.weigh(x[j], j) * (1.0f / state.sum[j]);
    spatial.store(p.a.output, k, x);
  });
  if (p.a.row_value == nullptr || !spatial.leads()) return;
  for (int j = 0; j < kWidth; ++j) {
    Weigh weigh(state.top[j], state.scale[j]);
    weigh.direct = false;
    static_cast<float*>(p.a.row_value)[spatial.first + j] =
        log_sum_exp(weigh, state.sum[j], spatial.tau(j));
  }
}

/// Exact scores score(logit, noise, j); NaN or +inf leaves a row's best NaN. All lanes of all warps
/// arrive together.
template <typename Element, bool kDeviceKey, typename Score>
__device__ __forceinline__ void best_of_spatial(
    const SpatialRows<Element>& spatial, Score score_of,
    Best (&scratch)[kMaxSpatialWarps][Element::kWidth][kWarpSize], Best (&best)[Element::kWidth]) {
  constexpr int kWidth = Element::kWidth;
  const RowKey<kDeviceKey> key(spatial.p, spatial.row);
  bool undefined[kWidth] = {};
  for_each_spatial_class(spatial, [&](int k, float(&x)[kWidth]) {
    const uint64_t position = spatial.word(k), counter = key.offset() + position / 4;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const math::Block words = key.words(math::counter_block(counter + j / 4));
      const uint64_t at = position + static_cast<uint64_t>(j);
      const float score = score_of(x[j], exact_noise(key, at, words.word[j % 4]), j);
      undefined[j] |= !(score < kInfinity);
      best[j].offer(score, k);
    }
  });
  for (int j = 0; j < kWidth; ++j)
    if (undefined[j]) best[j] = {kNan, 0};
  reduce_spatial(best, spatial.warps, scratch, [](Best x, const Best& y) {
    if (x.score == x.score) {
      x.offer(y.score, y.index);
      if (y.score != y.score) x = y;
    }
    return x;
  });
}

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kMaxSpatialWarps* kWarpSize)
    argmax_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ Best scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  float inverse[kWidth];
  bool greedy[kWidth];
  for (int j = 0; j < kWidth; ++j) {
    inverse[j] = math::sampling_inverse(spatial.temperature(j).inverse);
    greedy[j] = p.scaled && math::without_noise(spatial.tau(j));
  }
  const auto score = [&](float x, float noise, int j) {
    if (greedy[j]) return x;
    return (p.scaled ? math::scaled_logit(x, inverse[j]) : x) + noise;
  };
  Best best[kWidth];
  best_of_spatial<Element, kDeviceKey>(spatial, score, scratch, best);
  if (!spatial.leads()) return;
  for (int j = 0; j < kWidth; ++j) write_argmax(p.a, spatial.first + j, best[j]);
}

/// The one-hots of a lane's rows, NaN where a row is undefined.
template <typename Element>
__device__ __forceinline__ void write_one_hots(const SpatialRows<Element>& spatial, void* data,
                                               const Best (&best)[Element::kWidth]) {
  constexpr int kWidth = Element::kWidth;
  float rest[kWidth];
  for (int j = 0; j < kWidth; ++j) {
    const bool defined = best[j].score > -kInfinity && spatial.temperature(j).scale > 0;
    rest[j] = defined ? 0.0f : kNan;
  }
  for (int k = spatial.warp; k < spatial.classes; k += spatial.warps) {
    float x[kWidth];
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = k == best[j].index && rest[j] == 0 ? 1.0f : rest[j];
    spatial.store(data, k, x);
  }
}

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kMaxSpatialWarps* kWarpSize)
    hard_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ Best scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  Best best[kWidth];
  const auto score = [](float x, float noise, int) { return x + noise; };
  best_of_spatial<Element, kDeviceKey>(spatial, score, scratch, best);
  write_one_hots(spatial, p.a.output, best);
}

/// Which of a lane's rows, as bits: those that a class comes near the largest fast score of, and
/// those that several do. Either set keeps to its own half.
struct NearTop {
  static constexpr int kHalf = 16;
  uint32_t bits = 0;

  __device__ __forceinline__ void update(uint32_t rows) { *this = *this + NearTop{rows}; }
  __device__ __forceinline__ bool several(int j) const { return bits >> (kHalf + j) & 1; }
  __device__ __forceinline__ NearTop operator+(const NearTop& other) const {
    return {bits | other.bits | (bits & other.bits) << kHalf};
  }
};

/// Where several classes come near a row's largest fast score, exact scores decide, of all rows of
/// the block. All threads arrive together.
template <typename Element, bool kDeviceKey>
__device__ __forceinline__ void settle_one_hots(const SpatialRows<Element>& spatial,
                                                const SpatialState<Element::kWidth>& state,
                                                const NearTop& own) {
  constexpr int kWidth = Element::kWidth;
  __shared__ NearTop near_scratch[kMaxSpatialWarps][1][kWarpSize];
  __shared__ Best best_scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  NearTop near[] = {own};
  reduce_spatial(near, spatial.warps, near_scratch, Sum{});
  bool unsure = false;
  for (int j = 0; j < kWidth; ++j) unsure |= near[0].several(j) && state.sum[j] > 0;
  if (!__any_sync(kAllLanes, unsure)) return;  // the same in every warp
  Best best[kWidth];
  const auto score = [](float x, float noise, int) { return x + noise; };
  best_of_spatial<Element, kDeviceKey>(spatial, score, best_scratch, best);
  write_one_hots(spatial, spatial.p.a.one_hot, best);
}

/// The second read takes a class that comes near the largest fast score for the argmax, which it
/// nearly always is, and counts such classes.
template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kMaxSpatialWarps* kWarpSize)
    hard_soft_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ float scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  const RowKey<kDeviceKey> key(p, spatial.row);
  const auto state = weigh_spatial<false>(spatial, key, scratch);
  float threshold[kWidth];
  for (int j = 0; j < kWidth; ++j) threshold[j] = filter_threshold(state.top[j]);
  NearTop near;
  for_each_spatial_class(spatial, [&](int k, float(&x)[kWidth]) {
    spatial_scores(spatial, key, k, x);
    float one_hot[kWidth];
    uint32_t rows = 0;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const bool reaches = x[j] >= threshold[j];
      rows |= reaches ? 1u << j : 0u;
      x[j] = state.weigh(x[j], j) * (1.0f / state.sum[j]);
      one_hot[j] = math::fma(x[j], 0.0f, reaches ? 1.0f : 0.0f);  // NaN stays NaN
    }
    near.update(rows);
    spatial.store(p.a.output, k, x);
    spatial.store(p.a.one_hot, k, one_hot);
  });
  settle_one_hots<Element, kDeviceKey>(spatial, state, near);
}

/// The second read of both backwards. weights(k, x): from what the input holds to
/// weights.
template <typename Element, typename Weights>
__device__ __forceinline__ void differentiate_spatial(
    const SpatialRows<Element>& spatial, const Differentiate (&by)[Element::kWidth],
    Weights weights, float (&scratch)[kMaxSpatialWarps][Element::kWidth][kWarpSize]) {
  constexpr int kWidth = Element::kWidth;
  const KernelParams& a = spatial.p.a;
  KahanSum<float> at_tau[kWidth];
  for_each_spatial_class(spatial, [&](int k, float(&x)[kWidth]) {
    weights(k, x);
    float grad[kWidth];
    spatial.load(a.grad, a.grad_type, Operand::kGrad, k, grad);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float gradient = by[j].careful(x[j], grad[j]);
      if (a.row_value != nullptr) at_tau[j].add(tau_term(gradient, x[j] * by[j].norm));
      x[j] = gradient;
    }
    spatial.store(a.output, k, x);
  });
  if (a.row_value == nullptr) return;
  float total[kWidth];
  for (int j = 0; j < kWidth; ++j) total[j] = at_tau[j].sum;
  reduce_spatial(total, spatial.warps, scratch, Sum{});
  if (!spatial.leads()) return;
  for (int j = 0; j < kWidth; ++j) static_cast<float*>(a.row_value)[spatial.first + j] = total[j];
}

template <typename Element>
__global__ void __launch_bounds__(kMaxSpatialWarps* kWarpSize)
    backward_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ float scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  KahanSum<float> sums[kWidth];
  for_each_spatial_class(spatial, [&](int k, float(&y)[kWidth]) {
    float grad[kWidth];
    spatial.load(p.a.grad, p.a.grad_type, Operand::kGrad, k, grad);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sums[j].add(y[j] * grad[j]);
  });
  float dot[kWidth];
  for (int j = 0; j < kWidth; ++j) dot[j] = sums[j].sum;
  reduce_spatial(dot, spatial.warps, scratch, Sum{});
  Differentiate by[kWidth];
  for (int j = 0; j < kWidth; ++j) by[j] = {1.0f, dot[j], spatial.temperature(j).inverse};
  differentiate_spatial(spatial, by, [](int, float(&)[kWidth]) {}, scratch);
}

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kMaxSpatialWarps* kWarpSize)
    hard_backward_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ float scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  const RowKey<kDeviceKey> key(p, spatial.row);
  const auto state = weigh_spatial<true>(spatial, key, scratch);
  Differentiate by[kWidth];
  for (int j = 0; j < kWidth; ++j) {
    const float norm = 1.0f / state.sum[j];
    by[j] = {norm, state.dot[j] * norm, spatial.temperature(j).inverse};
  }
  const auto weights = [&](int k, float(&x)[kWidth]) {
    spatial_scores(spatial, key, k, x);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = state.weigh(x[j], j);
  };
  differentiate_spatial(spatial, by, weights, scratch);
}

}  // namespace torch_gumbel::cuda
