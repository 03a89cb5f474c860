// SPDX-License-Identifier: Apache-2.0
// The private ops of gates for a backend: allocate the results, make the kernel's parameters, run
// the kernel. A backend gives
//     static void run(GateOp op, GateParams params, const at::Tensor& on);
#pragma once

#include <cmath>
#include <vector>

#include "../math/gate.h"
#include "backend.h"

namespace torch_gumbel::ops {

template <typename Backend>
struct GateOps {
  using Shape = at::OptionalIntArrayRef;

  static Tensor sample(const Tensor& logits, const Tensor& tau, const Tensor& key, bool hard,
                       double threshold, double lower, double upper, Shape full_shape,
                       Shape start) {
    const Tensor output = empty_like_shape(logits, logits.scalar_type());
    run_sample("_gumbel_gate", drawn(logits, tau, key), output, {}, {hard, threshold, lower, upper},
               full_shape, start);
    return output;
  }

  static TensorPair sample_and_keep(const Tensor& logits, const Tensor& tau, const Tensor& key,
                                    bool hard, double threshold, double lower, double upper,
                                    Shape full_shape, Shape start) {
    const Tensor output = empty_like_shape(logits, logits.scalar_type());
    const Tensor kept = empty_like_shape(logits, logits.scalar_type());
    run_sample("_gumbel_gate_keep", drawn(logits, tau, key), output, kept,
               {hard, threshold, lower, upper}, full_shape, start);
    return {output, kept};
  }

  static TensorPair backward(const Tensor& grad, const Tensor& kept, const Tensor& tau,
                             double lower, double upper, bool tau_grad) {
    const Tensor grad_logits = empty_like_shape(kept, kept.scalar_type());
    Operands operands = {.input = as_rows(kept),
                         .grad = as_rows(grad),
                         .output = as_rows(grad_logits),
                         .tau = rows_of_tau(tau),
                         .dim = kept.dim()};
    const Tensor at_tau = tau_gradients(kept, tau_grad, operands);
    run("_gumbel_gate_backward", GateOp::kBackward, operands, {false, 0.5, lower, upper});
    return {grad_logits, at_tau};
  }

  static Tensor sample_to_recompute(const Tensor& logits, const Tensor& tau, const Tensor& key,
                                    bool hard, double threshold, Shape full_shape, Shape start) {
    return sample(logits, tau, key, hard, threshold, 0.0, 1.0, full_shape, start);
  }

  static TensorPair recompute_backward(const Tensor& grad, const Tensor& logits, const Tensor& tau,
                                       const Tensor& key, bool tau_grad, Shape full_shape,
                                       Shape start) {
    const Tensor grad_logits = empty_like_shape(logits, logits.scalar_type());
    Operands operands = drawn(logits, tau, key);
    operands.grad = as_rows(grad);
    operands.output = as_rows(grad_logits);
    const Tensor at_tau = tau_gradients(logits, tau_grad, operands);
    const Place place(full_shape, start);
    place.put(operands);
    run("_gumbel_gate_recompute_backward", GateOp::kRecompute, operands, {false, 0.5, 0.0, 1.0});
    return {grad_logits, at_tau};
  }

  static void register_on(torch::Library& m) {
    m.impl("_gumbel_gate", TORCH_FN(sample));
    m.impl("_gumbel_gate_keep", TORCH_FN(sample_and_keep));
    m.impl("_gumbel_gate_backward", TORCH_FN(backward));
    m.impl("_gumbel_gate_recompute", TORCH_FN(sample_to_recompute));
    m.impl("_gumbel_gate_recompute_backward", TORCH_FN(recompute_backward));
  }

 private:
  struct Settings {
    bool hard;
    double threshold, lower, upper;
  };

  /// full_shape and start of elements as rows of one class.
  struct Place {
    std::vector<int64_t> full, start;

    Place(Shape full_shape, Shape start_at) {
      if (full_shape.has_value()) full.assign(full_shape->begin(), full_shape->end());
      if (start_at.has_value()) start.assign(start_at->begin(), start_at->end());
      if (full_shape.has_value()) full.push_back(1);
      if (start_at.has_value()) start.push_back(0);
    }
    void put(Operands& operands) const {
      if (!full.empty()) operands.full_shape = at::IntArrayRef(full);
      if (!start.empty()) operands.start = at::IntArrayRef(start);
    }
  };

  static Tensor as_rows(const Tensor& elements) { return elements.unsqueeze(-1); }
  static Tensor rows_of_tau(const Tensor& tau) { return tau.dim() == 0 ? tau : tau.unsqueeze(-1); }

  static Operands drawn(const Tensor& logits, const Tensor& tau, const Tensor& key) {
    return {.input = as_rows(logits), .tau = rows_of_tau(tau), .key = key, .dim = logits.dim()};
  }

  static void run_sample(const char* who, Operands operands, const Tensor& output,
                         const Tensor& kept, const Settings& settings, Shape full_shape,
                         Shape start) {
    operands.output = as_rows(output);
    if (kept.defined()) operands.one_hot = as_rows(kept);
    const Place place(full_shape, start);
    place.put(operands);
    run(who, GateOp::kSample, operands, settings);
  }

  static Tensor tau_gradients(const Tensor& like, bool wanted, Operands& operands) {
    if (!wanted) return no_rows(like);
    operands.row_value = empty_like_shape(like, opmath_type(like.scalar_type()));
    return operands.row_value;
  }

  static void run(const char* who, GateOp op, const Operands& operands, const Settings& settings) {
    const auto& [hard, threshold, lower, upper] = settings;
    TORCH_CHECK_VALUE(threshold > 0 && threshold < 1, who, ": threshold must be in (0, 1), got ",
                      threshold);
    TORCH_CHECK_VALUE(lower <= 0 && upper >= 1 && upper - lower <= kMostWidth, who,
                      ": wanted lower <= 0 and upper >= 1 of at most ", kMostWidth,
                      " between them, got ", lower, " and ", upper);
    Launch launch = make_params(who, operands);
    if (launch.params.rows.count == 0) return;
    if (is_scattered(launch.params.rows)) launch = make_params(who, packed(operands));
    GateParams a;
    static_cast<KernelParams&>(a) = launch.params;
    a.hard = hard;
    a.threshold = threshold == 0.5 ? 0.0 : std::log(threshold) - std::log1p(-threshold);
    a.lower = lower, a.upper = upper;
    Backend::run(op, a, operands.input);
  }

  /// Whether neighbours lie apart in memory, or runs of them are short.
  static bool is_scattered(const Rows& rows) {
    if (rows.dims == 0) return false;
    const int last = rows.dims - 1;
    const auto step = [&](Operand operand) { return rows.stride[static_cast<int>(operand)][last]; };
    const bool apart = step(Operand::kInput) > 1 || step(Operand::kGrad) > 1;
    return apart || (last > 0 && rows.size[last] < kShortRun);
  }

  static Operands packed(Operands operands) {
    operands.input = operands.input.contiguous();
    if (operands.grad.defined()) operands.grad = operands.grad.contiguous();
    if (operands.tau.dim() > 0)
      operands.tau = operands.tau.expand(operands.input.sizes()).contiguous();
    return operands;
  }

  static constexpr int64_t kShortRun = 64;
  static constexpr double kMostWidth = 1e6;
};

}  // namespace torch_gumbel::ops
