// SPDX-License-Identifier: Apache-2.0
// Many short rows: a block processes a tile of contiguous rows, reads and writes it as 16-byte
// vectors, whatever the number of classes, and separates its rows in shared memory: a few lanes per
// row, kItemsPerThread classes per lane.
#pragma once

#include "argmax.cuh"
#include "backward.cuh"
#include "tile_rows.cuh"

namespace torch_gumbel::cuda {

/// Vectors of a tile that one thread processes: 16 elements.
template <typename Element>
constexpr int kTileVectors = 16 / Element::kWidth;

/// A thread's vectors of a tile. The step from one to the next is the same in every tile.
template <typename Element>
struct TileFragment {
  static constexpr int kWidth = Element::kWidth;
  static constexpr int kVectors = kTileVectors<Element>;
  static constexpr int kStep = kTileThreads * kWidth;  // elements

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

/// Calls visit(i, kPiece, where vector i lies) for a thread's vectors in shared memory: kPiece, of
/// type Index, elements are accessed at a time.
template <typename Fragment, typename Visit>
__device__ __forceinline__ void for_each_shared_vector(const TileBanks& banks,
                                                       const Fragment& fragment, Visit visit) {
  const unsigned first = banks.index(fragment.first), step = banks.index(Fragment::kStep);
  const auto each = [&](auto piece) {
    unrolled<Fragment::kVectors>([&](auto i) {
      if (fragment.count(i.value) > 0) visit(i, piece, first + i.value * step);
    });
  };
  if (banks.vectors())
    each(Index<4>{});
  else
    each(Index<1>{});
}

template <int kPiece, int kWidth>
__device__ __forceinline__ void load_shared(const float* from, float (&x)[kWidth]) {
#pragma unroll
  for (int j = 0; j < kWidth; j += kPiece) {
    if constexpr (kPiece == 1) {
      x[j] = from[j];
    } else {
      load_four(from + j, x + j);
    }
  }
}

/// Stores a thread's elements to shared memory.
template <typename Fragment, int kCount>
__device__ __forceinline__ void store_shared(const TileBanks& banks, const Fragment& fragment,
                                             const float (&x)[kCount], float* shared) {
  for_each_shared_vector(banks, fragment, [&](auto i, auto piece, unsigned at) {
    const float* from = x + i.value * Fragment::kWidth;
    float* to = shared + at;
#pragma unroll
    for (int j = 0; j < Fragment::kWidth; j += piece.value) {
      if constexpr (piece.value == 1)
        to[j] = from[j];
      else
        store_four(to + j, from + j);
    }
  });
}

/// Incoming gradients or y, which are `Element`s or float32, into shared memory.
template <typename Element>
__device__ __forceinline__ void stage_values(const Problem& p, const Tile& tile, const void* data,
                                             DType type, float* shared) {
  const TileFragment<Element> fragment(tile);
  float x[16];
  if (wide<Element>(type))
    load_tile<Float32>(data, tile, fragment, 0.0f, x);
  else
    load_tile<Element>(data, tile, fragment, 0.0f, x);
  store_shared(TileBanks(p), fragment, x, shared);
}

template <typename Stored, typename Fragment>
__device__ __forceinline__ void write_tile_as(void* data, const Tile& tile, const TileBanks& banks,
                                              const Fragment& fragment, const float* shared) {
  auto* to = static_cast<typename Stored::Storage*>(data) + tile.begin + fragment.first;
  for_each_shared_vector(banks, fragment, [&](auto i, auto piece, unsigned at) {
    float x[Fragment::kWidth];
    load_shared<piece.value>(shared + at, x);
    store_vector_of<Stored, i.value>(to, fragment, x);
  });
}

/// Writes the tile in shared memory to the output.
template <typename Element>
__device__ __forceinline__ void write_tile(const Problem& p, const Tile& tile,
                                           const float* shared) {
  const TileFragment<Element> fragment(tile);
  const TileBanks banks(p);
  if (wide<Element>(p.a.output_type))
    write_tile_as<Float32>(p.a.output, tile, banks, fragment, shared);
  else
    write_tile_as<Element>(p.a.output, tile, banks, fragment, shared);
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
                                       const TileBanks& banks, bool all, const Scaling& scaling,
                                       float* shared) const {
    constexpr int kWidth = Element::kWidth;
#pragma unroll 1
    for (int n = 0; n < 16; ++n) {
      const int e = fragment.first + n / kWidth * TileFragment<Element>::kStep + n % kWidth;
      if (e >= tile.elements) break;
      const uint32_t w = word(e);
      if (w < math::kExtendBelow || all)
        shared[banks.index(e)] = among_fast<kFor>(scaling(logit(tile, e), e) + noise(e, w));
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
  const TileBanks banks(p);
  store_shared(banks, fragment, x, shared);
  const bool wraps = counters.wraps(Vectors::kVectors * kBlocks);
  if (least < math::kExtendBelow || wraps)
    noise.template redo<kFor>(fragment, tile, banks, wraps, scaling, shared);
}

}  // namespace torch_gumbel::cuda
