// SPDX-License-Identifier: Apache-2.0
// Which classes of a row the filters keep, by a block: a radix selection on the order of logits,
// whose histograms of counts or of masses lie in shared memory.
#pragma once

#include "filter_row.cuh"

namespace torch_gumbel::cuda {

/// The last class of a prefix in the order (value falling, class rising). All finite logits at first.
template <typename T>
struct FilterEdge {
  T value = kMinusInfinity<T>;
  int64_t index = -1;

  __device__ __forceinline__ bool keeps(int64_t k, T x) const {
    return x > value || (x == value && k <= index);
  }
};

// Numbers in the order of values, equal for zeros of either sign; and the values.

__device__ __forceinline__ uint32_t radix_key(float x) {
  const auto bits = math::bit_cast<uint32_t>(x == 0 ? 0.0f : x);
  return bits >> 31 != 0 ? ~bits : bits | uint32_t{1} << 31;
}
__device__ __forceinline__ uint64_t radix_key(double x) {
  const auto bits = math::bit_cast<uint64_t>(x == 0 ? 0.0 : x);
  return bits >> 63 != 0 ? ~bits : bits | uint64_t{1} << 63;
}
__device__ __forceinline__ float value_of_key(uint32_t key) {
  return math::bit_cast<float>(key >> 31 != 0 ? key ^ uint32_t{1} << 31 : ~key);
}
__device__ __forceinline__ double value_of_key(uint64_t key) {
  return math::bit_cast<double>(key >> 63 != 0 ? key ^ uint64_t{1} << 63 : ~key);
}

/// Selections of one row, of counts or of masses.
template <typename T, bool kWeighted>
class Selection {
 public:
  __device__ __forceinline__ Selection(const FilterRow<T>& row, const math::WeightScale<T>& scale,
                                       FilterShared<T>& shared)
      : row_(row), scale_(scale), shared_(shared) {}

  /// The shortest prefix of what `before` keeps whose mass is at least target(the mass of that);
  /// `before` if that target is 0.
  template <typename Target>
  __device__ __forceinline__ FilterEdge<T> select(const FilterEdge<T>& before,
                                                  Target target) const {
    using Key = decltype(radix_key(T{}));
    Key prefix = 0;
    FoundBin bin = {};
#pragma unroll 1
    for (int end = 8 * sizeof(Key); end > 0;) {
      const int bits = end < kDigitBits ? end : kDigitBits, shift = end - bits;
      count(before, prefix, shift, bits);
      const uint64_t total = scan();
      const uint64_t wanted = end == 8 * sizeof(Key) ? target(total) : bin.rest;
      if (wanted == 0) return before;
      bin = find(wanted);
      prefix |= static_cast<Key>(bin.index) << shift;
      end = shift;
    }
    const T value = value_of_key(prefix);
    const uint64_t weight = kWeighted ? scale_.weight(value) : 1;
    const uint64_t needed = (bin.rest + weight - 1) / weight;
    if (needed * weight < bin.mass) return {value, find_tie(before, value, needed)};
    return {value, value == before.value ? before.index : row_.a.rows.classes};
  }

 private:
  __device__ __forceinline__ uint64_t mass(int bin) const {
    return kWeighted ? shared_.low[bin] + (uint64_t{shared_.high[bin]} << 32) : shared_.low[bin];
  }

  /// The histogram of a digit, of classes whose digits before it are the prefix's.
  template <typename Key>
  __device__ __forceinline__ void count(const FilterEdge<T>& before, Key prefix, int shift,
                                        int bits) const {
    for (int i = threadIdx.x; i < kBins; i += blockDim.x) {
      shared_.low[i] = 0;
      if (kWeighted) shared_.high[i] = 0;
    }
    __syncthreads();
    row_.for_each_logit([&](int64_t k, T x) {
      if (!before.keeps(k, x)) return;
      const Key key = radix_key(x);
      if ((key ^ prefix) >> shift >> bits != 0) return;
      const auto bin = static_cast<uint32_t>(key >> shift) & ((1u << bits) - 1);
      const uint32_t weight = kWeighted ? scale_.weight(x) : 1;
      const uint32_t old = atomicAdd(&shared_.low[bin], weight);
      if (kWeighted && old + weight < old) atomicAdd(&shared_.high[bin], 1u);
    });
    __syncthreads();
  }

  /// Bins of a thread, in falling order, are from kBins - 1 - thread * that on.
  __device__ __forceinline__ int bins_per_thread() const {
    return kBins / static_cast<int>(blockDim.x);
  }
  __device__ __forceinline__ int first_bin() const {
    return kBins - 1 - static_cast<int>(threadIdx.x) * bins_per_thread();
  }

  /// The mass of all bins; leaves that of each warp's in `of_warp`.
  __device__ __forceinline__ uint64_t scan() const {
    uint64_t mine = 0;
    for (int i = 0; i < bins_per_thread(); ++i) mine += mass(first_bin() - i);
    mine = reduce_lanes(mine, Sum{});
    if (threadIdx.x % kWarpSize == 0) shared_.of_warp[threadIdx.x / kWarpSize] = mine;
    __syncthreads();
    uint64_t total = 0;
    for (unsigned w = 0; w < blockDim.x / kWarpSize; ++w) total += shared_.of_warp[w];
    return total;
  }

  /// The bin in which the bins from the highest on reach a mass, at most that of all; after scan().
  __device__ __forceinline__ FoundBin find(uint64_t wanted) const {
    uint64_t before = 0, mine = 0;
    for (unsigned w = 0; w < threadIdx.x / kWarpSize; ++w) before += shared_.of_warp[w];
    for (int i = 0; i < bins_per_thread(); ++i) mine += mass(first_bin() - i);
    uint64_t until = mine;  // of this warp's lanes until this one
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const uint64_t other = __shfl_up_sync(kAllLanes, until, distance);
      if (threadIdx.x % kWarpSize >= static_cast<unsigned>(distance)) until += other;
    }
    before += until - mine;
    if (before < wanted && wanted <= before + mine) {
      uint64_t rest = wanted - before;
      int bin = first_bin();
      for (; mass(bin) < rest; --bin) rest -= mass(bin);
      shared_.found = {static_cast<uint64_t>(bin), rest, mass(bin)};
    }
    __syncthreads();
    return shared_.found;
  }

  /// The class of the n-th logit of that value, n > 0, that `before` keeps.
  __device__ __forceinline__ int64_t find_tie(const FilterEdge<T>& before, T value,
                                              uint64_t n) const {
    const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
    const int64_t warps = blockDim.x / kWarpSize;
    int64_t begin = 0, end = row_.a.rows.classes;
    const auto tied = [&](int64_t k, T x) { return x == value && before.keeps(k, x); };
    while (end - begin > kWarpSize) {
      const int64_t lines = (end - begin + kWarpSize - 1) / kWarpSize;
      const int64_t part = (lines + warps - 1) / warps * kWarpSize, mine = begin + warp * part;
      uint64_t ties = 0;
      row_.for_classes(mine + lane, mine + part < end ? mine + part : end, kWarpSize,
                       [&](int64_t k, T x) { ties += tied(k, x); });
      ties = reduce_lanes(ties, Sum{});
      __syncthreads();
      if (lane == 0) shared_.of_warp[warp] = ties;
      __syncthreads();
      int w = 0;
      for (; shared_.of_warp[w] < n; ++w) n -= shared_.of_warp[w];
      begin += w * part;
      end = begin + part < end ? begin + part : end;
    }
    bool here = false;
    row_.template for_classes<1>(begin + lane, end, kWarpSize,
                                 [&](int64_t k, T x) { here = tied(k, x); });
    unsigned ties = __ballot_sync(kAllLanes, here);
    for (; n > 1; --n) ties &= ties - 1;
    return begin + __ffs(static_cast<int>(ties)) - 1;
  }

  const FilterRow<T>& row_;
  const math::WeightScale<T>& scale_;
  FilterShared<T>& shared_;
};

/// What the filters keep of a row that has a finite logit, and neither NaN nor +inf.
template <typename T>
__device__ __forceinline__ FilterEdge<T> filter_edge(const FilterRow<T>& row,
                                                     const math::RowFilter& filter,
                                                     const math::WeightScale<T>& scale,
                                                     FilterShared<T>& shared) {
  FilterEdge<T> edge;
  if (filter.top_k > 0 && filter.top_k < row.a.rows.classes) {
    const auto k = static_cast<uint64_t>(filter.top_k);
    edge = Selection<T, false>(row, scale, shared).select(edge, [&](uint64_t count) {
      return count > k ? k : 0;
    });
  }
  if (filter.top_p < 1)
    edge = Selection<T, true>(row, scale, shared).select(edge, [&](uint64_t mass) {
      const uint64_t target = math::target_of(filter.top_p, mass);
      return target < mass ? target : mass;
    });
  if (filter.min_p > 0) {
    const T bound = math::min_p_bound(scale.max, filter.temperature, filter.min_p);
    if (bound > edge.value) edge = {bound, row.a.rows.classes};
  }
  return edge;
}

}  // namespace torch_gumbel::cuda
