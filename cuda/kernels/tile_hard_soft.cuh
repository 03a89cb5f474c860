// SPDX-License-Identifier: Apache-2.0
// Soft samples and their one-hots on tiles of short rows. A sample's sign bit, otherwise unused,
// marks its row's argmax in shared memory, so that one tile there serves both.
#pragma once

#include "tile_kernels.cuh"

namespace torch_gumbel::cuda {

/// 1 where the sign is set, 0 where it is not, NaN for NaN.
__device__ __forceinline__ float one_of_marked(float value) {
  constexpr uint32_t kOne = 0x3F800000;  // the bits of 1.0f
  const uint32_t mask = math::signed_shift(math::bit_cast<uint32_t>(value), 31);
  return math::fma(fabsf(value), 0.0f, math::bit_cast<float>(mask & kOne));
}

/// Two tensors from samples whose sign marks each row's argmax: their values, and its one-hot.
template <typename Stored, typename Fragment>
__device__ __forceinline__ void write_marked_as(const KernelParams& a, const Tile& tile,
                                                const TileBanks& banks, const Fragment& fragment,
                                                const float* shared) {
  const int64_t first = tile.begin + fragment.first;
  auto* soft = static_cast<typename Stored::Storage*>(a.output) + first;
  auto* one_hot = static_cast<typename Stored::Storage*>(a.one_hot) + first;
  for_each_shared_vector(banks, fragment, [&](auto i, auto piece, unsigned at) {
    float x[Fragment::kWidth], one[Fragment::kWidth];
    load_shared<piece.value>(shared + at, x);
#pragma unroll
    for (int j = 0; j < Fragment::kWidth; ++j) {
      one[j] = one_of_marked(x[j]);
      x[j] = fabsf(x[j]);
    }
    store_vector_of<Stored, i.value>(soft, fragment, x);
    store_vector_of<Stored, i.value>(one_hot, fragment, one);
  });
}

template <typename Element>
__device__ __forceinline__ void write_marked_tile(const Problem& p, const Tile& tile,
                                                  const float* shared) {
  const TileFragment<Element> fragment(tile);
  const TileBanks banks(p);
  if (wide<Element>(p.a.output_type))
    write_marked_as<Float32>(p.a, tile, banks, fragment, shared);
  else
    write_marked_as<Element>(p.a, tile, banks, fragment, shared);
}

/// Marks the argmax, by the lane that has it.
__device__ __forceinline__ void mark(const TileRow& row, const Best& best, float* shared) {
  if (!row.exists || row.lane != (best.index & (row.threads_per_row - 1))) return;
  float& chosen = shared[row.of_class(best.index)];
  chosen = -chosen;
}

template <typename Element, int kItemsPerThread, bool kDeviceKey>
__global__ void __launch_bounds__(kTileThreads)
    hard_soft_tile_kernel(const __grid_constant__ Problem p) {
  extern __shared__ __align__(16) float shared[];
  const Tile tile(p);
  const RowKey<kDeviceKey> key(p, row_of(p.a.rows, 0));
  stage_scores<Element, Scoring::kWeights>(p, tile, key, TileUnscaled{}, shared);
  __syncthreads();
  const TileNoise<Element, RowKey<kDeviceKey>> noise(p.a, key, tile);
  const auto exact = [&](int e) { return noise.score(tile, e); };
  for_each_tile_row(p, tile, [&](const TileRow& row) {
    float x[kItemsPerThread];
    row.load(shared, -kInfinity, x);
    const float top = top_of_tile_row(row, x);
    const uint32_t candidates = candidates_of(x, top);
    const Weigh weigh(top, row_temperature(p, tile, row).scale);
    const float norm = 1.0f / row.reduce(weigh_all(weigh, x), Sum{});
#pragma unroll
    for (float& value : x) value *= norm;
    row.store(x, shared);
    mark(row, best_of_candidates<false>(row, candidates, top, exact), shared);
  });
  __syncthreads();
  write_marked_tile<Element>(p, tile, shared);
}

}  // namespace torch_gumbel::cuda
