// SPDX-License-Identifier: Apache-2.0
// Every op on tiles of short rows. Shared memory: `tile_floats` of problem.h, twice in backwards.
#pragma once

#include "tile.cuh"

namespace torch_gumbel::cuda {

/// The row in the tensor.
__device__ __forceinline__ Row tensor_row(const Problem& p, const Tile& tile, const TileRow& row) {
  return row_of(p.a.rows, tile.first_row + (row.exists ? row.row : 0));
}

__device__ __forceinline__ Temperature row_temperature(const Problem& p, const Tile& tile,
                                                       const TileRow& row) {
  return p.a.tau == nullptr ? p.temperature : temperature(p, tensor_row(p, tile, row));
}

struct TileUnscaled {
  __device__ __forceinline__ float operator()(float x, int) const { return x; }
  template <typename Fragment, int kCount>
  __device__ __forceinline__ void apply(const Fragment&, float (&)[kCount]) const {}
};

/// The sampler's scaling. Rows may have temperatures of their own: `inverses` holds the tile's.
struct TileScaled {
  const Problem& p;
  const float* inverses;

  __device__ __forceinline__ float inverse(int row) const {
    return p.a.tau == nullptr ? p.temperature.inverse : inverses[row];
  }
  __device__ __forceinline__ float operator()(float x, int element) const {
    if (!p.scaled) return x;
    return math::scaled_logit(x, inverse(element / static_cast<int>(p.a.rows.classes)));
  }
  template <typename Fragment, int kCount>
  __device__ __forceinline__ void apply(const Fragment& fragment, float (&x)[kCount]) const {
    if (!p.scaled) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int vector = i / Fragment::kWidth, j = i % Fragment::kWidth;
      if (j < fragment.count(vector))
        x[i] = (*this)(x[i], fragment.first + vector * Fragment::kStep + j);
    }
  }
};

/// After the tile in shared memory. All threads of the block arrive together.
__device__ __forceinline__ TileScaled scaling_of(const Problem& p, const Tile& tile,
                                                 float* inverses) {
  if (p.scaled && p.a.tau != nullptr) {
    for (int row = static_cast<int>(threadIdx.x); row < tile.rows; row += kTileThreads)
      inverses[row] =
          math::sampling_inverse(temperature(p, row_of(p.a.rows, tile.first_row + row)).inverse);
    __syncthreads();
  }
  return {p, inverses};
}

/// Weights of a row's scores, and their sum.
template <int kItemsPerThread>
__device__ __forceinline__ float weigh_row(const TileRow& row, float scale,
                                           float (&x)[kItemsPerThread], Weigh& weigh) {
  float top = -kInfinity;
#pragma unroll
  for (int j = 0; j < kItemsPerThread; ++j) top = max_number(top, x[j]);
  weigh = Weigh(row.reduce(top, MaxNumber{}), scale);
  return row.reduce(weigh_all(weigh, x), Sum{});
}

template <typename Element, int kItemsPerThread, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    soft_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ __align__(16) float shared[];
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  stage_scores<Element, Scoring::kWeights>(p, tile, key, TileUnscaled{}, shared);
  __syncthreads();
  for_each_tile_row(p, tile, [&](const TileRow& row) {
    float x[kItemsPerThread];
    row.load(shared, -kInfinity, x);
    Weigh weigh(0, 0);
    const float sum = weigh_row(row, row_temperature(p, tile, row).scale, x, weigh);
    const float norm = 1.0f / sum;
#pragma unroll
    for (float& value : x) value *= norm;
    row.store(x, shared);
    if (p.a.row_value != nullptr && row.leads())
      static_cast<float*>(p.a.row_value)[tile.first_row + row.row] =
          log_sum_exp(weigh, sum, tau_of(p.a, tensor_row(p, tile, row)));
  });
  __syncthreads();
  write_tile<Element>(p, tile, shared);
}

/// The largest of a row's fast scores, NaN if there is one.
template <int kItemsPerThread>
__device__ __forceinline__ float top_of_tile_row(const TileRow& row,
                                                 const float (&x)[kItemsPerThread]) {
  float top = -kInfinity;
#pragma unroll
  for (int j = 0; j < kItemsPerThread; ++j) top = max_or_nan(top, x[j]);
  return row.reduce(top, MaxOrNan{});
}

/// Those of a lane's classes that can be the row's best, as bits; none if the row is undefined.
template <int kItemsPerThread>
__device__ __forceinline__ uint32_t candidates_of(const float (&x)[kItemsPerThread], float top) {
  const bool defined = top < kInfinity && top > -kInfinity;
  const float threshold = filter_threshold(top);
  uint32_t candidates = 0;
#pragma unroll
  for (int j = 0; j < kItemsPerThread; ++j) candidates |= x[j] >= threshold ? 1u << j : 0u;
  return defined ? candidates : 0;
}

/// The best of a row's candidates, for all its lanes: of several the best exact score decides. Its
/// score is exact if that was needed or kWithScore.
template <bool kWithScore, typename Exact>
__device__ __forceinline__ Best best_of_candidates(const TileRow& row, uint32_t candidates,
                                                   float top, Exact exact) {
  const int in_row = row.reduce(__popc(candidates), Sum{});
  Best best;
  for (; candidates != 0; candidates &= candidates - 1) {
    const int j = __ffs(static_cast<int>(candidates)) - 1;
    best.offer(kWithScore || in_row > 1 ? exact(row.element(j)) : top,
               row.lane + j * row.threads_per_row);
  }
  best = row.reduce(best, BetterOf{});
  return top < kInfinity ? best : Best{kNan, 0};
}

/// Best class of a row from its fast scores.
template <bool kWithScore, int kItemsPerThread, typename Exact>
__device__ __forceinline__ Best best_of_tile_row(const TileRow& row,
                                                 const float (&x)[kItemsPerThread], Exact exact) {
  const float top = top_of_tile_row(row, x);
  return best_of_candidates<kWithScore>(row, candidates_of(x, top), top, exact);
}

template <typename Element, int kItemsPerThread, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    hard_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ __align__(16) float shared[];
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  stage_scores<Element, Scoring::kFilter>(p, tile, key, TileUnscaled{}, shared);
  __syncthreads();
  const TileNoise<Element, RowKey<kDeviceKey>> noise(p.a, key, tile);
  const auto exact = [&](int e) { return noise.score(tile, e); };
  for_each_tile_row(p, tile, [&](const TileRow& row) {
    float x[kItemsPerThread];
    row.load(shared, -kInfinity, x);
    const Best best = best_of_tile_row<false>(row, x, exact);
    const bool defined = best.score > -kInfinity && row_temperature(p, tile, row).scale > 0;
#pragma unroll
    for (int j = 0; j < kItemsPerThread; ++j) {
      const float one_hot = row.lane + j * row.threads_per_row == best.index ? 1.0f : 0.0f;
      x[j] = defined ? one_hot : kNan;
    }
    row.store(x, shared);
  });
  __syncthreads();
  write_tile<Element>(p, tile, shared);
}

/// The same without noise; logit_of(element).
template <int kItemsPerThread, typename LogitOf>
__device__ __forceinline__ Best greedy_best_of_tile_row(const TileRow& row, LogitOf logit_of) {
  float x[kItemsPerThread];
#pragma unroll
  for (int j = 0; j < kItemsPerThread; ++j)
    x[j] = j < row.count ? logit_of(row.element(j)) : -kInfinity;
  return best_of_tile_row<true>(row, x, logit_of);
}

template <typename Element, int kItemsPerThread, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    argmax_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ __align__(16) float shared[];
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  const TileScaled scaling = scaling_of(p, tile, shared + p.tile_floats);
  stage_scores<Element, Scoring::kFilter>(p, tile, key, scaling, shared);
  __syncthreads();
  const TileNoise<Element, RowKey<kDeviceKey>> noise(p.a, key, tile);
  for_each_tile_row(p, tile, [&](const TileRow& row) {
    float x[kItemsPerThread];
    row.load(shared, -kInfinity, x);
    Best best = best_of_tile_row<true>(row, x, [&](int e) {
      return scaling(noise.logit(tile, e), e) + noise.noise(e, noise.word(e));
    });
    // A greedy row comes out as undefined, so that no other row checks its temperature.
    const bool greedy =
        p.scaled && best.score != best.score &&
        is_greedy(p, tensor_row(p, tile, row), scaling.inverse(row.exists ? row.row : 0));
    if (__any_sync(kAllLanes, greedy)) {
      const Best of_logits = greedy_best_of_tile_row<kItemsPerThread>(
          row, [&](int e) { return noise.logit(tile, e); });
      if (greedy) best = of_logits;
    }
    if (row.leads()) write_argmax(p.a, tile.first_row + row.row, best);
  });
}

/// Weights and incoming gradients of a row become gradients, in shared memory; and the row's
/// gradient at tau.
template <int kItemsPerThread>
__device__ __forceinline__ void differentiate_row(const Problem& p, const Tile& tile,
                                                  const TileRow& row, const Differentiate& by,
                                                  const float (&grad)[kItemsPerThread],
                                                  float (&x)[kItemsPerThread], float* shared) {
  const bool want_tau = p.a.row_value != nullptr;
  const float own = differentiate_all(by, grad, want_tau, x);
  row.store(x, shared);
  if (!want_tau) return;
  const float total = row.reduce(own, Sum{});
  if (row.leads()) static_cast<float*>(p.a.row_value)[tile.first_row + row.row] = total;
}

template <typename Element, int kItemsPerThread>
__global__ void __launch_bounds__(kTileThreads)
    backward_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ __align__(16) float shared[];
  float* grads = shared + p.tile_floats;
  const Tile tile(p);
  stage_values<Element>(p, tile, p.a.input, p.a.input_type, shared);
  stage_values<Element>(p, tile, p.a.grad, p.a.grad_type, grads);
  __syncthreads();
  for_each_tile_row(p, tile, [&](const TileRow& row) {
    float y[kItemsPerThread], grad[kItemsPerThread];
    row.load(shared, 0.0f, y);
    row.load(grads, 0.0f, grad);
    const float dot = row.reduce(dot_of(y, grad, 0.0f), Sum{});
    const float inverse = row_temperature(p, tile, row).inverse;
    differentiate_row(p, tile, row, {1.0f, dot, inverse}, grad, y, shared);
  });
  __syncthreads();
  write_tile<Element>(p, tile, shared);
}

template <typename Element, int kItemsPerThread, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    hard_backward_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ __align__(16) float shared[];
  float* grads = shared + p.tile_floats;
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  stage_values<Element>(p, tile, p.a.grad, p.a.grad_type, grads);
  stage_scores<Element, Scoring::kWeights>(p, tile, key, TileUnscaled{}, shared);
  __syncthreads();
  for_each_tile_row(p, tile, [&](const TileRow& row) {
    const Temperature tau = row_temperature(p, tile, row);
    float x[kItemsPerThread], grad[kItemsPerThread];
    row.load(shared, -kInfinity, x);
    row.load(grads, 0.0f, grad);
    Weigh weigh(0, 0);
    const float sum = weigh_row(row, tau.scale, x, weigh);
    const float norm = 1.0f / sum;
    const float dot = row.reduce(dot_of(x, grad, 0.0f), Sum{}) * norm;
    differentiate_row(p, tile, row, {norm, dot, tau.inverse}, grad, x, shared);
  });
  __syncthreads();
  write_tile<Element>(p, tile, shared);
}

}  // namespace torch_gumbel::cuda
