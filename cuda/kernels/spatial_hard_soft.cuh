// SPDX-License-Identifier: Apache-2.0
// Soft samples and their one-hots on spatial rows. The first read keeps where a thread met its
// largest fast scores, of which exact scores choose; the second one writes both samples.
#pragma once

#include "looped_hard_soft.cuh"
#include "spatial_kernels.cuh"

namespace torch_gumbel::cuda {

/// Where a thread met the largest fast score of each of its rows, and the second largest.
template <int kWidth>
struct SpatialTops {
  float top[kWidth];
  float second[kWidth];
  int at[kWidth];

  __device__ __forceinline__ SpatialTops() {
    for (int j = 0; j < kWidth; ++j) top[j] = second[j] = -kInfinity, at[j] = 0;
  }
  __device__ __forceinline__ void update(int j, int k, float score, float largest) {
    second[j] = max_number(second[j], min_number(score, largest));
    at[j] = score > largest ? k : at[j];
  }
  __device__ __forceinline__ void keep(int j, float largest) { top[j] = largest; }
};

/// The best class of the block's range by exact scores: of what threads met, as far as it comes near
/// the range's largest fast score, or of all classes where a thread met two such. `state`: of the
/// range. All threads arrive together.
template <typename Element, bool kDeviceKey>
__device__ __forceinline__ void best_of_tops(
    const SpatialRows<Element>& spatial, const SpatialTops<Element::kWidth>& tops,
    const SpatialState<Element::kWidth>& state,
    Best (&scratch)[kMaxSpatialWarps][Element::kWidth][kWarpSize], Best (&best)[Element::kWidth]) {
  constexpr int kWidth = Element::kWidth;
  __shared__ int unsure_scratch[kMaxSpatialWarps][1][kWarpSize];
  const RowKey<kDeviceKey> key(spatial.p, spatial.row);
  int unsure[] = {0};
#pragma unroll
  for (int j = 0; j < kWidth; ++j)
    unsure[0] |= tops.second[j] >= filter_threshold(state.top[j]) && state.sum[j] > 0;
  reduce_spatial(unsure, spatial.warps, unsure_scratch, [](int x, int y) { return x | y; });
  if (__any_sync(kAllLanes, unsure[0])) {  // the same in every warp
    const auto score = [](float x, float noise, int) { return x + noise; };
    return best_of_spatial<Element, kDeviceKey>(spatial, score, scratch, best);
  }
  const auto* input = static_cast<const typename Element::Storage*>(spatial.p.a.input);
#pragma unroll 1
  for (int j = 0; j < kWidth; ++j) {
    float top = tops.top[0], threshold = filter_threshold(state.top[0]);
    int k = tops.at[0];
#pragma unroll
    for (int i = 1; i < kWidth; ++i)
      if (i == j) top = tops.top[i], threshold = filter_threshold(state.top[i]), k = tops.at[i];
    if (!(top >= threshold)) continue;
    const uint64_t position = spatial.word(k) + static_cast<uint64_t>(j);
    const float logit = Element::widen(input[spatial.at(Operand::kInput, k) + j]);
    const float score = logit + exact_noise(key, position, position_word(key, position));
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      if (i == j) best[i].offer(score, k);
  }
  reduce_bests(best, spatial.warps, scratch);
}

template <typename Element, bool kDeviceKey>
__global__ void __launch_bounds__(kSpatialThreadsOf<Element, kDeviceKey>, 2)
    hard_soft_spatial_kernel(const __grid_constant__ Problem p) {
  constexpr int kWidth = Element::kWidth;
  __shared__ float scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  __shared__ Best best_scratch[kMaxSpatialWarps][kWidth][kWarpSize];
  const SpatialRows<Element> spatial(p);
  const RowKey<kDeviceKey> key(p, spatial.row);
  SpatialTops<kWidth> tops;
  const auto state = weigh_spatial<false>(spatial, key, scratch, tops);
  Best best[kWidth];
  const auto bests = [&](int64_t row) { return bests_after_states(p, row); };
  if (spatial.is(Stage::kFinish))
    best_of_ranges(spatial, bests, best_scratch, best);
  else
    best_of_tops<Element, kDeviceKey>(spatial, tops, state, best_scratch, best);
  leave_bests(spatial, bests, best);
  if (leave_state(spatial, state)) return;
  for_each_spatial_class(spatial, [&](int k, float(&x)[kWidth]) {
    spatial_scores(spatial, key, k, x);
    float one_hot[kWidth];
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      x[j] = state.weigh(x[j], j) * (1.0f / state.sum[j]);
      one_hot[j] = math::fma(x[j], 0.0f, k == best[j].index ? 1.0f : 0.0f);  // NaN stays NaN
    }
    spatial.store(p.a.output, k, x);
    spatial.store(p.a.one_hot, k, one_hot);
  });
}

}  // namespace torch_gumbel::cuda
