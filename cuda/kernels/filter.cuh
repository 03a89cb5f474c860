// SPDX-License-Identifier: Apache-2.0
// Filtered draws and filtered logits of rows of any layout and dtype, a block to each row.
#pragma once

#include "../../csrc/math/prune.h"
#include "../device/fast_noise.cuh"
#include "filter_select.cuh"

namespace torch_gumbel::cuda {

template <typename T>
__device__ __forceinline__ FilterBest<T> best_of_block(const FilterBest<T>& best,
                                                       FilterShared<T>& shared) {
  const auto merge = [](const FilterBest<T>& x, const FilterBest<T>& y) { return better_of(x, y); };
  return reduce_block(best, FilterBest<T>::none(), shared.best, merge);
}

/// The largest logit and its first class; NaN if the row holds NaN.
template <typename T>
__device__ __forceinline__ FilterBest<T> largest_logit(const FilterRow<T>& row,
                                                       FilterShared<T>& shared) {
  FilterBest<T> best = FilterBest<T>::none();
  row.for_each_logit([&](int64_t k, T x) { best = better_of(best, best_of_class(x, k)); });
  return best_of_block(best, shared);
}

/// The best class so far of a thread, to which classes come in rising order.
template <typename T>
class FilteredDraw {
 public:
  __device__ __forceinline__ FilteredDraw(math::Key key, T inverse)
      : key_(key), inverse_(inverse) {}

  __device__ __forceinline__ void offer(int64_t k, T x, uint64_t position, uint32_t word) {
    const T scaled = math::scaled_logit(x, inverse_);
    if constexpr (sizeof(T) == sizeof(float))
      if (math::score_bound(scaled, word) < threshold_) return;
    uint32_t extension = 0;
    if (needs_extension<T>(word))
      extension = math::key_word(key_, position, math::Plane::kExtension);
    T noise;
    noise_of(word, extension, noise);
    const T score = scaled + noise;
    if (!(score > best_.score)) return;
    best_ = best_of_class(score, k);
    if constexpr (sizeof(T) == sizeof(float)) threshold_ = math::pruning_threshold(score);
  }
  __device__ __forceinline__ const FilterBest<T>& best() const { return best_; }

 private:
  math::Key key_;
  T inverse_;
  T threshold_ = kMinusInfinity<T>;
  FilterBest<T> best_ = FilterBest<T>::none();
};

/// Offers this thread's classes that are kept. Where words are consecutive it takes whole blocks of
/// four, of which the first and the last may belong to the row in part.
template <typename T>
__device__ __forceinline__ void offer_kept(const FilterRow<T>& row, const FilterEdge<T>& edge,
                                           math::Key key, FilteredDraw<T>& draw) {
  const KernelParams& a = row.a;
  const auto first = static_cast<uint64_t>(row.row[Operand::kWord]);
  const auto step = static_cast<uint64_t>(a.rows.step(Operand::kWord));
  if (step != 1)
    return row.for_each_logit_alone([&](int64_t k, T x) {
      if (!edge.keeps(k, x)) return;
      const uint64_t position = first + static_cast<uint64_t>(k) * step;
      draw.offer(k, x, position, math::key_word(key, position));
    });
  const int64_t classes = a.rows.classes, distance = a.rows.step(Operand::kInput);
  const auto before = static_cast<int64_t>(first % 4);
#pragma unroll 1
  for (int64_t k = 4 * int64_t{threadIdx.x} - before; k < classes; k += 4 * int64_t{blockDim.x}) {
    const int64_t begin = k < 0 ? 0 : k;
    const int skipped = static_cast<int>(begin - k);
    const int64_t left = classes - begin, most = 4 - skipped;
    T x[4];
    load_several(a, row.row[Operand::kInput] + begin * distance, distance,
                 left < most ? left : most, x);
    bool any = false;
#pragma unroll
    for (int i = 0; i < 4; ++i) any |= edge.keeps(begin + i, x[i]);
    if (!any) continue;
    const math::Block words = math::key_block(key, (first + static_cast<uint64_t>(k)) / 4);
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      const T low = i & 1 ? x[1] : x[0], high = i & 1 ? x[3] : x[2], logit = i & 2 ? high : low;
      if (edge.keeps(begin + i, logit))
        draw.offer(begin + i, logit, first + static_cast<uint64_t>(begin + i),
                   word_of(words, static_cast<unsigned>(skipped + i)));
    }
  }
}

template <typename T>
__device__ __forceinline__ math::FilteredLaw law_of(const FilterRow<T>& row,
                                                    const FilterEdge<T>& edge,
                                                    const math::WeightScale<T>& scale,
                                                    int64_t first_largest, double temperature,
                                                    FilterShared<T>& shared) {
  KahanSum<T> rest, products;
  row.for_each_logit([&](int64_t k, T x) {
    if (k == first_largest || !edge.keeps(k, x)) return;
    const T difference = math::at_least(-math::kLargest<T>, x - scale.max);
    const T weight = math::exp_scaled(difference, scale.exponent);
    rest.add(weight);
    products.add(weight * difference);
  });
  const auto total = [&](T sum) {
    return reduce_block(static_cast<double>(sum), 0.0, shared.sum, Sum{});
  };
  return {static_cast<double>(scale.max), temperature, total(rest.sum), total(products.sum)};
}

template <typename T>
__device__ __forceinline__ void write_choice(const FilterParams& a, int64_t row, int64_t choice,
                                             double log_prob, double entropy) {
  if (threadIdx.x != 0) return;
  a.index[row] = choice;
  if (a.row_value != nullptr) static_cast<T*>(a.row_value)[row] = static_cast<T>(log_prob);
  if (a.entropy != nullptr) static_cast<T*>(a.entropy)[row] = static_cast<T>(entropy);
}

template <typename T>
__device__ __forceinline__ void draw_filtered(const FilterRow<T>& row, const FilterEdge<T>& edge,
                                              const math::WeightScale<T>& scale,
                                              int64_t first_largest, double temperature,
                                              FilterShared<T>& shared) {
  const FilterParams& a = row.a;
  FilteredDraw<T> draw(key_of(a, row.row), math::sampling_inverse_of<T>(temperature));
  offer_kept(row, edge, key_of(a, row.row), draw);
  const int64_t choice = best_of_block(draw.best(), shared).index;
  if (a.row_value == nullptr && a.entropy == nullptr)
    return write_choice<T>(a, row.index, choice, 0, 0);
  const auto law = law_of(row, edge, scale, first_largest, temperature, shared);
  const auto x = static_cast<double>(load_input<T>(a, row.row, choice));
  write_choice<T>(a, row.index, choice, law.log_prob(x), law.entropy());
}

/// A row without a choice to make: index 0 and NaN where it is undefined, or the greedy choice.
template <typename T>
__device__ __forceinline__ void write_decided(const FilterRow<T>& row, const FilterBest<T>& top,
                                              bool defined) {
  const FilterParams& a = row.a;
  const T nan = static_cast<T>(__builtin_nan(""));
  const double value = defined ? 0.0 : __builtin_nan("");
  if (a.output == nullptr)
    return write_choice<T>(a, row.index, defined ? top.index : 0, value, value);
  row.for_each_logit([&](int64_t k, T x) {
    const T filtered = k == top.index ? x : kMinusInfinity<T>;
    store_output(a, a.output, row.row, k, defined ? filtered : nan);
  });
}

template <typename T>
__device__ __forceinline__ void filter_row(const FilterRow<T>& row, FilterShared<T>& shared) {
  const FilterParams& a = row.a;
  const math::RowFilter filter = {tau_of(a, row.row), a.top_k.at(row.index), a.top_p.at(row.index),
                                  a.min_p.at(row.index)};
  const FilterBest<T> top = largest_logit(row, shared);
  const bool finite = top.score > kMinusInfinity<T> && top.score < -kMinusInfinity<T>;
  const bool defined = finite && filter.valid();
  if (!defined || math::without_noise(filter.temperature)) return write_decided(row, top, defined);
  const math::WeightScale<T> scale = {top.score, math::exponent_scale<T>(filter.temperature)};
  const FilterEdge<T> edge = filter_edge(row, filter, scale, shared);
  if (a.output == nullptr)
    return draw_filtered(row, edge, scale, top.index, filter.temperature, shared);
  const T inverse = math::sampling_inverse_of<T>(filter.temperature);
  row.for_each_logit([&](int64_t k, T x) {
    const T open = edge.keeps(k, x) ? x : kMinusInfinity<T>;
    store_output(a, a.output, row.row, k, math::scaled_logit(open, inverse));
  });
}

template <typename T>
__global__ void __launch_bounds__(kFilterThreads, 1)
    filter_generic_kernel(const __grid_constant__ FilterParams a) {
  __shared__ FilterShared<T> shared;
  for (int64_t index = blockIdx.x; index < a.rows.count; index += gridDim.x)
    filter_row(FilterRow<T>{a, row_of(a.rows, index), index}, shared);
}

}  // namespace torch_gumbel::cuda
