// SPDX-License-Identifier: Apache-2.0
// Many short rows: a block takes a tile of rows that lie end to end, reads and writes it as one
// flat run of 16-byte vectors, whatever the number of classes, and takes its rows apart in shared
// memory: a few lanes per row, kHeld classes per lane.
#pragma once

#include "backward.cuh"
#include "choice.cuh"

namespace torch_gumbel::cuda {

constexpr int kTileThreads = 256;

/// The block's tile, in elements of the tensor from its first row on.
struct Tile {
  int64_t begin;
  int elements;
  int64_t first_row;

  __device__ __forceinline__ explicit Tile(const Problem& p) {
    const int rows = kTileThreads / p.lanes;
    first_row = int64_t{blockIdx.x} * rows;
    const int64_t left = p.a.rows.count - first_row;
    const auto classes = static_cast<int>(p.a.rows.classes);
    begin = first_row * classes;
    elements = static_cast<int>(left < rows ? left : rows) * classes;
  }
};

/// Place of a tile's element in shared memory: one in 33 is left out, so that the lanes of a warp
/// meet different banks along a vector as well as along rows of an even number of classes.
__device__ __forceinline__ int place_of(int element) { return element + element / 32; }

/// Calls visit(element) for the first element of every vector of this thread.
template <int kWidth, typename Visit>
__device__ __forceinline__ void for_each_vector(const Tile& tile, Visit visit) {
  for (int e = static_cast<int>(threadIdx.x) * kWidth; e < tile.elements;
       e += kTileThreads * kWidth)
    visit(e);
}

/// kWidth values from element `from` of the tensor on, of which `count` exist; `filler` for the
/// others.
template <typename Element, int kWidth>
__device__ __forceinline__ void load_flat(const void* data, int64_t from, int count, float filler,
                                          float (&x)[kWidth]) {
  const auto* at = static_cast<const typename Element::Storage*>(data) + from;
  if (count >= kWidth) {
    unrolled<kWidth / Element::kWidth>([&](auto piece) {
      Element::unpack(load_128<piece.value * 16>(at), x + piece.value * Element::kWidth);
    });
  } else {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = j < count ? Element::widen(at[j]) : filler;
  }
}

template <typename Element, int kWidth>
__device__ __forceinline__ void store_flat(void* data, int64_t from, int count,
                                           const float (&x)[kWidth]) {
  auto* at = static_cast<typename Element::Storage*>(data) + from;
  if (count >= kWidth) {
    unrolled<kWidth / Element::kWidth>([&](auto piece) {
      store_128<piece.value * 16>(at, Element::pack(x + piece.value * Element::kWidth));
    });
  } else {
#pragma unroll
    for (int j = 0; j < kWidth; ++j)
      if (j < count) at[j] = Element::narrow(x[j]);
  }
}

/// Whether a tensor beside halves holds float32.
template <typename Element>
__device__ __forceinline__ bool wide(DType type) {
  return Element::kType != DType::kFloat32 && type == DType::kFloat32;
}

template <int kWidth>
__device__ __forceinline__ void place(const float (&x)[kWidth], int element, float* shared) {
  float* at = shared + place_of(element);
#pragma unroll
  for (int j = 0; j < kWidth; ++j) at[j] = x[j];  // a vector lies between two gaps
}

/// Incoming gradients, or with the input's own pointer and type y, into shared memory.
template <typename Element>
__device__ __forceinline__ void place_values(const Tile& tile, const void* data, DType type,
                                             float* shared) {
  constexpr int kWidth = Element::kWidth;
  for_each_vector<kWidth>(tile, [&](int e) {
    float x[kWidth];
    if (wide<Element>(type))
      load_flat<Float32>(data, tile.begin + e, tile.elements - e, 0.0f, x);
    else
      load_flat<Element>(data, tile.begin + e, tile.elements - e, 0.0f, x);
    place(x, e, shared);
  });
}

/// Writes what shared memory holds to the output.
template <typename Element>
__device__ __forceinline__ void write_tile(const Arguments& a, const Tile& tile,
                                           const float* shared) {
  constexpr int kWidth = Element::kWidth;
  for_each_vector<kWidth>(tile, [&](int e) {
    float x[kWidth];
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = shared[place_of(e) + j];
    if (wide<Element>(a.output_type))
      store_flat<Float32>(a.output, tile.begin + e, tile.elements - e, x);
    else
      store_flat<Element>(a.output, tile.begin + e, tile.elements - e, x);
  });
}

/// Logit and exact noise of a tile's element.
template <typename Element, typename Key>
struct TileNoise {
  const Arguments& a;
  const Key& key;
  uint64_t first_word;

  __device__ __forceinline__ TileNoise(const Arguments& arguments, const Key& k, const Tile& tile)
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
  /// Puts exact scores where a vector's words are extended, or everywhere.
  template <typename Scaling>
  __device__ __forceinline__ void redo(const Tile& tile, int e, bool all, const Scaling& scaling,
                                       float* shared) const {
    constexpr int kWidth = Element::kWidth;
    const int end = e + kWidth < tile.elements ? e + kWidth : tile.elements;
#pragma unroll 1
    for (int i = e; i < end; ++i) {
      const uint32_t w = word(i);
      if (w < math::kExtendBelow || all)
        shared[place_of(i)] = scaling(logit(tile, i), i) + noise(i, w) - kShift;
    }
  }
};

/// Fast scores of a tile into shared memory. scaling(logit, element) is what noise is added to.
template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ void place_scores(const Problem& p, const Tile& tile, const Key& key,
                                             const Scaling& scaling, float* shared) {
  constexpr int kWidth = Element::kWidth;
  const TileNoise<Element, Key> noise(p.a, key, tile);
  const uint64_t first = key.offset() + noise.first_word / 4;
  for_each_vector<kWidth>(tile, [&](int e) {
    float x[kWidth];
    load_flat<Element>(p.a.input, tile.begin + e, tile.elements - e, -kInfinity, x);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = scaling(x[j], e + j);
    const Counters counters(first + static_cast<uint64_t>(e / 4));
    uint32_t least = 0xFFFFFFFF;
    add_fast_noise<kWidth>(key, counters, 0, x, least);
    place(x, e, shared);
    const bool wraps = counters.wraps(kWidth / 4);
    if (least < math::kExtendBelow || wraps) noise.redo(tile, e, wraps, scaling, shared);
  });
}

/// A thread's classes of one row of the tile: lane, lane + lanes, ...
struct TileRow {
  int row;  // in the tile
  int lane;
  int lanes;
  int classes;
  int count;  // its classes

  __device__ __forceinline__ TileRow(const Problem& p, const Tile& tile) : lanes(p.lanes) {
    const int thread = static_cast<int>(threadIdx.x);
    row = thread / lanes;
    lane = thread % lanes;
    classes = static_cast<int>(p.a.rows.classes);
    const int left = row * classes < tile.elements ? classes - lane : 0;
    count = left > 0 ? (left + lanes - 1) / lanes : 0;
  }
  __device__ __forceinline__ bool exists(const Tile& tile) const {
    return row * classes < tile.elements;
  }
  __device__ __forceinline__ bool leads(const Tile& tile) const {
    return lane == 0 && exists(tile);
  }
  __device__ __forceinline__ int element(int j) const { return row * classes + lane + j * lanes; }

  template <int kHeld>
  __device__ __forceinline__ void load(const float* shared, float filler, float (&x)[kHeld]) const {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) x[j] = j < count ? shared[place_of(element(j))] : filler;
  }
  template <int kHeld>
  __device__ __forceinline__ void store(const float (&x)[kHeld], float* shared) const {
#pragma unroll
    for (int j = 0; j < kHeld; ++j)
      if (j < count) shared[place_of(element(j))] = x[j];
  }
  /// Over the lanes of the row, which lie in one warp.
  template <typename State, typename Merge>
  __device__ __forceinline__ State reduce(State state, Merge merge) const {
    for (int lane_mask = lanes / 2; lane_mask > 0; lane_mask /= 2)
      state = merge(state, exchange(state, lane_mask));
    return state;
  }
};

}  // namespace torch_gumbel::cuda
