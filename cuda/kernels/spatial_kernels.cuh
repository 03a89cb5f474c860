// SPDX-License-Identifier: Apache-2.0
// Every op on spatial rows, in two reads: see spatial.cuh.
#pragma once

#include "looped_argmax.cuh"
#include "looped_soft.cuh"
#include "spatial.cuh"

namespace torch_gumbel::cuda {

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kSpatialThreads)
    soft_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ float scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  const RowKey<kDeviceKey> key(p, spatial.row);
  const auto state = weigh_spatial<false>(spatial, key, scratch);
  if (leave_state(spatial, state)) return;
  for_each_spatial_class(spatial, [&](int k, float(&x)[kWidth]) {
    spatial_scores(spatial, key, k, x);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = state.weigh(x[j], j) * (1.0f / state.sum[j]);
    spatial.store(p.a.output, k, x);
  });
  if (p.a.row_value == nullptr || !spatial.leads() || spatial.block() != 0) return;
  for (int j = 0; j < kWidth; ++j) {
    Weigh weigh(state.top[j], state.scale[j]);
    weigh.direct = false;
    static_cast<float*>(p.a.row_value)[spatial.first + j] =
        log_sum_exp(weigh, state.sum[j], spatial.tau(j));
  }
}

/// Merges the best class of every warp. A NaN score stays.
template <int kWidth>
__device__ __forceinline__ void reduce_bests(Best (&best)[kWidth], int warps,
                                             Best (&scratch)[kMaxSpatialWarps][kWidth][kWarpSize]) {
  reduce_spatial(best, warps, scratch, [](Best x, const Best& y) {
    if (x.score == x.score) {
      x.offer(y.score, y.index);
      if (y.score != y.score) x = y;
    }
    return x;
  });
}

/// The best class of the block's range by exact scores score(logit, noise, j); NaN or +inf leaves a
/// row's best NaN. All lanes of all warps arrive together.
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
  reduce_bests(best, spatial.warps, scratch);
}

/// The best class of the rows from those of their blocks' ranges; bests_of_row(row): those of a row.
template <typename Element, typename BestsOfRow>
__device__ __forceinline__ void best_of_ranges(
    const SpatialRows<Element>& spatial, BestsOfRow bests_of_row,
    Best (&scratch)[kMaxSpatialWarps][Element::kWidth][kWarpSize], Best (&best)[Element::kWidth]) {
  const int blocks = spatial.exists() ? spatial.p.blocks_per_row : 0;
#pragma unroll 1
  for (int block = spatial.warp; block < blocks; block += spatial.warps) {
    for (int j = 0; j < Element::kWidth; ++j) {
      const BlockBest of_block = bests_of_row(spatial.first + j)[block];
      best[j].offer(of_block.score, of_block.index);
      if (of_block.score != of_block.score) best[j] = {kNan, 0};
    }
  }
  reduce_bests(best, spatial.warps, scratch);
}

/// In the first of two launches, leaves the best class of the block's range. Whether that is all.
template <typename Element, typename BestsOfRow>
__device__ __forceinline__ bool leave_bests(const SpatialRows<Element>& spatial,
                                            BestsOfRow bests_of_row,
                                            const Best (&best)[Element::kWidth]) {
  if (!spatial.is(Stage::kReduce)) return false;
  for (int j = 0; spatial.leads() && j < Element::kWidth; ++j)
    bests_of_row(spatial.first + j)[spatial.block()] = {best[j].score, best[j].index};
  return true;
}

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kSpatialThreads)
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
  const auto bests = [&](int64_t row) { return bests_of(p, row); };
  if (leave_bests(spatial, bests, best) || !spatial.leads()) return;
  for (int j = 0; j < kWidth; ++j) write_argmax(p.a, spatial.first + j, best[j]);
}

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kSpatialThreads)
    hard_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ Best scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  Best best[kWidth];
  const auto bests = [&](int64_t row) { return bests_of(p, row); };
  const auto score = [](float x, float noise, int) { return x + noise; };
  if (spatial.is(Stage::kFinish))
    best_of_ranges(spatial, bests, scratch, best);
  else
    best_of_spatial<Element, kDeviceKey>(spatial, score, scratch, best);
  if (leave_bests(spatial, bests, best)) return;
  float rest[kWidth];
  for (int j = 0; j < kWidth; ++j) {
    const bool defined = best[j].score > -kInfinity && spatial.temperature(j).scale > 0;
    rest[j] = defined ? 0.0f : kNan;
  }
  for (int k = spatial.begin() + spatial.warp; k < spatial.end; k += spatial.warps) {
    float x[kWidth];
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = k == best[j].index && rest[j] == 0 ? 1.0f : rest[j];
    spatial.store(p.a.output, k, x);
  }
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
  for (int j = 0; spatial.leads() && j < kWidth; ++j) {
    if (spatial.is(Stage::kWhole))
      static_cast<float*>(a.row_value)[spatial.first + j] = total[j];
    else
      states_of(spatial.p, spatial.first + j)[spatial.block()].tau = total[j];
  }
}

template <typename Element>
__global__ void __launch_bounds__(kSpatialThreads)
    backward_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ float scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  SpatialState<kWidth> state = {};
  KahanSum<float> sums[kWidth];
  if (spatial.is(Stage::kFinish)) {
    const int blocks = spatial.exists() ? p.blocks_per_row : 0;
    for (int block = spatial.warp; block < blocks; block += spatial.warps)
      for (int j = 0; j < kWidth; ++j) sums[j].add(states_of(p, spatial.first + j)[block].dot);
  } else {
    for_each_spatial_class(spatial, [&](int k, float(&y)[kWidth]) {
      float grad[kWidth];
      spatial.load(p.a.grad, p.a.grad_type, Operand::kGrad, k, grad);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) sums[j].add(y[j] * grad[j]);
    });
  }
  for (int j = 0; j < kWidth; ++j) state.dot[j] = sums[j].sum;
  reduce_spatial(state.dot, spatial.warps, scratch, Sum{});
  if (leave_state(spatial, state)) return;
  Differentiate by[kWidth];
  for (int j = 0; j < kWidth; ++j) by[j] = {1.0f, state.dot[j], spatial.temperature(j).inverse};
  differentiate_spatial(spatial, by, [](int, float(&)[kWidth]) {}, scratch);
}

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kSpatialThreadsOf<Element, true>, 2)
    hard_backward_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ float scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  const RowKey<kDeviceKey> key(p, spatial.row);
  const auto state = weigh_spatial<true>(spatial, key, scratch);
  if (leave_state(spatial, state)) return;
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
