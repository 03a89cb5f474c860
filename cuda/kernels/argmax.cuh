// SPDX-License-Identifier: Apache-2.0
// The best class of a row: the first one of the largest exact score.
#pragma once

#include "../device/row_scores.cuh"

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
__device__ __forceinline__ void offer_vector(const AlignedRow<Element>& aligned, const Key& key,
                                             const Scaling& scaling, int vector, float threshold,
                                             Best& best) {
  math::Block words;
#pragma unroll 1
  for (int j = 0; j < Element::kWidth; ++j) {
    const int at = aligned.class_of(vector) + j;
    const uint64_t position = aligned.word + static_cast<uint64_t>(at);
    if (j % 4 == 0) words = key.words(math::counter_block(key.offset() + position / 4));
    const uint32_t word = word_of(words, static_cast<unsigned>(j));
    const float x = scaling(Element::widen(aligned.input[at]));
    if (fast_score<kFor>(x, word, reflected_bits(word)) >= threshold || word < math::kExtendBelow)
      best.offer(x + exact_noise(key, position, word), at);
  }
}

/// The largest fast scores: of a row, NaN if one is, and of each of a thread's vectors.
template <int kVectors>
struct Tops {
  float row;
  float of[kVectors];

  template <typename ThreadGroup, typename Scores>
  __device__ __forceinline__ Tops(const ThreadGroup&, const Scores& scores) {
    __shared__ typename ThreadGroup::template Scratch<float> scratch;
    row = scores.head_tail;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      of[i] = scores.max_of_vector(MaxOrNan{}, i);
      row = max_or_nan(row, of[i]);
    }
    row = ThreadGroup::reduce(row, -kInfinity, scratch, MaxOrNan{});
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
__device__ __forceinline__ void offer_candidates(const AlignedRow<Element>& aligned,
                                                 const Fragment<Element, kVectors>& fragment,
                                                 const Key& key, const Scaling& scaling,
                                                 uint32_t candidates, float threshold, Best& best) {
  for (; candidates != 0; candidates &= candidates - 1) {
    const int i = __ffs(static_cast<int>(candidates)) - 1;
    offer_vector<kFor>(aligned, key, scaling, fragment.vector(i), threshold, best);
  }
}

/// Best class of a row held in registers, for all threads of the group. NaN or -inf as its score,
/// and 0 as its index, if the row is undefined.
template <typename Element, int kVectors, typename ThreadGroup, typename Key, typename Scaling>
__device__ __forceinline__ Best best_of_row(const AlignedRow<Element>& aligned,
                                            const Fragment<Element, kVectors>& fragment,
                                            const Key& key, const Scaling& scaling) {
  __shared__ typename ThreadGroup::template Scratch<Best> scratch;
  Scores<Element, kVectors, Scoring::kFilter> scores;
  scores.load(aligned, fragment, key, scaling);
  const Tops<kVectors> top(ThreadGroup{}, scores);
  if (!(top.row < kInfinity)) return {kNan, 0};
  if (top.row == -kInfinity) return {};
  const float threshold = filter_threshold(top.row);
  Best best;
  if (scores.head_tail >= threshold)
    best.offer(exact_score(aligned, key, scaling, fragment.head_tail), fragment.head_tail);
  offer_candidates<Scoring::kFilter>(aligned, fragment, key, scaling, top.candidates(threshold),
                                     threshold, best);
  return ThreadGroup::reduce(best, Best{}, scratch, BetterOf{});
}

/// Whether a row of an argmax is greedy: without noise, because its temperature is 0. The
/// temperature is read again only where it has no inverse.
__device__ __forceinline__ bool is_greedy(const Problem& p, const Row& row, float inverse) {
  return p.scaled && inverse != inverse && math::without_noise(tau_of(p.a, row));
}

/// Offers the classes that a thread holds of a greedy row, +inf for a logit that makes it
/// undefined.
template <typename Element, int kVectors>
__device__ __forceinline__ void offer_greedy(const AlignedRow<Element>& aligned,
                                             const Fragment<Element, kVectors>& fragment,
                                             Best& best) {
  const auto offer = [&](float logit, int at) {
    best.offer(logit < kInfinity ? logit : kInfinity, at);
  };
#pragma unroll 1
  for (int i = 0; i < kVectors && fragment.holds(i); ++i) {
    const int at = aligned.class_of(fragment.vector(i));
    float x[Element::kWidth];
    Element::unpack(load_elements<Element>(aligned.input + at), x);
#pragma unroll
    for (int j = 0; j < Element::kWidth; ++j) offer(x[j], at + j);
  }
  if (fragment.head_tail >= 0)
    offer(Element::widen(aligned.input[fragment.head_tail]), fragment.head_tail);
}

/// The best class of a greedy row or range, for all threads of the group, from the best of each.
template <typename ThreadGroup>
__device__ __forceinline__ Best best_of_greedy(const Best& own) {
  __shared__ typename ThreadGroup::template Scratch<Best> scratch;
  const Best best = ThreadGroup::reduce(own, Best{}, scratch, BetterOf{});
  return best.score < kInfinity ? best : Best{kNan, 0};
}

/// The best class of a greedy row, else `noisy`. Reads everything again, so that threads keep no
/// registers for it.
template <typename Element, int kVectors, typename ThreadGroup>
__device__ __forceinline__ Best best_if_greedy(const Problem& p, const Best& noisy) {
  const Row row = row_of(p.a.rows, ThreadGroup::row_again());
  if (!math::without_noise(tau_of(p.a, row))) return noisy;
  const AlignedRow<Element> aligned(p.a, row);
  Best own;
  offer_greedy<Element, kVectors>(aligned, {ThreadGroup{}, aligned}, own);
  return best_of_greedy<ThreadGroup>(own);
}

/// By one thread.
__device__ __forceinline__ void write_argmax(const KernelParams& a, int64_t row, const Best& best) {
  a.index[row] = best.index;
  if (a.row_value != nullptr) static_cast<float*>(a.row_value)[row] = best.score;
}

template <typename Element, int kVectors, typename ThreadGroup, bool kDeviceKey>
__global__ void __launch_bounds__(ThreadGroup::bound(kVectors* Element::kWidth))
    argmax_row_kernel(const __grid_constant__ Problem p) {
  const int64_t index = ThreadGroup::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const Fragment<Element, kVectors> fragment(ThreadGroup{}, aligned);
  const RowKey<kDeviceKey> key(p, row);
  const Scaled scaling = {math::sampling_inverse(temperature(p, row).inverse), p.scaled};
  Best best = best_of_row<Element, kVectors, ThreadGroup>(aligned, fragment, key, scaling);
  // A greedy row comes out as undefined, so that no other row checks its temperature.
  if (p.scaled && best.score != best.score)
    best = best_if_greedy<Element, kVectors, ThreadGroup>(p, best);
  if (ThreadGroup::thread() == 0) write_argmax(p.a, index, best);
}

/// The thread's vectors of a row become zeros or, where it is undefined, NaN.
template <typename Element, typename Fragment>
__device__ __forceinline__ void clear_fragment(const KernelParams& a,
                                               const AlignedRow<Element>& aligned,
                                               const Fragment& fragment, bool defined) {
  const int first = aligned.class_of(fragment.first);
  if (Element::kType != DType::kFloat32 && a.output_type == DType::kFloat32) {
    const uint32_t bits = defined ? 0 : 0x7FC00000;
    fill_fragment<2>(static_cast<float*>(aligned.output) + first, fragment,
                     {{bits, bits, bits, bits}});
  } else {
    const uint32_t bits = defined ? 0 : Element::kUndefined;
    fill_fragment<1>(static_cast<typename Element::Storage*>(aligned.output) + first, fragment,
                     {{bits, bits, bits, bits}});
  }
}

/// The thread's fragment of a one-hot row. The 1 is written by the thread that cleared its element.
template <typename Element, typename Fragment>
__device__ __forceinline__ void write_one_hot(const KernelParams& a,
                                              const AlignedRow<Element>& aligned,
                                              const Fragment& fragment, const Best& best,
                                              bool defined) {
  clear_fragment(a, aligned, fragment, defined);
  if (fragment.head_tail >= 0)
    store_one<Element>(aligned.output, a.output_type, fragment.head_tail, defined ? 0.0f : kNan);
  const int past = best.index - aligned.head;
  const int vector = past / Element::kWidth - fragment.first;
  const bool inside = past >= 0 && past < aligned.vectors * Element::kWidth;
  const bool holds =
      inside && vector >= 0 && vector < Fragment::kVectors * kWarpSize && vector % kWarpSize == 0;
  if (defined && (holds || fragment.head_tail == best.index))
    store_one<Element>(aligned.output, a.output_type, best.index, 1.0f);
}

template <typename Element, int kVectors, typename ThreadGroup, bool kDeviceKey>
__global__ void __launch_bounds__(ThreadGroup::bound(kVectors* Element::kWidth))
    hard_row_kernel(const __grid_constant__ Problem p) {
  const int64_t index = ThreadGroup::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const Fragment<Element, kVectors> fragment(ThreadGroup{}, aligned);
  const RowKey<kDeviceKey> key(p, row);
  const Best best = best_of_row<Element, kVectors, ThreadGroup>(aligned, fragment, key, Unscaled{});
  const bool defined = best.score > -kInfinity && temperature(p, row).scale > 0;
  write_one_hot(p.a, aligned, fragment, best, defined);
}

}  // namespace torch_gumbel::cuda
