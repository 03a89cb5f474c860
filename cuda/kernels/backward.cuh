// SPDX-License-Identifier: Apache-2.0
// Gradients of rows held in registers: y (grad - sum_k y_k grad_k) / tau at the logits, and
// -sum_k of that times log y_k at tau.
#pragma once

#include "soft.cuh"

namespace torch_gumbel::cuda {

/// From a class's weight and incoming gradient to the gradient at its logit. One multiply-add and
/// one product suffice if the factor cannot overflow; else the difference is computed first.
struct Differentiate {
  float norm;     // y = weight norm
  float dot;      // sum_k y_k grad_k
  float inverse;  // 1 / tau

  __device__ __forceinline__ bool direct() const {
    return inverse * norm < 0x1p40f && inverse * norm > 0x1p-40f;
  }
  __device__ __forceinline__ float fast(float weight, float grad) const {
    const float factor = inverse * norm;
    return weight * math::fma(grad, factor, -dot * factor);
  }
  __device__ __forceinline__ float careful(float weight, float grad) const {
    return weight * norm * (grad - dot) * inverse;
  }
};

/// -gradient log y; 0 log 0 = 0, also where y is so small that log2_fast() would take it for 0, and
/// NaN stays NaN.
__device__ __forceinline__ float tau_term(float gradient, float y) {
  return fabsf(y) < 0x1p-126f ? 0.0f : gradient * (log2_fast(y) * kMinusLn2);
}

/// Weights become gradients; returns the thread's terms of the gradient at tau if requested.
template <int kCount>
__device__ __forceinline__ float differentiate_all(const Differentiate& by,
                                                   const float (&grad)[kCount], bool want_tau,
                                                   float (&y)[kCount]) {
  float at_tau = 0;
  if (want_tau) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float gradient = by.careful(y[i], grad[i]);
      at_tau += tau_term(gradient, y[i] * by.norm);
      y[i] = gradient;
    }
  } else if (by.direct()) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) y[i] = by.fast(y[i], grad[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) y[i] = by.careful(y[i], grad[i]);
  }
  return at_tau;
}

/// A thread's incoming gradients, which are `Element`s or float32; 0 where it has no class.
template <typename Element, int kVectors>
struct Gradients {
  using Vectors = Fragment<Element, kVectors>;

  float of[Vectors::kClasses];
  float head_tail;

  __device__ __forceinline__ void load(const KernelParams& a, const AlignedRow<Element>& aligned,
                                       const Vectors& fragment) {
    if (Element::kType != DType::kFloat32 && a.grad_type == DType::kFloat32)
      load_wide(aligned, fragment);
    else
      load_same(aligned, fragment);
    head_tail = fragment.head_tail >= 0
                    ? load_one<Element>(aligned.grad, a.grad_type, fragment.head_tail)
                    : 0.0f;
  }

 private:
  __device__ __forceinline__ void load_same(const AlignedRow<Element>& aligned,
                                            const Vectors& fragment) {
    Bits128 raw[kVectors];
    load_fragment<Element>(aligned.grad, aligned.head, fragment, 0, raw);
#pragma unroll
    for (int i = 0; i < kVectors; ++i) Element::unpack(raw[i], of + i * Element::kWidth);
  }
  /// float32 beside halves: two accesses for each vector.
  __device__ __forceinline__ void load_wide(const AlignedRow<Element>& aligned,
                                            const Vectors& fragment) {
    const float* from = static_cast<const float*>(aligned.grad) + aligned.class_of(fragment.first);
    unrolled<kVectors>([&](auto i) {
      constexpr int kAt = i.value * kWarpSize * 32;
      Bits128 raw[2] = {};
      if (fragment.holds(i.value)) raw[0] = load_128<kAt>(from), raw[1] = load_128<kAt + 16>(from);
      Float32::unpack(raw[0], of + i.value * Vectors::kWidth);
      Float32::unpack(raw[1], of + i.value * Vectors::kWidth + Vectors::kWidth / 2);
    });
  }
};

/// Writes the gradients of a row from its weights: the second half of both kernels. Weight and
/// incoming gradient of the class in the head or tail are `head_tail_y` and `grad.head_tail`.
template <typename Element, int kVectors, typename ThreadGroup>
__device__ __forceinline__ void write_gradients(const Problem& p,
                                                const AlignedRow<Element>& aligned,
                                                const Fragment<Element, kVectors>& fragment,
                                                int64_t index, const Differentiate& by,
                                                const Gradients<Element, kVectors>& grad,
                                                float head_tail_y,
                                                float (&y)[kVectors * Element::kWidth]) {
  __shared__ typename ThreadGroup::template Scratch<float> tau_scratch;
  const bool want_tau = p.a.row_value != nullptr;
  float at_tau = differentiate_all(by, grad.of, want_tau, y);
  store_fragment(p.a, aligned, fragment, y);
  if (fragment.head_tail >= 0) {
    const float gradient = by.careful(head_tail_y, grad.head_tail);
    at_tau += tau_term(gradient, head_tail_y * by.norm);
    store_one<Element>(aligned.output, p.a.output_type, fragment.head_tail, gradient);
  }
  if (!want_tau) return;
  const float total = ThreadGroup::reduce(at_tau, 0.0f, tau_scratch, Sum{});
  if (ThreadGroup::thread() == 0) static_cast<float*>(p.a.row_value)[index] = total;
}

template <int kCount>
__device__ __forceinline__ float dot_of(const float (&x)[kCount], const float (&y)[kCount],
                                        float start) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) start = math::fma(x[i], y[i], start);
  return start;
}

template <typename Element, int kVectors, typename ThreadGroup>
__global__ void __launch_bounds__(ThreadGroup::bound(2 * kVectors * Element::kWidth))
    backward_row_kernel(const __grid_constant__ Problem p) {
  __shared__ typename ThreadGroup::template Scratch<float> dot_scratch;
  const int64_t index = ThreadGroup::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const Fragment<Element, kVectors> fragment(ThreadGroup{}, aligned);
  Bits128 raw[kVectors];
  load_fragment<Element>(aligned.input, aligned.head, fragment, 0, raw);
  Gradients<Element, kVectors> grad;
  grad.load(p.a, aligned, fragment);
  float y[kVectors * Element::kWidth];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) Element::unpack_to_keep(raw[i], y + i * Element::kWidth);
  const float head_tail_y =
      fragment.head_tail >= 0 ? Element::widen(aligned.input[fragment.head_tail]) : 0.0f;
  const float own = dot_of(y, grad.of, head_tail_y * grad.head_tail);
  const float dot = ThreadGroup::reduce(own, 0.0f, dot_scratch, Sum{});
  write_gradients<Element, kVectors, ThreadGroup>(
      p, aligned, fragment, index, {1.0f, dot, temperature(p, row).inverse}, grad, head_tail_y, y);
}

/// With y recomputed from the logits and the key.
template <typename Element, int kVectors, typename ThreadGroup, bool kDeviceKey>
__global__ void __launch_bounds__(ThreadGroup::bound(2 * kVectors * Element::kWidth))
    hard_backward_row_kernel(const __grid_constant__ Problem p) {
  __shared__ typename ThreadGroup::template Scratch<float> max_scratch, sum_scratch, dot_scratch;
  const int64_t index = ThreadGroup::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  const AlignedRow<Element> aligned(p.a, row);
  const Fragment<Element, kVectors> fragment(ThreadGroup{}, aligned);
  const RowKey<kDeviceKey> key(p, row);
  Gradients<Element, kVectors> grad;
  grad.load(p.a, aligned, fragment);
  Scores<Element, kVectors> scores;
  scores.load(aligned, fragment, key, Unscaled{});
  const float top =
      ThreadGroup::reduce(scores.max(MaxNumber{}), -kInfinity, max_scratch, MaxNumber{});
  const Temperature tau = temperature(p, row);
  const Weigh weigh(top, tau.scale);
  scores.head_tail = weigh(scores.head_tail);
  const float own = weigh_all(weigh, scores.of) + scores.head_tail;
  const float own_dot = dot_of(scores.of, grad.of, scores.head_tail * grad.head_tail);
  const float sum = ThreadGroup::reduce(own, 0.0f, sum_scratch, Sum{});
  const float dot = ThreadGroup::reduce(own_dot, 0.0f, dot_scratch, Sum{});
  const float inverse = 1.0f / sum;
  write_gradients<Element, kVectors, ThreadGroup>(p, aligned, fragment, index,
                                                  {inverse, dot * inverse, tau.inverse}, grad,
                                                  scores.head_tail, scores.of);
}

}  // namespace torch_gumbel::cuda
