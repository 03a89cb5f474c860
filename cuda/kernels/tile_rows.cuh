// SPDX-License-Identifier: Apache-2.0
// The rows of a tile, and where they lie in shared memory.
#pragma once

#include "../device/aligned_row.cuh"
#include "../device/thread_group.cuh"

namespace torch_gumbel::cuda {

constexpr int kTileThreads = 256;

/// The block's tile, in elements of the tensor from its first row on.
struct Tile {
  int64_t first_row;
  int64_t begin;
  int elements;
  int rows;

  __device__ __forceinline__ explicit Tile(const Problem& p) {
    first_row = int64_t{blockIdx.x} * p.tile_rows;
    const int64_t left = p.a.rows.count - first_row;
    const auto classes = static_cast<int>(p.a.rows.classes);
    rows = static_cast<int>(left < p.tile_rows ? left : p.tile_rows);
    begin = first_row * classes;
    elements = rows * classes;
  }
};

/// Where a tile's elements lie in shared memory, so that the lanes of a warp access different banks
/// along a row and along the tile. Rows of few factors of two need nothing but a distance between
/// those that a warp processes at a time (first_tile_row); others are shifted by `shift` after every
/// 2^log2 elements, which are whole rows.
struct TileBanks {
  unsigned shift;
  int log2;

  __device__ __forceinline__ explicit TileBanks(const Problem& p)
      : shift(static_cast<unsigned>(p.tile_shift)), log2(p.tile_shift_log2) {}

  __device__ __forceinline__ unsigned index(int element) const {
    const auto e = static_cast<unsigned>(element);
    return e + shift * (e >> log2);
  }
  /// Whether vectors of four elements lie at 16-byte boundaries; else accesses are of one element.
  __device__ __forceinline__ bool vectors() const { return shift % 4 == 0; }
};

/// A thread's classes of one row of the tile: lane, lane + threads_per_row, ...
struct TileRow {
  int threads_per_row;
  int row;  // in the tile
  int lane;
  int base;     // its first element
  unsigned at;  // where that lies in shared memory
  int count;    // its classes
  bool exists;

  __device__ __forceinline__ bool leads() const { return lane == 0 && exists; }
  __device__ __forceinline__ int element(int j) const { return base + j * threads_per_row; }
  /// Where class k of the row lies.
  __device__ __forceinline__ unsigned of_class(int k) const { return at - lane + k; }

  template <int kItemsPerThread>
  __device__ __forceinline__ void load(const float* shared, float filler,
                                       float (&x)[kItemsPerThread]) const {
    if (__all_sync(kAllLanes, count == kItemsPerThread)) {
#pragma unroll
      for (int j = 0; j < kItemsPerThread; ++j) x[j] = shared[at + j * threads_per_row];
    } else {
#pragma unroll
      for (int j = 0; j < kItemsPerThread; ++j)
        x[j] = j < count ? shared[at + j * threads_per_row] : filler;
    }
  }
  template <int kItemsPerThread>
  __device__ __forceinline__ void store(const float (&x)[kItemsPerThread], float* shared) const {
    if (__all_sync(kAllLanes, count == kItemsPerThread)) {
#pragma unroll
      for (int j = 0; j < kItemsPerThread; ++j) shared[at + j * threads_per_row] = x[j];
    } else {
#pragma unroll
      for (int j = 0; j < kItemsPerThread; ++j)
        if (j < count) shared[at + j * threads_per_row] = x[j];
    }
  }
  /// Over the lanes of the row, which belong to one warp.
  template <typename State, typename Merge>
  __device__ __forceinline__ State reduce(State state, Merge merge) const {
    for (int lane_mask = threads_per_row / 2; lane_mask > 0; lane_mask /= 2)
      state = merge(state, exchange(state, lane_mask));
    return state;
  }
};

/// The row of the tile that the threads of a slot process first. The 32 / threads_per_row slots of a
/// warp take rows at a distance that puts them into different banks.
__device__ __forceinline__ int first_tile_row(const Problem& p, int slot) {
  const int rows_log2 = 5 - p.threads_per_row_log2;  // of a warp
  const int in_warp = slot & ((1 << rows_log2) - 1);
  const int group = (1 << (rows_log2 + p.tile_distance_log2)) - 1;
  return (slot & ~group) + (in_warp << p.tile_distance_log2) + ((slot & group) >> rows_log2);
}

/// Calls visit(TileRow) for every row of this thread. All lanes of a warp arrive together.
template <typename Visit>
__device__ __forceinline__ void for_each_tile_row(const Problem& p, const Tile& tile, Visit visit) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread & (p.threads_per_row - 1);
  const auto classes = static_cast<int>(p.a.rows.classes);
  const int at_once = kTileThreads >> p.threads_per_row_log2;
  const int count =
      lane < classes ? (classes - lane + p.threads_per_row - 1) >> p.threads_per_row_log2 : 0;
  const TileBanks banks(p);
  int row = first_tile_row(p, thread >> p.threads_per_row_log2), base = row * classes + lane;
#pragma unroll 1
  for (int rows = 0; rows < p.tile_rows; rows += at_once) {
    const bool exists = row < tile.rows;
    visit(TileRow{p.threads_per_row, row, lane, base, banks.index(base - lane) + lane,
                  exists ? count : 0, exists});
    row += p.tile_rows_step;
    base += p.tile_rows_step * classes;
  }
}

}  // namespace torch_gumbel::cuda
