// SPDX-License-Identifier: Apache-2.0
// The best class of a row: the first one of the largest exact score.
#pragma once

#include "row_scores.cuh"

namespace torch_gumbel::cuda {

/// The best of the classes seen. Score -inf: none can be drawn.
struct Best {
  float score = -kInfinity;
  int index = 0;

  __device__ __forceinline__ void offer(float other, int at) {
    if (other > score || (other == score && at < index)) score = other, index = at;
  }
};

__device__ __forceinline__ Best exchange(const Best& best, int lane_mask) {
  return {exchange(best.score, lane_mask), exchange(best.index, lane_mask)};
}

struct BetterOf {
  __device__ __forceinline__ Best operator()(Best x, const Best& y) const {
    x.offer(y.score, y.index);
    return x;
  }
};

/// A score that a row's best can exceed by no more than rounding: the best exact score is not
/// among the classes whose fast score lies below. With |fast - exact| <= kScoreError + 2^-22
/// |score| for both the best class and the one of the largest fast score, twice that is enough.
/// Finite, so that -inf does not reach it.
__device__ __forceinline__ float filter_threshold(float largest) {
  const float magnitude = largest < 0 ? -largest : largest;
  return max_number(largest - (4 * kScoreError + magnitude * 0x1p-20f), kLowest);
}

/// Offers the exact scores of a vector's classes whose fast score is at least `threshold` or whose
/// word is extended. For few vectors of a row, so that it is kept small instead of fast.
template <Scoring kFor, typename Element, typename Key, typename Scaling>
__device__ __forceinline__ void offer_vector(const Line<Element>& line, const Key& key,
                                             const Scaling& scaling, int vector, float threshold,
                                             Best& best) {
  math::Block words;
#pragma unroll 1
  for (int j = 0; j < Element::kWidth; ++j) {
    const int at = line.class_of(vector) + j;
    const uint64_t position = line.word + static_cast<uint64_t>(at);
    if (j % 4 == 0) words = key.words(math::counter_block(key.offset() + position / 4));
    const uint32_t word = word_of(words, static_cast<unsigned>(j));
    const float x = scaling(Element::widen(line.input[at]));
    if (fast_score<kFor>(x, word, turned_word(word)) >= threshold || word < math::kExtendBelow)
      best.offer(x + exact_noise(key, position, word), at);
  }
}

/// The largest fast scores: of a row, NaN if one is, and of each of a thread's vectors.
template <int kVectors>
struct Tops {
  float row;
  float of[kVectors];

  template <typename Team, typename Scores>
  __device__ __forceinline__ Tops(const Team&, const Scores& scores) {
    __shared__ typename Team::template Scratch<float> scratch;
    row = scores.edge;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      of[i] = scores.max_of_vector(MaxOrNan{}, i);
      row = max_or_nan(row, of[i]);
    }
    row = Team::reduce(row, -kInfinity, scratch, MaxOrNan{});
  }
  /// Vectors with a class that can be the row's best, as bits.
  __device__ __forceinline__ uint32_t candidates(float threshold) const {
    uint32_t found = 0;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) found |= of[i] >= threshold ? 1u << i : 0u;
    return found;
  }
};

template <Scoring kFor, typename Element, int kVectors, typename Key, typename Scaling>
__device__ __forceinline__ void offer_candidates(const Line<Element>& line,
                                                 const Share<Element, kVectors>& share,
                                                 const Key& key, const Scaling& scaling,
                                                 uint32_t candidates, float threshold, Best& best) {
  for (; candidates != 0; candidates &= candidates - 1) {
    const int i = __ffs(static_cast<int>(candidates)) - 1;
    offer_vector<kFor>(line, key, scaling, share.vector(i), threshold, best);
  }
}

/// Best class of a row held in registers, for all threads of the team. NaN or -inf as its score,
/// and 0 as its index, if the row is undefined.
template <typename Element, int kVectors, typename Team, typename Key, typename Scaling>
__device__ __forceinline__ Best best_of_row(const Line<Element>& line,
                                            const Share<Element, kVectors>& share, const Key& key,
                                            const Scaling& scaling) {
  __shared__ typename Team::template Scratch<Best> scratch;
  Scores<Element, kVectors, Scoring::kFilter> scores;
  scores.load(line, share, key, scaling);
  const Tops<kVectors> top(Team{}, scores);
  if (!(top.row < kInfinity)) return {kNan, 0};
  if (top.row == -kInfinity) return {};
  const float threshold = filter_threshold(top.row);
  Best best;
  if (scores.edge >= threshold) best.offer(exact_score(line, key, scaling, share.edge), share.edge);
  offer_candidates<Scoring::kFilter>(line, share, key, scaling, top.candidates(threshold),
                                     threshold, best);
  return Team::reduce(best, Best{}, scratch, BetterOf{});
}

/// Whether an argmax leaves a row's noise out, for its temperature is 0. That is looked up only
/// where the temperature has no inverse.
__device__ __forceinline__ bool is_plain(const Problem& p, const Row& row, float inverse) {
  return p.scaled && inverse != inverse && math::without_noise(tau_of(p.a, row));
}

/// Offers what a thread holds of a plain row, +inf for a logit that makes it undefined.
template <typename Element, int kVectors>
__device__ __forceinline__ void offer_plain(const Line<Element>& line,
                                            const Share<Element, kVectors>& share, Best& best) {
  const auto offer = [&](float logit, int at) {
    best.offer(logit < kInfinity ? logit : kInfinity, at);
  };
#pragma unroll 1
  for (int i = 0; i < kVectors && share.holds(i); ++i) {
    const int at = line.class_of(share.vector(i));
    float x[Element::kWidth];
    Element::unpack(load_128(line.input + at), x);
#pragma unroll
    for (int j = 0; j < Element::kWidth; ++j) offer(x[j], at + j);
  }
  if (share.edge >= 0) offer(Element::widen(line.input[share.edge]), share.edge);
}

/// The best class of a plain row or part, for all threads of the team, from what each was offered.
template <typename Team>
__device__ __forceinline__ Best best_of_plain(const Best& own) {
  __shared__ typename Team::template Scratch<Best> scratch;
  const Best best = Team::reduce(own, Best{}, scratch, BetterOf{});
  return best.score < kInfinity ? best : Best{kNan, 0};
}

/// The best class of a plain row, else `noisy`. From nothing that a thread would have to keep.
template <typename Element, int kVectors, typename Team>
__device__ __forceinline__ Best best_if_plain(const Problem& p, const Best& noisy) {
  const Row row = row_of(p.a.rows, Team::row_again());
  if (!math::without_noise(tau_of(p.a, row))) return noisy;
  const Line<Element> line(p.a, row);
  Best own;
  offer_plain<Element, kVectors>(line, {Team{}, line}, own);
  return best_of_plain<Team>(own);
}

/// By one thread.
__device__ __forceinline__ void write_choice(const KernelParams& a, int64_t row, const Best& best) {
  a.index[row] = best.index;
  if (a.row_value != nullptr) static_cast<float*>(a.row_value)[row] = best.score;
}

template <typename Element, int kVectors, typename Team, bool kDeviceKey>
__global__ void __launch_bounds__(Team::bound(kVectors* Element::kWidth))
    argmax_row_kernel(const __grid_constant__ Problem p) {
  const int64_t index = Team::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Share<Element, kVectors> share(Team{}, line);
  const RowKey<kDeviceKey> key(p, row);
  const Scaled scaling = {math::sampling_inverse(temperature(p, row).inverse), p.scaled};
  Best best = best_of_row<Element, kVectors, Team>(line, share, key, scaling);
  // A plain row comes out as undefined, soon, so that others need not ask.
  if (p.scaled && best.score != best.score) best = best_if_plain<Element, kVectors, Team>(p, best);
  if (Team::thread() == 0) write_choice(p.a, index, best);
}

/// The thread's vectors of a row become zeros or, where it is undefined, NaN.
template <typename Element, typename Share>
__device__ __forceinline__ void clear_share(const KernelParams& a, const Line<Element>& line,
                                            const Share& share, bool defined) {
  const int first = line.class_of(share.first);
  if (Element::kType != DType::kFloat32 && a.output_type == DType::kFloat32) {
    const uint32_t bits = defined ? 0 : 0x7FC00000;
    fill_share<2>(static_cast<float*>(line.output) + first, share, {{bits, bits, bits, bits}});
  } else {
    const uint32_t bits = defined ? 0 : Element::kUndefined;
    fill_share<1>(static_cast<typename Element::Storage*>(line.output) + first, share,
                  {{bits, bits, bits, bits}});
  }
}

/// The thread's part of a one-hot row. The 1 is written by the thread that cleared its place.
template <typename Element, typename Share>
__device__ __forceinline__ void write_one_hot(const KernelParams& a, const Line<Element>& line,
                                              const Share& share, const Best& best, bool defined) {
  clear_share(a, line, share, defined);
  if (share.edge >= 0)
    store_one<Element>(line.output, a.output_type, share.edge, defined ? 0.0f : kNan);
  const int past = best.index - line.head;
  const int vector = past / Element::kWidth - share.first;
  const bool inside = past >= 0 && past < line.vectors * Element::kWidth;
  const bool held =
      inside && vector >= 0 && vector < Share::kVectors * kWarpSize && vector % kWarpSize == 0;
  if (defined && (held || share.edge == best.index))
    store_one<Element>(line.output, a.output_type, best.index, 1.0f);
}

template <typename Element, int kVectors, typename Team, bool kDeviceKey>
__global__ void __launch_bounds__(Team::bound(kVectors* Element::kWidth))
    hard_row_kernel(const __grid_constant__ Problem p) {
  const int64_t index = Team::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Share<Element, kVectors> share(Team{}, line);
  const RowKey<kDeviceKey> key(p, row);
  const Best best = best_of_row<Element, kVectors, Team>(line, share, key, Unscaled{});
  const bool defined = best.score > -kInfinity && temperature(p, row).scale > 0;
  write_one_hot(p.a, line, share, best, defined);
}

}  // namespace torch_gumbel::cuda
