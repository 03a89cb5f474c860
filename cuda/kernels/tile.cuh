// SPDX-License-Identifier: Apache-2.0
// Many short rows: a block processes a tile of contiguous rows, reads and writes it as 16-byte
// vectors, whatever the number of classes, and separates its rows in shared memory: a few lanes per
// row, kItemsPerThread classes per lane.
#pragma once

#include "argmax.cuh"
#include "backward.cuh"

namespace torch_gumbel::cuda {

constexpr int kTileThreads = 256;

/// Vectors of a tile that one thread processes: 16 elements.
template <typename Element>
constexpr int kTileVectors = 16 / Element::kWidth;

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

/// Index of a tile's element in shared memory: one in 33 is padding, so that the lanes of a warp
/// access different banks along a vector as well as along rows of an even number of classes.
__device__ __forceinline__ unsigned shared_index(int element) {
  const auto e = static_cast<unsigned>(element);
  return e + e / 32;
}

/// A thread's vectors of a tile. The step from one to the next is the same in every tile, also in
/// shared memory.
template <typename Element>
struct TileFragment {
  static constexpr int kWidth = Element::kWidth;
  static constexpr int kVectors = kTileVectors<Element>;
  static constexpr int kStep = kTileThreads * kWidth;  // elements
  static constexpr int kSharedStep = kStep + kStep / 32;

  int first;  // element
  int left;   // elements of the tile from there on

  __device__ __forceinline__ explicit TileFragment(const Tile& tile)
      : first(static_cast<int>(threadIdx.x) * kWidth), left(tile.elements - first) {}

  __device__ __forceinline__ int count(int i) const { return left - i * kStep; }
  /// Whether all lanes of the warp hold vector i whole.
  __device__ __forceinline__ bool full(int i) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    return count(i) + lane * kWidth >= kWarpSize * kWidth;
  }
};

/// Vector i of a thread, of `Stored`s; `filler` past the tile.
template <typename Stored, int i, typename Fragment>
__device__ __forceinline__ void load_vector(const typename Stored::Storage* from,
                                            const Fragment& fragment, float filler, float* x) {
  constexpr int kBytes = i * Fragment::kStep * sizeof(typename Stored::Storage);
  if (fragment.full(i)) {
    unrolled<Fragment::kWidth / Stored::kWidth>([&](auto piece) {
      Stored::unpack(load_128<kBytes + piece.value * 16>(from), x + piece.value * Stored::kWidth);
    });
  } else {
#pragma unroll
    for (int j = 0; j < Fragment::kWidth; ++j)
      x[j] = j < fragment.count(i) ? Stored::widen(from[i * Fragment::kStep + j]) : filler;
  }
}

template <typename Stored, int i, typename Fragment>
__device__ __forceinline__ void store_vector_of(typename Stored::Storage* to,
                                                const Fragment& fragment, const float* x) {
  constexpr int kBytes = i * Fragment::kStep * sizeof(typename Stored::Storage);
  if (fragment.full(i)) {
    unrolled<Fragment::kWidth / Stored::kWidth>([&](auto piece) {
      store_128<kBytes + piece.value * 16>(to, Stored::pack(x + piece.value * Stored::kWidth));
    });
  } else {
#pragma unroll
    for (int j = 0; j < Fragment::kWidth; ++j)
      if (j < fragment.count(i)) to[i * Fragment::kStep + j] = Stored::narrow(x[j]);
  }
}

/// A thread's elements of a tensor of `Stored`s.
template <typename Stored, typename Fragment, int kCount>
__device__ __forceinline__ void load_tile(const void* data, const Tile& tile,
                                          const Fragment& fragment, float filler,
                                          float (&x)[kCount]) {
  const auto* from =
      static_cast<const typename Stored::Storage*>(data) + tile.begin + fragment.first;
  unrolled<Fragment::kVectors>([&](auto i) {
    load_vector<Stored, i.value>(from, fragment, filler, x + i.value * Fragment::kWidth);
  });
}

/// Whether a tensor beside halves holds float32.
template <typename Element>
__device__ __forceinline__ bool wide(DType type) {
  return Element::kType != DType::kFloat32 && type == DType::kFloat32;
}

/// Stores a thread's elements to shared memory.
template <typename Fragment, int kCount>
__device__ __forceinline__ void store_shared(const Fragment& fragment, const float (&x)[kCount],
                                             float* shared) {
  float* at = shared + shared_index(fragment.first);
#pragma unroll
  for (int i = 0; i < Fragment::kVectors; ++i) {
    if (fragment.count(i) <= 0) continue;
#pragma unroll
    for (int j = 0; j < Fragment::kWidth; ++j)  // no padding within a vector
      at[i * Fragment::kSharedStep + j] = x[i * Fragment::kWidth + j];
  }
}

/// Incoming gradients or y, which are `Element`s or float32, into shared memory.
template <typename Element>
__device__ __forceinline__ void stage_values(const Tile& tile, const void* data, DType type,
                                             float* shared) {
  const TileFragment<Element> fragment(tile);
  float x[16];
  if (wide<Element>(type))
    load_tile<Float32>(data, tile, fragment, 0.0f, x);
  else
    load_tile<Element>(data, tile, fragment, 0.0f, x);
  store_shared(fragment, x, shared);
}

template <typename Stored, typename Fragment>
__device__ __forceinline__ void write_tile_as(void* data, const Tile& tile,
                                              const Fragment& fragment, const float* at) {
  auto* to = static_cast<typename Stored::Storage*>(data) + tile.begin + fragment.first;
  unrolled<Fragment::kVectors>([&](auto i) {
    if (fragment.count(i.value) <= 0) return;
    float x[Fragment::kWidth];
#pragma unroll
    for (int j = 0; j < Fragment::kWidth; ++j) x[j] = at[i.value * Fragment::kSharedStep + j];
    store_vector_of<Stored, i.value>(to, fragment, x);
  });
}

/// Writes the tile in shared memory to the output.
template <typename Element>
__device__ __forceinline__ void write_tile(const KernelParams& a, const Tile& tile,
                                           const float* shared) {
  const TileFragment<Element> fragment(tile);
  const float* at = shared + shared_index(fragment.first);
  if (wide<Element>(a.output_type))
    write_tile_as<Float32>(a.output, tile, fragment, at);
  else
    write_tile_as<Element>(a.output, tile, fragment, at);
}

/// Logit and exact noise of a tile's element.
template <typename Element, typename Key>
struct TileNoise {
  const KernelParams& a;
  const Key& key;
  uint64_t first_word;

  __device__ __forceinline__ TileNoise(const KernelParams& arguments, const Key& k,
                                       const Tile& tile)
      : a(arguments), key(k), first_word(a.rows.first_word + static_cast<uint64_t>(tile.begin)) {}

  __device__ __forceinline__ float logit(const Tile& tile, int e) const {
    const auto* input = static_cast<const typename Element::Storage*>(a.input);
    return Element::widen(input[tile.begin + e]);
  }
  __device__ __forceinline__ uint32_t word(int e) const {
    return position_word(key, first_word + static_cast<uint64_t>(e));
  }
  __device__ __forceinline__ float noise(int e, uint32_t with_word) const {
    return exact_noise(key, first_word + static_cast<uint64_t>(e), with_word);
  }
  /// Exact score, unscaled.
  __device__ __forceinline__ float score(const Tile& tile, int e) const {
    return logit(tile, e) + noise(e, word(e));
  }
  /// Writes exact scores where a thread's words are extended, or everywhere.
  template <Scoring kFor, typename Scaling>
  __device__ __forceinline__ void redo(const TileFragment<Element>& fragment, const Tile& tile,
                                       bool all, const Scaling& scaling, float* shared) const {
    constexpr int kWidth = Element::kWidth;
#pragma unroll 1
    for (int n = 0; n < 16; ++n) {
      const int e = fragment.first + n / kWidth * TileFragment<Element>::kStep + n % kWidth;
      if (e >= tile.elements) break;
      const uint32_t w = word(e);
      if (w < math::kExtendBelow || all)
        shared[shared_index(e)] = among_fast<kFor>(scaling(logit(tile, e), e) + noise(e, w));
    }
  }
};

/// Fast scores of a tile into shared memory. scaling(logit, element) is what noise is added to.
template <typename Element, Scoring kFor, typename Key, typename Scaling>
__device__ __forceinline__ void stage_scores(const Problem& p, const Tile& tile, const Key& key,
                                             const Scaling& scaling, float* shared) {
  using Vectors = TileFragment<Element>;
  constexpr uint32_t kBlocks = Vectors::kStep / 4;
  const Vectors fragment(tile);
  const TileNoise<Element, Key> noise(p.a, key, tile);
  float x[16];
  load_tile<Element>(p.a.input, tile, fragment, -kInfinity, x);
  scaling.apply(fragment, x);
  const uint64_t position = noise.first_word + static_cast<uint64_t>(fragment.first);
  const Counters<> counters(key.offset() + position / 4);
  uint32_t least = 0xFFFFFFFF;
#pragma unroll
  for (int i = 0; i < Vectors::kVectors; ++i)
    add_fast_noise<kFor, Vectors::kWidth>(key, counters, i * kBlocks, x + i * Vectors::kWidth,
                                          least);
  store_shared(fragment, x, shared);
  const bool wraps = counters.wraps(Vectors::kVectors * kBlocks);
  if (least < math::kExtendBelow || wraps)
    noise.template redo<kFor>(fragment, tile, wraps, scaling, shared);
}

/// A thread's classes of one row of the tile: lane, lane + threads_per_row, ...
struct TileRow {
  int threads_per_row;
  int row;  // in the tile
  int lane;
  int base;   // its first element
  int count;  // its classes
  bool exists;

  __device__ __forceinline__ bool leads() const { return lane == 0 && exists; }
  __device__ __forceinline__ int element(int j) const { return base + j * threads_per_row; }

  /// Indices of its classes; all of them are within the tile's memory, whether they exist or not.
  template <int kItemsPerThread>
  __device__ __forceinline__ void find(unsigned (&at)[kItemsPerThread]) const {
#pragma unroll
    for (int j = 0; j < kItemsPerThread; ++j) at[j] = shared_index(element(j));
  }
  template <int kItemsPerThread>
  __device__ __forceinline__ void load(const unsigned (&at)[kItemsPerThread], const float* shared,
                                       float filler, float (&x)[kItemsPerThread]) const {
    if (__all_sync(kAllLanes, count == kItemsPerThread)) {
#pragma unroll
      for (int j = 0; j < kItemsPerThread; ++j) x[j] = shared[at[j]];
    } else {
#pragma unroll
      for (int j = 0; j < kItemsPerThread; ++j) x[j] = j < count ? shared[at[j]] : filler;
    }
  }
  template <int kItemsPerThread>
  __device__ __forceinline__ void store(const unsigned (&at)[kItemsPerThread],
                                        const float (&x)[kItemsPerThread], float* shared) const {
    if (__all_sync(kAllLanes, count == kItemsPerThread)) {
#pragma unroll
      for (int j = 0; j < kItemsPerThread; ++j) shared[at[j]] = x[j];
    } else {
#pragma unroll
      for (int j = 0; j < kItemsPerThread; ++j)
        if (j < count) shared[at[j]] = x[j];
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

/// Calls visit(TileRow) for every row of this thread. All lanes of a warp arrive together.
template <typename Visit>
__device__ __forceinline__ void for_each_tile_row(const Problem& p, const Tile& tile, Visit visit) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread & (p.threads_per_row - 1);
  const auto classes = static_cast<int>(p.a.rows.classes);
  const int at_once = kTileThreads >> p.threads_per_row_log2;
  const int count =
      lane < classes ? (classes - lane + p.threads_per_row - 1) >> p.threads_per_row_log2 : 0;
  int row = thread >> p.threads_per_row_log2, base = row * classes + lane;
#pragma unroll 1
  for (int rows = 0; rows < p.tile_rows; rows += at_once) {
    const bool exists = row < tile.rows;
    visit(TileRow{p.threads_per_row, row, lane, base, exists ? count : 0, exists});
    row += at_once;
    base += at_once * classes;
  }
}

}  // namespace torch_gumbel::cuda
