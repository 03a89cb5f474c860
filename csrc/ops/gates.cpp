// SPDX-License-Identifier: Apache-2.0
// Public ops of gates: gumbel_sigmoid, hard_concrete, and hard_concrete_penalty.
#include <ATen/TensorOperators.h>
#include <torch/library.h>
#include <torch_gumbel/gates.h>

#include <cmath>

#include "checks.h"
#include "fast_path.h"
#include "keys.h"
#include "ops.h"
#include "params.h"
#include "results.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kSigmoid = "gumbel_sigmoid";
constexpr const char* kConcrete = "hard_concrete";
constexpr const char* kPenalty = "hard_concrete_penalty";

/// A gate's own settings.
struct Gate {
  bool hard = false;
  double threshold = 0.5, lower = 0.0, upper = 1.0;
  bool recompute = false;
};

void check_threshold(double threshold) {
  TORCH_CHECK_VALUE(threshold > 0 && threshold < 1, kSigmoid, ": threshold must be in (0, 1), got ",
                    threshold);
}

void check_limits(const char* who, double lower, double upper) {
  TORCH_CHECK_VALUE(lower < 0 && std::isfinite(lower), who, ": lower must be < 0 and finite, got ",
                    lower);
  TORCH_CHECK_VALUE(upper >= 1 && std::isfinite(upper), who,
                    ": upper must be >= 1 and finite, got ", upper);
  TORCH_CHECK_VALUE(upper - lower <= 1e6, who, ": upper - lower must be at most 1e6, got ",
                    upper - lower);
}

/// The temperature of a call as the private ops take it, checked.
Tensor tau_of_call(const char* who, const Tensor& logits, double tau) {
  checks::logits(who, logits);
  checks::temperature(who, "tau", tau);
  return ops::temperature_of_call(logits, tau);
}
Tensor tau_of_call(const char* who, const Tensor& logits, const Tensor& tau) {
  checks::logits(who, logits);
  return checks::elementwise_temperature(who, "tau", tau, logits);
}

/// `tau` is checked.
Tensor sample(const char* who, const Tensor& logits, const Tensor& tau, const Gate& gate,
              const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  checks::source(who, logits, generator, given_key);
  const int64_t bytes = ops::bytes_of(logits, logits.scalar_type());
  const bool half = ops::opmath_type(logits.scalar_type()) != logits.scalar_type();
  const bool pair = (gate.hard || half) && !gate.recompute && at::GradMode::is_enabled() &&
                    (logits.requires_grad() || tau.requires_grad());
  const Tensor key =
      ops::key_of_call(who, logits, logits.dim(), generator, given_key, {bytes, pair ? bytes : 0});
  if (gate.recompute)
    return ops::gate_recompute().call(logits, tau, key, gate.hard, gate.threshold, std::nullopt,
                                      std::nullopt);
  return ops::gate().call(logits, tau, key, gate.hard, gate.threshold, gate.lower, gate.upper,
                          std::nullopt, std::nullopt);
}

template <typename Tau>
Tensor sigmoid(const Tensor& logits, const Tau& tau, bool hard, double threshold, bool recompute,
               const optional<at::Generator>& generator, const optional<Tensor>& key) {
  const Tensor temperature = tau_of_call(kSigmoid, logits, tau);
  check_threshold(threshold);
  const Gate gate = {.hard = hard, .threshold = threshold, .recompute = recompute};
  return sample(kSigmoid, logits, temperature, gate, generator, key);
}

template <typename Tau>
Tensor concrete(const Tensor& logits, const Tau& tau, double lower, double upper,
                const optional<at::Generator>& generator, const optional<Tensor>& key) {
  const Tensor temperature = tau_of_call(kConcrete, logits, tau);
  check_limits(kConcrete, lower, upper);
  const Gate gate = {.lower = lower, .upper = upper};
  return sample(kConcrete, logits, temperature, gate, generator, key);
}

/// In the opmath type, rounded once.
template <typename Tau>
Tensor penalty(const Tensor& logits, const Tau& tau, double lower, double upper) {
  const Tensor temperature = tau_of_call(kPenalty, logits, tau);
  check_limits(kPenalty, lower, upper);
  const Tensor x = logits.to(ops::opmath_type(logits.scalar_type()));
  const Tensor shift = temperature * std::log(-lower / upper);
  return (x - shift.to(x.options())).sigmoid().to(logits.scalar_type());
}

// The public ops: of a number, and of a tensor.
Tensor sigmoid_op(const Tensor& logits, const at::Scalar& tau, bool hard, double threshold,
                  bool recompute, optional<at::Generator> generator, const optional<Tensor>& key) {
  return sigmoid(logits, tau.toDouble(), hard, threshold, recompute, generator, key);
}
Tensor sigmoid_op_tensor(const Tensor& logits, const Tensor& tau, bool hard, double threshold,
                         bool recompute, optional<at::Generator> generator,
                         const optional<Tensor>& key) {
  return sigmoid(logits, tau, hard, threshold, recompute, generator, key);
}
Tensor concrete_op(const Tensor& logits, const at::Scalar& tau, double lower, double upper,
                   optional<at::Generator> generator, const optional<Tensor>& key) {
  return concrete(logits, tau.toDouble(), lower, upper, generator, key);
}
Tensor concrete_op_tensor(const Tensor& logits, const Tensor& tau, double lower, double upper,
                          optional<at::Generator> generator, const optional<Tensor>& key) {
  return concrete(logits, tau, lower, upper, generator, key);
}
Tensor penalty_op(const Tensor& logits, const at::Scalar& tau, double lower, double upper) {
  return penalty(logits, tau.toDouble(), lower, upper);
}
Tensor penalty_op_tensor(const Tensor& logits, const Tensor& tau, double lower, double upper) {
  return penalty(logits, tau, lower, upper);
}

}  // namespace

Tensor gumbel_sigmoid(const Tensor& logits, double tau, bool hard, double threshold, bool recompute,
                      optional<at::Generator> generator, const optional<Tensor>& key) {
  return sigmoid(logits, tau, hard, threshold, recompute, generator, key);
}

Tensor gumbel_sigmoid(const Tensor& logits, const Tensor& tau, bool hard, double threshold,
                      bool recompute, optional<at::Generator> generator,
                      const optional<Tensor>& key) {
  return sigmoid(logits, tau, hard, threshold, recompute, generator, key);
}

Tensor gumbel_sigmoid(const Tensor& logits, const GumbelSigmoidFuncOptions& options) {
  const auto call = [&](const auto& tau) {
    return sigmoid(logits, tau, options.hard(), options.threshold(), options.recompute(),
                   options.generator(), options.key());
  };
  return std::visit(call, options.tau());
}

Tensor hard_concrete(const Tensor& logits, double tau, double lower, double upper,
                     optional<at::Generator> generator, const optional<Tensor>& key) {
  return concrete(logits, tau, lower, upper, generator, key);
}

Tensor hard_concrete(const Tensor& logits, const Tensor& tau, double lower, double upper,
                     optional<at::Generator> generator, const optional<Tensor>& key) {
  return concrete(logits, tau, lower, upper, generator, key);
}

Tensor hard_concrete(const Tensor& logits, const HardConcreteFuncOptions& options) {
  const auto call = [&](const auto& tau) {
    return concrete(logits, tau, options.lower(), options.upper(), options.generator(),
                    options.key());
  };
  return std::visit(call, options.tau());
}

Tensor hard_concrete_penalty(const Tensor& logits, double tau, double lower, double upper) {
  return penalty(logits, tau, lower, upper);
}

Tensor hard_concrete_penalty(const Tensor& logits, const Tensor& tau, double lower, double upper) {
  return penalty(logits, tau, lower, upper);
}

namespace ops {

void register_gates(torch::Library& m) {
  m.impl("gumbel_sigmoid", TORCH_FN(sigmoid_op));
  m.impl("gumbel_sigmoid.tensor_tau", TORCH_FN(sigmoid_op_tensor));
  m.impl("hard_concrete", TORCH_FN(concrete_op));
  m.impl("hard_concrete.tensor_tau", TORCH_FN(concrete_op_tensor));
  m.impl("hard_concrete_penalty", TORCH_FN(penalty_op));
  m.impl("hard_concrete_penalty.tensor_tau", TORCH_FN(penalty_op_tensor));
}

}  // namespace ops
}  // namespace torch_gumbel
