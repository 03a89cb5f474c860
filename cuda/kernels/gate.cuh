// SPDX-License-Identifier: Apache-2.0
// Gates: a vector of 16 bytes to a thread where all tensors are flat, else an element.
#pragma once

#include "../device/fast_noise.cuh"
#include "../device/gate_problem.h"
#include "../device/pack.cuh"
#include "generic_rows.cuh"

namespace torch_gumbel::cuda {

/// What a flat kernel computes. kStretched: soft. kKeep: hard or soft, with what is kept.
enum class GateKind { kSoft, kStretched, kHard, kKeep, kBackward, kRecompute };

// Elements one by one, by the formulas of the CPU.

__device__ __forceinline__ math::Sides<float, uint32_t> sides_at(math::Key key, uint64_t position,
                                                                 float) {
  const uint32_t word = math::key_word(key, position);
  if (!math::is_extended_gate(word)) return math::sides_of(word);
  return math::sides_of(word, math::key_word(key, position, math::Plane::kExtension));
}
__device__ __forceinline__ math::Sides<double, uint32_t> sides_at(math::Key key, uint64_t position,
                                                                  double) {
  return math::sides64_of(math::key_word(key, position),
                          math::key_word(key, position, math::Plane::kExtension));
}

template <typename T>
__device__ __forceinline__ math::Stretch<T> stretch_of(const GateParams& a) {
  return {static_cast<T>(a.lower), static_cast<T>(a.upper - a.lower)};
}

__device__ __forceinline__ bool is_half(DType type) {
  return type == DType::kFloat16 || type == DType::kBFloat16;
}

template <typename T>
__device__ __forceinline__ math::GateGradient<T> gradient_of(GateOp op, const GateParams& a,
                                                             const Row& row, double tau) {
  const T x = load_input<T>(a, row, 0), grad = load_grad<T>(a, row, 0);
  const T factor = math::gate_factor<T>(op, a, tau);
  if (op == GateOp::kRecompute) {
    const auto v = sides_at(key_of(a, row), static_cast<uint64_t>(row[Operand::kWord]), T{});
    return math::gate_gradient_of_score(x + math::logistic(v), grad, factor,
                                        math::exponent_scale<T>(tau));
  }
  return is_half(a.input_type) ? math::near_gate_gradient(x, grad, factor)
                               : math::gate_gradient(x, grad, factor, stretch_of<T>(a));
}

template <typename T>
__device__ __forceinline__ void gate_element(GateOp op, const GateParams& a, int64_t index) {
  const Row row = row_at(a.rows, index);
  const double tau = tau_of(a, row);
  if (op != GateOp::kSample) {
    const auto gradient = gradient_of<T>(op, a, row, tau);
    store_output(a, a.output, row, 0, gradient.logit);
    if (a.row_value != nullptr) static_cast<T*>(a.row_value)[index] = gradient.tau;
    return;
  }
  const auto v = sides_at(key_of(a, row), static_cast<uint64_t>(row[Operand::kWord]), T{});
  const auto settings = math::GateSettings<T>::of(a, tau);
  const auto value = math::gate_value(load_input<T>(a, row, 0), v, settings);
  store_output(a, a.output, row, 0, value.output);
  if (a.one_hot != nullptr) store_output(a, a.one_hot, row, 0, value.kept);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    gate_generic_kernel(const __grid_constant__ GateProblem p, const __grid_constant__ GateOp op) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < p.a.rows.count; i += stride)
    gate_element<T>(op, p.a, i);
}

// Vectors, by the GPU's own exponential, logarithm, and reciprocal. Vectors with a word that is
// extended, or a hard gate that a rounding could decide, are taken again by the formulas above.

/// The temperature and the limits of all elements.
struct FastGate {
  float slope, factor, shift;  // -log2(e) / tau; of gradients; hard: taken from the logits
  math::Stretch<float> stretch;

  __device__ __forceinline__ FastGate(GateOp op, const GateParams& a)
      : stretch(stretch_of<float>(a)) {
    const double tau = tau_of(a, Row{});
    slope = -math::exponent_scale<float>(tau).high;
    factor = math::gate_factor<float>(op, a, tau);
    shift = math::GateSettings<float>::shift_of(a.threshold, tau);
  }
};

/// logit + L
__device__ __forceinline__ float fast_gate_score(float logit,
                                                 const math::Sides<float, uint32_t>& v) {
  const float noise = math::flip_sign(log2_fast(v.near) - log2_fast(v.far), v.upper);
  return math::fma(noise, -kMinusLn2, logit);
}

/// (1 - y) / y of a score
__device__ __forceinline__ float fast_odds(float score, float slope) {
  return exp2_fast(score * slope);
}

/// y of these.
__device__ __forceinline__ float fast_share(float odds) { return reciprocal_fast(1.0f + odds); }

/// math::clamped_gate; NaN stays NaN.
__device__ __forceinline__ float clamped(float y, math::Stretch<float> stretch) {
  return min_or_nan(1.0f, max_or_nan(0.0f, math::fma(y, stretch.width, stretch.lower)));
}

/// What decides whether a vector's values are those of the formulas: the words' distance from both
/// ends, and the hard gates' from their decision, NaN of a NaN.
struct Closest {
  float word = 1.0f, decision = 1.0f;

  /// Distances of words that are extended are smaller, and so are those of what a rounding decides.
  __device__ __forceinline__ bool exact() const {
    return word >= math::kExtendBelow * 0x1p-32f && decision >= 0x1p-16f;
  }
};

/// math::hard_gate, but for what a rounding decides, and for NaN.
__device__ __forceinline__ float fast_hard_gate(float logit, const math::Sides<float, uint32_t>& v,
                                                Closest& closest) {
  constexpr float kLog2E = 0x1.715476p+0f;
  const float odds = exp2_fast(math::flip_sign(logit, v.upper) * kLog2E);
  // In the lower half positive where the gate is open, in the upper half where it is not.
  const float sign = math::fma(v.near, odds, -v.far);
  closest.decision = min_or_nan(closest.decision, fabsf(sign));
  return math::select_sign(math::bits_of(sign) ^ v.upper, 0.0f, 1.0f);
}

/// The same of half types: y, and y or y - 1.
__device__ __forceinline__ math::NearGate<float> fast_near_gate(float score, float slope) {
  const float odds = fast_odds(fabsf(score), slope), near = odds * fast_share(odds);
  const float kept = math::select_negative(score, near, -near);
  return {math::select_negative(score, near, 1.0f - near), kept};
}

/// A gate, and what is kept of it in kKeep.
template <GateKind kKind, bool kHalf>
__device__ __forceinline__ math::GateValue<float> fast_value(const GateParams& a,
                                                             const FastGate& gate, float logit,
                                                             uint32_t word, Closest& closest) {
  const auto v = math::sides_of(word);
  closest.word = min_number(closest.word, v.near);
  math::GateValue<float> value = {0.0f, 0.0f};
  if (kKind != GateKind::kHard) {
    const float score = fast_gate_score(logit, v);
    if (kKind == GateKind::kKeep && kHalf) {
      const auto near = fast_near_gate(score, gate.slope);
      value = {clamped(near.y, gate.stretch), near.kept};
      value.kept = math::zero_if_clamped(near.y, gate.stretch, near.kept);
    } else {
      const float y = fast_share(fast_odds(score, gate.slope));
      value.output = kKind == GateKind::kSoft ? y : clamped(y, gate.stretch);
      value.kept = value.output;
    }
  }
  if (kKind == GateKind::kHard || (kKind == GateKind::kKeep && a.hard))
    value.output = fast_hard_gate(logit - gate.shift, v, closest);
  return value;
}

/// `block`: of its first word.
template <typename Element, GateKind kKind, typename Key>
__device__ __forceinline__ void sample_vector(const GateParams& a, const FastGate& gate,
                                              const Key& keys, uint64_t block, int64_t vector) {
  constexpr int kWidth = Element::kWidth;
  const int64_t first = vector * kWidth, bytes = vector * 16;
  float x[kWidth], kept[kWidth];
  Element::unpack(load_128(static_cast<const char*>(a.input) + bytes), x);
  Closest closest;
#pragma unroll
  for (int i = 0; i < kWidth; i += 4) {
    const math::Block words =
        math::philox4x32(math::counter_block(block + static_cast<uint64_t>(i / 4)), keys);
#pragma unroll
    for (int j = i; j < i + 4; ++j) {
      const auto value = fast_value<kKind, kWidth == 8>(a, gate, x[j], words.word[j - i], closest);
      x[j] = value.output, kept[j] = value.kept;
    }
  }
  store_128(static_cast<char*>(a.output) + bytes, Element::pack(x));
  if (kKind == GateKind::kKeep)
    store_128(static_cast<char*>(a.one_hot) + bytes, Element::pack(kept));
  if (closest.exact()) return;
#pragma unroll 1
  for (int j = 0; j < kWidth; ++j) gate_element<float>(GateOp::kSample, a, first + j);
}

/// A gradient made from the noise again; `score`: logit + L.
__device__ __forceinline__ math::GateGradient<float> fast_gradient(float score, float grad,
                                                                   const FastGate& gate) {
  const float odds = fast_odds(fabsf(score), gate.slope), share = fast_share(odds);
  const float slope = odds * share * share, logit = grad * (slope * gate.factor);
  return {logit, slope == 0.0f ? 0.0f : -logit * (score * gate.factor)};
}

template <typename Element, GateKind kKind, typename Key>
__device__ __forceinline__ void differentiate_vector(const GateParams& a, const FastGate& gate,
                                                     const Key& keys, uint64_t block,
                                                     int64_t vector) {
  constexpr int kWidth = Element::kWidth;
  const int64_t first = vector * kWidth, bytes = vector * 16;
  float x[kWidth], grad[kWidth], at_tau[kWidth];
  Element::unpack(load_128(static_cast<const char*>(a.input) + bytes), x);
  Element::unpack(load_128(static_cast<const char*>(a.grad) + bytes), grad);
#pragma unroll
  for (int i = 0; i < kWidth; i += 4) {
    math::Block words = {};
    if (kKind == GateKind::kRecompute)
      words = math::philox4x32(math::counter_block(block + static_cast<uint64_t>(i / 4)), keys);
#pragma unroll
    for (int j = i; j < i + 4; ++j) {
      math::GateGradient<float> gradient;
      if (kKind == GateKind::kRecompute) {
        const uint32_t word = words.word[j - i];
        auto v = math::sides_of(word);
        if (math::is_extended_gate(word))
          v = sides_at(key_of(a, Row{}), a.rows.first_word + static_cast<uint64_t>(first + j),
                       0.0f);
        gradient = fast_gradient(fast_gate_score(x[j], v), grad[j], gate);
      } else {
        gradient = kWidth == 8 ? math::near_gate_gradient(x[j], grad[j], gate.factor)
                               : math::gate_gradient(x[j], grad[j], gate.factor, gate.stretch);
      }
      x[j] = gradient.logit, at_tau[j] = gradient.tau;
    }
  }
  store_128(static_cast<char*>(a.output) + bytes, Element::pack(x));
  if (a.row_value == nullptr) return;
#pragma unroll
  for (int i = 0; i < kWidth; i += 4)
    store_128(static_cast<float*>(a.row_value) + first + i, Float32::pack(at_tau + i));
}

template <typename Element, GateKind kKind, typename Key>
__device__ __forceinline__ void run_vectors(const GateProblem& p, const Key& keys,
                                            uint64_t offset) {
  constexpr bool kSamples = kKind != GateKind::kBackward && kKind != GateKind::kRecompute;
  constexpr auto kOp = kSamples                        ? GateOp::kSample
                       : kKind == GateKind::kRecompute ? GateOp::kRecompute
                                                       : GateOp::kBackward;
  const FastGate gate(kOp, p.a);
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const uint64_t first_block = offset + p.a.rows.first_word / 4;  // a whole number: gate.cu
  for (int64_t i = thread; i < p.vectors; i += stride) {
    const uint64_t block = first_block + static_cast<uint64_t>(i) * (Element::kWidth / 4);
    if constexpr (kSamples)
      sample_vector<Element, kKind>(p.a, gate, keys, block, i);
    else
      differentiate_vector<Element, kKind>(p.a, gate, keys, block, i);
  }
  const int64_t rest = p.vectors * Element::kWidth + thread;
  if (rest < p.a.rows.count) gate_element<float>(kOp, p.a, rest);
}

template <typename Element, GateKind kKind>
__global__ void __launch_bounds__(kThreads, 2) gate_kernel(const __grid_constant__ GateProblem p) {
  if (kKind == GateKind::kBackward || p.a.key == nullptr)
    return run_vectors<Element, kKind>(p, p.keys, p.a.host_key.offset);
  const math::RoundKeys<> keys = math::round_keys(p.a.key[0]);
  run_vectors<Element, kKind>(p, keys, p.a.key[1]);
}

}  // namespace torch_gumbel::cuda
