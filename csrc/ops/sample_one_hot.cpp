// SPDX-License-Identifier: Apache-2.0
// Public op sample_one_hot: checks of what each estimator uses, the mix of the law with a uniform
// one, and "gumbel" and "decoupled", which are made of other ops.
#include "sample_one_hot.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <torch/library.h>
#include <torch_gumbel/one_hot.h>

#include <cmath>
#include <limits>

#include "../math/softmax.h"
#include "autograd_node.h"
#include "checks.h"
#include "estimators.h"
#include "fast_path.h"
#include "keys.h"
#include "ops.h"
#include "params.h"
#include "results.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;
using Settings = ops::OneHotSettings;
using ops::TensorPair;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr const char* kEstimators[] = {"straight-through", "gumbel", "reinmax",  "zgr",
                                       "gumbel-rao",       "gapped", "decoupled"};

/// An argument of one estimator alone.
void check_used(const char* who, const Settings& how, const char* name, double value, double unused,
                const char* by) {
  TORCH_CHECK_VALUE(value == unused || how.estimator == by, who, ": ", name,
                    " is an argument of estimator \"", by, "\", got ", value, " with \"",
                    how.estimator, "\"");
}

void check_settings(const char* who, const Settings& how) {
  bool known = false;
  for (const char* each : kEstimators) known |= how.estimator == each;
  TORCH_CHECK_VALUE(known, who,
                    ": estimator must be straight-through, gumbel, reinmax, zgr, gumbel-rao, "
                    "gapped, or decoupled, got ",
                    how.estimator);
  check_used(who, how, "samples", static_cast<double>(how.samples), 10, "gumbel-rao");
  check_used(who, how, "gap", how.gap, 1, "gapped");
  check_used(who, how, "tau_forward", how.tau_forward, 1, "decoupled");
  TORCH_CHECK_VALUE(how.uniform_mix >= 0 && how.uniform_mix <= 1, who,
                    ": uniform_mix must be in [0, 1], got ", how.uniform_mix);
  checks::temperature(who, "tau_forward", how.tau_forward);
  ops::estimator_settings(who, "zgr", how.samples, how.gap);
}

/// The temperature of the gradient as the private ops take it; an entry that the estimator does
/// not take is NaN.
Tensor temperature_of(const char* who, const Tensor& logits, const ops::OneHotTau& tau, int64_t dim,
                      const Settings& how) {
  if (std::holds_alternative<std::monostate>(tau))
    return ops::temperature_of_call(logits, how.estimator == "gumbel-rao" ? 0.5 : 1.0);
  TORCH_CHECK_VALUE(how.estimator != "zgr", who,
                    ": tau is no argument of estimator \"zgr\", which has no temperature");
  const bool reinmax = how.estimator == "reinmax";
  if (const auto* number = std::get_if<double>(&tau)) {
    checks::temperature(who, "tau", *number);
    TORCH_CHECK_VALUE(!reinmax || *number >= 1, who, ": tau of \"reinmax\" must be >= 1, got ",
                      *number);
    return ops::temperature_of_call(logits, *number);
  }
  const Tensor given = checks::temperature(who, "tau", std::get<Tensor>(tau), logits, dim);
  if (!reinmax) return given;
  return given.detach().masked_fill(given.detach() < 1, std::numeric_limits<double>::quiet_NaN());
}

/// log((1 - e) softmax(logits) + e / n), n the number of classes that are not masked, which stay so.
Tensor mixed(const Tensor& logits, int64_t dim, double e) {
  if (e == 0) return logits;
  const Tensor x = logits.to(ops::opmath_type(logits.scalar_type()));
  const Tensor masked = x.detach() == -kInfinity;
  const Tensor open = masked.logical_not().sum(dim, /*keepdim=*/true).to(x.scalar_type());
  const Tensor law = (1 - e) * x.softmax(dim) + e / open;
  return law.masked_fill(masked, 1).log().masked_fill(masked, -kInfinity);
}

/// What a sample is made of, once its arguments are checked.
struct Draw {
  const Tensor &logits, &tau, &key;
  int64_t dim;
  at::ScalarType type;

  TensorPair by(c10::string_view estimator, const Settings& how) const {
    const auto [sample, kept, index] =
        ops::one_hot().call(logits, tau, key, dim, estimator, how.samples, how.gap, type,
                            /*keep=*/false, std::nullopt, std::nullopt);
    return {sample, index};
  }
};

/// The soft sample's index has to be drawn again.
TensorPair gumbel(const Draw& draw, bool return_index) {
  const auto none = std::nullopt;
  const Tensor sample =
      ops::hard().call(draw.logits, draw.tau, draw.key, draw.dim, draw.type, none, none);
  if (!return_index) return {sample, at::empty({0}, draw.logits.options().dtype(at::kLong))};
  const Tensor index = ops::argmax().call(draw.logits, at::scalar_tensor(1.0, at::kDouble),
                                          draw.key, draw.dim, /*keepdim=*/true, none, none);
  const Tensor valid = ops::valid_temperatures(draw.tau).to(index.device());
  return {sample, index * valid};
}

/// Logits as a sampler at that temperature scales them, in bits.
Tensor scaled_logits(const Tensor& logits, double temperature) {
  const Tensor x = logits.detach().to(ops::opmath_type(logits.scalar_type()));
  const bool wide = x.scalar_type() == at::kDouble;
  const double inverse = wide ? math::sampling_inverse_of<double>(temperature)
                              : math::sampling_inverse_of<float>(temperature);
  const double most = wide ? math::kLargest<double> : math::kLargest<float>;
  return at::where(x.isfinite(), (x * inverse).clamp(-most, most), x);
}

/// Drawn at tau_forward, with the gradient of softmax(logits / tau + g).
TensorPair decoupled(const Draw& draw, const Settings& how) {
  const Tensor scaled = scaled_logits(draw.logits, how.tau_forward);
  const Tensor one = at::scalar_tensor(1.0, at::kDouble);
  const Tensor tau = draw.tau.detach();  // one that is none leaves its rows undefined
  const auto [sample, index] = Draw{scaled, tau, draw.key, draw.dim, draw.type}.by("zgr", how);
  const bool alone =
      ops::on_fast_path(draw.logits) && !ops::is_differentiated(draw.logits, draw.tau);
  if (alone || !at::GradMode::is_enabled()) return {sample, index};
  const Tensor x = draw.logits.to(scaled.scalar_type());
  const Tensor masked = x.detach() == -kInfinity;
  const Tensor tempered =
      at::where(masked, x, x.masked_fill(masked, 0) / draw.tau.to(x.scalar_type()));
  const Tensor y = ops::softmax().call(tempered, one, draw.key, draw.dim, /*hard=*/false, draw.type,
                                       std::nullopt, std::nullopt);
  return {sample + (y - y.detach()), index};
}

TensorPair drawn(const Draw& draw, const Settings& how) {
  if (how.estimator == "gumbel") return gumbel(draw, how.return_index);
  if (how.estimator == "decoupled") return decoupled(draw, how);
  return draw.by(how.estimator, how);
}

std::tuple<Tensor, Tensor> public_op(const Tensor& logits, c10::string_view estimator,
                                     const optional<at::Scalar>& tau, int64_t dim,
                                     double uniform_mix, int64_t samples, double gap,
                                     double tau_forward, bool return_index,
                                     optional<at::Generator> generator,
                                     const optional<Tensor>& key) {
  const Settings how = {
      std::string(estimator), uniform_mix, samples, gap, tau_forward, return_index};
  const auto number = tau ? ops::OneHotTau(tau->toDouble()) : ops::OneHotTau();
  return ops::sample_one_hot("sample_one_hot", logits, number, dim, how, std::nullopt,
                             std::move(generator), key);
}

std::tuple<Tensor, Tensor> public_op_tensor(const Tensor& logits, const Tensor& tau,
                                            c10::string_view estimator, int64_t dim,
                                            double uniform_mix, int64_t samples, double gap,
                                            double tau_forward, bool return_index,
                                            optional<at::Generator> generator,
                                            const optional<Tensor>& key) {
  const Settings how = {
      std::string(estimator), uniform_mix, samples, gap, tau_forward, return_index};
  return ops::sample_one_hot("sample_one_hot", logits, tau, dim, how, std::nullopt,
                             std::move(generator), key);
}

}  // namespace

std::tuple<Tensor, Tensor> sample_one_hot(const Tensor& logits,
                                          const SampleOneHotFuncOptions& options) {
  const Settings how = {options.estimator(), options.uniform_mix(), options.samples(),
                        options.gap(),       options.tau_forward(), options.return_index()};
  return ops::sample_one_hot("sample_one_hot", logits, options.tau(), options.dim(), how,
                             std::nullopt, options.generator(), options.key());
}

namespace ops {

TensorPair sample_one_hot(const char* who, const Tensor& logits, const OneHotTau& tau, int64_t dim,
                          const OneHotSettings& how, optional<ScalarType> type,
                          const optional<at::Generator>& generator,
                          const optional<Tensor>& given_key) {
  checks::logits(who, logits);
  check_settings(who, how);
  const int64_t wrapped = checks::wrapped_dim(who, dim, logits.dim());
  const Tensor temperature = temperature_of(who, logits, tau, wrapped, how);
  checks::source(who, logits, generator, given_key);
  checks::has_classes(who, logits, wrapped);
  const auto out = type.value_or(logits.scalar_type());
  const Tensor key =
      key_of_call(who, logits, wrapped, generator, given_key,
                  {bytes_of(logits, out), bytes_of_rows(logits, wrapped, at::kLong)});
  const Tensor rows = logits.dim() == 0 ? logits.unsqueeze(-1) : logits;
  const auto [sample, index] =
      drawn({mixed(rows, wrapped, how.uniform_mix), temperature, key, wrapped, out}, how);
  const bool made = how.estimator != "gumbel" || how.return_index;
  return {logits.dim() == 0 ? sample.squeeze(-1) : sample, made ? index.squeeze(wrapped) : index};
}

void register_sample_one_hot(torch::Library& m) {
  m.impl("sample_one_hot", TORCH_FN(public_op));
  m.impl("sample_one_hot.tensor_tau", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
