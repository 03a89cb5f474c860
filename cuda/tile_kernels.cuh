// SPDX-License-Identifier: Apache-2.0
// Every op on tiles of short rows. Shared memory: `tile_floats` of problem.h, twice in backwards.
#pragma once

#include "tile.cuh"

namespace torch_gumbel::cuda {

/// The row's temperature and place in the tensor.
__device__ __forceinline__ Row tensor_row(const Problem& p, const Tile& tile, const TileRow& row) {
  const int64_t index = tile.first_row + (row.exists(tile) ? row.row : 0);
  return row_of(p.a.rows, index);
}

struct TileUnscaled {
  __device__ __forceinline__ float operator()(float x, int) const { return x; }
};

/// The sampler's scaling. Rows may have temperatures of their own: `inverses` holds the tile's.
struct TileScaled {
  bool needed;
  int classes;
  const float* inverses;

  __device__ __forceinline__ float operator()(float x, int element) const {
    return needed ? math::scaled_logit(x, inverses[element / classes]) : x;
  }
};

/// All threads of the block arrive together.
__device__ __forceinline__ TileScaled scaling_of(const Problem& p, const Tile& tile,
                                                 float (&inverses)[kTileThreads]) {
  const int rows = kTileThreads / p.lanes, thread = static_cast<int>(threadIdx.x);
  const auto classes = static_cast<int>(p.a.rows.classes);
  if (p.scaled) {
    if (thread < rows) {
      const bool exists = thread * classes < tile.elements;
      inverses[thread] =
          temperature(p, row_of(p.a.rows, tile.first_row + (exists ? thread : 0))).inverse;
    }
    __syncthreads();
  }
  return {p.scaled, classes, inverses};
}

/// Weights of a row's scores, and their sum.
template <int kHeld>
__device__ __forceinline__ float weigh_row(const TileRow& row, float scale, float (&x)[kHeld],
                                           Weigh& weigh) {
  float top = -kInfinity;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) top = max_number(top, x[j]);
  weigh = Weigh(row.reduce(top, MaxNumber{}), scale);
  return row.reduce(weigh_all(weigh, x), Sum{});
}

template <typename Element, int kHeld, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    soft_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ float shared[];
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  place_scores<Element>(p, tile, key, TileUnscaled{}, shared);
  __syncthreads();
  const TileRow row(p, tile);
  const Row in_tensor = tensor_row(p, tile, row);
  float x[kHeld];
  row.load(shared, -kInfinity, x);
  Weigh weigh(0, 0);
  const float sum = weigh_row(row, temperature(p, in_tensor).scale, x, weigh);
  const float norm = 1.0f / sum;
#pragma unroll
  for (float& value : x) value *= norm;
  row.store(x, shared);
  if (p.a.row_value != nullptr && row.leads(tile))
    static_cast<float*>(p.a.row_value)[tile.first_row + row.row] =
        log_sum_exp(weigh, sum, tau_of(p.a, in_tensor));
  __syncthreads();
  write_tile<Element>(p.a, tile, shared);
}

/// Best class of a row from its fast scores, for all its lanes: of several within the filter's
/// threshold the best exact score decides. Its score is exact if that was needed or kWithScore.
template <bool kWithScore, int kHeld, typename Exact>
__device__ __forceinline__ Best best_of_tile_row(const TileRow& row, const float (&x)[kHeld],
                                                 Exact exact) {
  float top = -kInfinity;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) top = max_or_nan(top, x[j]);
  top = row.reduce(top, MaxOrNan{});
  const bool defined = top < kInfinity && top > -kInfinity;
  const float threshold = filter_threshold(top);
  uint32_t candidates = 0;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) candidates |= x[j] >= threshold ? 1u << j : 0u;
  if (!defined) candidates = 0;
  const int in_row = row.reduce(__popc(candidates), Sum{});
  Best best;
  for (; candidates != 0; candidates &= candidates - 1) {
    const int at = row.lane + (__ffs(static_cast<int>(candidates)) - 1) * row.lanes;
    best.offer(kWithScore || in_row > 1 ? exact(at) : top, at);
  }
  best = row.reduce(best, BetterOf{});
  return top < kInfinity ? best : Best{kNan, 0};
}

template <typename Element, int kHeld, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    hard_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ float shared[];
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  place_scores<Element>(p, tile, key, TileUnscaled{}, shared);
  __syncthreads();
  const TileRow row(p, tile);
  const TileNoise<Element, RowKey<kDeviceKey>> noise(p.a, key, tile);
  float x[kHeld];
  row.load(shared, -kInfinity, x);
  const Best best = best_of_tile_row<false>(row, x, [&](int at) {
    const int e = row.row * row.classes + at;
    return noise.logit(tile, e) + noise.noise(e, noise.word(e));
  });
  const bool defined =
      best.score > -kInfinity && temperature(p, tensor_row(p, tile, row)).scale > 0;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const float one_hot = row.lane + j * row.lanes == best.index ? 1.0f : 0.0f;
    x[j] = defined ? one_hot : kNan;
  }
  row.store(x, shared);
  __syncthreads();
  write_tile<Element>(p.a, tile, shared);
}

template <typename Element, int kHeld, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    argmax_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ float shared[];
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  __shared__ float inverses[kTileThreads];
  const TileScaled scaling = scaling_of(p, tile, inverses);
  place_scores<Element>(p, tile, key, scaling, shared);
  __syncthreads();
  const TileRow row(p, tile);
  const TileNoise<Element, RowKey<kDeviceKey>> noise(p.a, key, tile);
  float x[kHeld];
  row.load(shared, -kInfinity, x);
  const Best best = best_of_tile_row<true>(row, x, [&](int at) {
    const int e = row.row * row.classes + at;
    return scaling(noise.logit(tile, e), e) + noise.noise(e, noise.word(e));
  });
  if (row.leads(tile)) write_choice(p.a, tile.first_row + row.row, best);
}

/// Weights and incoming gradients of a row become gradients, in shared memory; and the row's
/// gradient at tau.
template <int kHeld>
__device__ __forceinline__ void differentiate_row(const Problem& p, const Tile& tile,
                                                  const TileRow& row, const Differentiate& by,
                                                  const float (&grad)[kHeld], float (&x)[kHeld],
                                                  float* shared) {
  const bool want_tau = p.a.row_value != nullptr;
  const float own = differentiate_all(by, grad, want_tau, x);
  row.store(x, shared);
  if (!want_tau) return;
  const float total = row.reduce(own, Sum{});
  if (row.leads(tile)) static_cast<float*>(p.a.row_value)[tile.first_row + row.row] = total;
}

template <typename Element, int kHeld>
__global__ void __launch_bounds__(kTileThreads)
    backward_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ float shared[];
  float* grads = shared + p.tile_floats;
  const Tile tile(p);
  place_values<Element>(tile, p.a.input, p.a.input_type, shared);
  place_values<Element>(tile, p.a.grad, p.a.grad_type, grads);
  __syncthreads();
  const TileRow row(p, tile);
  float y[kHeld], grad[kHeld];
  row.load(shared, 0.0f, y);
  row.load(grads, 0.0f, grad);
  const float dot = row.reduce(dot_of(y, grad, 0.0f), Sum{});
  const float inverse = temperature(p, tensor_row(p, tile, row)).inverse;
  differentiate_row(p, tile, row, {1.0f, dot, inverse}, grad, y, shared);
  __syncthreads();
  write_tile<Element>(p.a, tile, shared);
}

template <typename Element, int kHeld, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    hard_backward_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ float shared[];
  float* grads = shared + p.tile_floats;
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  place_values<Element>(tile, p.a.grad, p.a.grad_type, grads);
  place_scores<Element>(p, tile, key, TileUnscaled{}, shared);
  __syncthreads();
  const TileRow row(p, tile);
  const Temperature tau = temperature(p, tensor_row(p, tile, row));
  float x[kHeld], grad[kHeld];
  row.load(shared, -kInfinity, x);
  row.load(grads, 0.0f, grad);
  Weigh weigh(0, 0);
  const float sum = weigh_row(row, tau.scale, x, weigh);
  const float norm = 1.0f / sum;
  const float dot = row.reduce(dot_of(x, grad, 0.0f), Sum{}) * norm;
  differentiate_row(p, tile, row, {norm, dot, tau.inverse}, grad, x, shared);
  __syncthreads();
  write_tile<Element>(p.a, tile, shared);
}

}  // namespace torch_gumbel::cuda
