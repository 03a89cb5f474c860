// SPDX-License-Identifier: Apache-2.0
// Soft sample y = softmax((logits + noise) / tau) of rows held in registers.
#pragma once

#include "../device/row_scores.cuh"

namespace torch_gumbel::cuda {

/// Weights exp((score - top) / tau), up to a factor common to all classes of a row. One
/// multiply-add suffices if the product of top and scale is small: its rounding is such a factor.
/// If it is large, NaN, or infinite, the difference comes first, which is exact at the top.
struct Weigh {
  float top;
  float scale;
  float offset;
  bool direct;

  __device__ __forceinline__ Weigh(float largest, float of_temperature) {
    top = max_number(largest, kLowest);
    scale = of_temperature;
    offset = top * scale;
    direct = offset < 0x1p16f && offset > -0x1p16f;
  }
  __device__ __forceinline__ float fast(float score) const {
    return exp2_fast(math::fma(score, scale, -offset));
  }
  __device__ __forceinline__ float careful(float score) const {
    return exp2_fast((score - top) * scale);
  }
  __device__ __forceinline__ float operator()(float score) const {
    return direct ? fast(score) : careful(score);
  }
};

/// Scores become weights; returns their sum. NaN if a score is NaN or +inf, 0 if all are -inf.
template <int kCount>
__device__ __forceinline__ float weigh_all(const Weigh& weigh, float (&of)[kCount]) {
  float sum = 0;
  if (weigh.direct) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += of[i] = weigh.fast(of[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += of[i] = weigh.careful(of[i]);
  }
  return sum;
}

/// log sum_k exp(score_k / tau) from fast scores' weights; NaN stays NaN, -inf for a row of -inf.
__device__ __forceinline__ float log_sum_exp(const Weigh& weigh, float sum, double tau) {
  constexpr double kLn2 = 6.93147180559945309417e-01;
  const double inverse = math::inverse_temperature<double>(tau);
  const double top = weigh.direct ? weigh.offset * kLn2 : weigh.top * inverse;
  const double log = top + static_cast<double>(math::log_probability(sum));
  return sum == 0 ? -kInfinity : static_cast<float>(log);
}

/// The thread's samples from its weights.
template <typename Element, int kVectors>
__device__ __forceinline__ void write_samples(const KernelParams& a,
                                              const AlignedRow<Element>& aligned,
                                              const Fragment<Element, kVectors>& fragment,
                                              float sum, Scores<Element, kVectors>& weights) {
  const float inverse = 1.0f / sum;
#pragma unroll
  for (float& value : weights.of) value *= inverse;
  store_fragment(a, aligned, fragment, weights.of);
  if (fragment.head_tail >= 0)
    store_one<Element>(aligned.output, a.output_type, fragment.head_tail,
                       weights.head_tail * inverse);
}

/// After the last reduction: a row's samples and, if requested, its log-sum-exp.
template <typename Element, int kVectors, typename ThreadGroup>
__device__ __forceinline__ void write_soft(const Problem& p, int64_t index,
                                           Scores<Element, kVectors>& scores, const Weigh& weigh,
                                           float sum) {
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const Fragment<Element, kVectors> fragment(ThreadGroup{}, aligned);
  write_samples(p.a, aligned, fragment, sum, scores);
  if (p.a.row_value != nullptr && ThreadGroup::thread() == 0)
    static_cast<float*>(p.a.row_value)[index] = log_sum_exp(weigh, sum, tau_of(p.a, row));
}

template <typename Element, int kVectors, typename ThreadGroup, bool kDeviceKey>
__global__ void __launch_bounds__(ThreadGroup::bound(kVectors* Element::kWidth))
    soft_row_kernel(const __grid_constant__ Problem p) {
  __shared__ typename ThreadGroup::template Scratch<float> max_scratch, sum_scratch;
  const int64_t index = ThreadGroup::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  // With 64 classes in registers none are free for the row's addresses, and hardly for the rest:
  // ptxas spills none in this order.
  constexpr bool kFull = kVectors * Element::kWidth > 32;
  float scale = kFull ? temperature(p, row).scale : 0.0f;
  Scores<Element, kVectors> scores;
  {
    const AlignedRow<Element> aligned(p.a, row);
    const Fragment<Element, kVectors> fragment(ThreadGroup{}, aligned);
    const RowKey<kDeviceKey> key(p, row);
    constexpr bool kHeadTailFirst = kFull && (Element::kWidth == 8 || !kDeviceKey);
    scores.template load<kHeadTailFirst>(aligned, fragment, key, Unscaled{});
  }
  const float top =
      ThreadGroup::reduce(scores.max(MaxNumber{}), -kInfinity, max_scratch, MaxNumber{});
  if (!kFull) scale = temperature(p, row).scale;
  const Weigh weigh(top, scale);
  scores.head_tail = weigh(scores.head_tail);
  const float own = weigh_all(weigh, scores.of) + scores.head_tail;
  const float sum = ThreadGroup::reduce(own, 0.0f, sum_scratch, Sum{});
  const int64_t again = kFull ? ThreadGroup::row_again() : index;
  write_soft<Element, kVectors, ThreadGroup>(p, again, scores, weigh, sum);
}

}  // namespace torch_gumbel::cuda
