// SPDX-License-Identifier: Apache-2.0
// Gradients of gates, and the ops on a range of elements.
#pragma once

#include "gate_sample.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Gradients of a tile, to memory: of(i, d loss / d gate, factor) for each element.
template <typename T, typename Of>
TG_STAGE void store_gate_gradients(const GateTile& tile, GateOp op, Of&& of) {
  alignas(64) T grad_buffer[kTile], gradients[kTile];
  const T* grad = tile.values_of_row(tile.group.grad, grad_buffer);
  T* to = tile.place_of(tile.group.output, gradients);
  auto* at_tau = static_cast<T*>(tile.a.row_value);
  if (!tile.group.uniform_tau() || at_tau != nullptr) {
    for (int64_t i = 0; i < tile.count; ++i) {
      const auto gradient = of(i, grad[i], math::gate_factor<T>(op, tile.a, tile.group.tau_of(i)));
      to[i] = gradient.logit;
      if (at_tau != nullptr) at_tau[tile.group.index + i] = gradient.tau;
    }
  } else {
    const T factor = math::gate_factor<T>(op, tile.a, tile.group.tau);
    for (int64_t i = 0; i < tile.count; ++i) to[i] = of(i, grad[i], factor).logit;
  }
  tile.store_row(to, tile.group.output);
}

template <typename T>
static void differentiate_gates(const GateTile& tile) {
  alignas(64) T buffer[kTile];
  const T* kept = tile.values_of_row(tile.group.input, buffer);
  if (element_size(tile.a.input_type) == 2)
    return store_gate_gradients<T>(tile, GateOp::kBackward,
                                   [=](int64_t i, T grad, T factor) TG_INLINE {
                                     return math::near_gate_gradient(kept[i], grad, factor);
                                   });
  const math::Stretch<T> stretch = {static_cast<T>(tile.a.lower),
                                    static_cast<T>(tile.a.upper - tile.a.lower)};
  store_gate_gradients<T>(tile, GateOp::kBackward, [=](int64_t i, T grad, T factor) TG_INLINE {
    return math::gate_gradient(kept[i], grad, factor, stretch);
  });
}

/// The scores of a tile, logits + noise.
static void gate_scores(const GateTile& tile, const uint32_t* words, const float* logits,
                        float* scores) {
  for_each_vec<float>(0, tile.count, [&](auto at) TG_INLINE {
    at.store(at.load(logits) + math::logistic(math::sides_of(at.load(words))), scores);
  });
  if (!any_extended_gate(words, tile.count)) return;
  for (int64_t i = 0; i < tile.count; ++i)
    if (math::is_extended_gate(words[i]))
      scores[i] = logits[i] + math::logistic(math::sides_of(words[i], tile.extension(i)));
}
static void gate_scores(const GateTile& tile, const uint32_t* words, const double* logits,
                        double* scores) {
  for (int64_t i = 0; i < tile.count; ++i)
    scores[i] = logits[i] + math::logistic(math::sides64_of(words[i], tile.extension(i)));
}

template <typename T>
static void differentiate_gates_again(const GateTile& tile) {
  alignas(64) T buffer[kTile], scores[kTile];
  const GateWords words(tile);
  gate_scores(tile, words.get(), tile.values_of_row(tile.group.input, buffer), scores);
  if (tile.group.uniform_tau()) {
    const auto scale = math::exponent_scale<T>(tile.group.tau);
    return store_gate_gradients<T>(
        tile, GateOp::kRecompute, [&](int64_t i, T grad, T factor) TG_INLINE {
          return math::gate_gradient_of_score(scores[i], grad, factor, scale);
        });
  }
  store_gate_gradients<T>(tile, GateOp::kRecompute, [&](int64_t i, T grad, T factor) TG_INLINE {
    const auto scale = math::exponent_scale<T>(tile.group.tau_of(i));
    return math::gate_gradient_of_score(scores[i], grad, factor, scale);
  });
}

template <typename T>
static void run_gates(GateOp op, const GateParams& a, int64_t begin, int64_t end) {
  for_each_group(a, begin, end, kTile, [&](const Group& group) {
    const GateTile tile(a, group);
    switch (op) {
      case GateOp::kSample:
        return sample_gates(tile, T{});
      case GateOp::kBackward:
        return differentiate_gates<T>(tile);
      case GateOp::kRecompute:
        return differentiate_gates_again<T>(tile);
    }
  });
  if (a.nontemporal) fence_nontemporal();
}

}  // namespace torch_gumbel::cpu::TG_ISA
