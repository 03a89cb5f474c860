// SPDX-License-Identifier: Apache-2.0
// Public op straight_through_lookup, and the hard lookup below autograd: choices of the argmax
// kernel, and a gather.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/library.h>
#include <torch_gumbel/lookup.h>

#include <limits>

#include "checks.h"
#include "fast_path.h"
#include "keys.h"
#include "ops.h"
#include "results.h"
#include "sample_one_hot.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "straight_through_lookup";
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Index and rows, without the class dimension.
std::tuple<Tensor, Tensor> argmax_rows(const Tensor& logits, const Tensor& key) {
  const auto [score, index] = ops::max().call(logits, at::scalar_tensor(1.0, at::kDouble), key,
                                              logits.dim() - 1, false, std::nullopt, std::nullopt);
  return {index, score.isfinite()};
}

/// Rank and rows of a codebook; `who` is the private op, or the public one.
void check_codebook(const char* who, const Tensor& logits, const Tensor& codebook) {
  checks::values(who, "codebook", codebook);
  TORCH_CHECK_VALUE(codebook.dim() == 1 || codebook.dim() == 2, who,
                    ": codebook must have shape [K, D] or [K], got ", codebook.sym_sizes());
  const c10::SymInt classes = logits.dim() == 0 ? c10::SymInt(1) : logits.sym_size(-1);
  TORCH_CHECK_VALUE(codebook.sym_size(0) == classes, who, ": codebook must have ", classes,
                    " rows for logits of shape ", logits.sym_sizes(), ", got shape ",
                    codebook.sym_sizes());
  TORCH_CHECK_VALUE(codebook.device() == logits.device(), who, ": codebook must be on ",
                    logits.device(), ", got ", codebook.device());
}

/// Rows of a positive and finite temperature, without the class dimension.
Tensor valid_rows(const Tensor& tau, const at::Device& device) {
  const Tensor rows = tau.dim() > 0 ? tau.squeeze(-1) : tau;
  return (rows > 0).logical_and(rows < kInfinity).to(device);
}

/// The temperature matters only where it is none: then its rows are undefined.
ops::LookupResult lookup(const Tensor& logits, const Tensor& codebook, const Tensor& tau,
                         const Tensor& key) {
  constexpr const char* kPrivate = "_straight_through_lookup";
  TORCH_CHECK_VALUE(logits.dim() > 0 && codebook.dim() == 2, kPrivate,
                    ": wanted logits [*, K] and a codebook [K, D], got ", logits.sym_sizes(),
                    " and ", codebook.sym_sizes());
  check_codebook(kPrivate, logits, codebook);
  TORCH_CHECK_VALUE(checks::broadcasts_to_rows(tau, logits, logits.dim() - 1), kPrivate,
                    ": tau must broadcast against logits of shape ", logits.sym_sizes(),
                    " with size 1 at the classes, got shape ", tau.sym_sizes());
  auto [index, defined] = argmax_rows(logits, key);
  defined = defined.logical_and(valid_rows(tau, logits.device()));
  index = index * defined;
  c10::SymDimVector shape(index.sym_sizes().begin(), index.sym_sizes().end());
  shape.push_back(codebook.sym_size(1));
  Tensor output = codebook.index_select(0, index.flatten()).view_symint(shape);
  output.masked_fill_(defined.logical_not().unsqueeze(-1),
                      std::numeric_limits<double>::quiet_NaN());
  return {output, index, defined};
}

std::tuple<Tensor, Tensor> soft_lookup(const Tensor& logits, const Tensor& codebook,
                                       const Tensor& tau, const Tensor& key, bool return_index) {
  const int64_t last = logits.dim() - 1;
  const Tensor y = ops::softmax().call(logits, tau, key, last, false, codebook.scalar_type(),
                                       std::nullopt, std::nullopt);
  if (!return_index)
    return {at::matmul(y, codebook), at::empty({0}, logits.options().dtype(at::kLong))};
  const Tensor index = std::get<0>(argmax_rows(logits, key));
  return {at::matmul(y, codebook), index * valid_rows(tau, logits.device())};
}

struct Draw {
  bool hard, return_index;
  std::string estimator = "gumbel";
};

/// The sample of another estimator times the codebook. `tau`: 1 where there is none.
std::tuple<Tensor, Tensor> lookup_by(const Tensor& logits, const Tensor& codebook,
                                     const ops::OneHotTau& tau, const Draw& how,
                                     const optional<at::Generator>& generator,
                                     const optional<Tensor>& key) {
  TORCH_CHECK_VALUE(how.hard, kName, ": estimator is an argument of hard lookups, got \"",
                    how.estimator, "\" with hard=False");
  check_codebook(kName, logits, codebook);
  const auto* number = std::get_if<double>(&tau);
  const bool absent = how.estimator == "zgr" && number != nullptr && *number == 1;
  ops::OneHotSettings settings;
  settings.estimator = how.estimator;
  const int64_t last = std::max<int64_t>(logits.dim() - 1, 0);
  const auto [sample, index] =
      ops::sample_one_hot(kName, logits, absent ? ops::OneHotTau() : tau, last, settings,
                          codebook.scalar_type(), generator, key);
  const Tensor rows = sample.dim() == 0 ? sample.unsqueeze(-1) : sample;
  return {at::matmul(rows, codebook), index};
}

/// The result, the index, and what a soft lookup makes on its way.
Tensor key_of_draw(const Tensor& logits, const Tensor& codebook, int64_t last, const Draw& how,
                   const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  const auto type = codebook.scalar_type();
  const c10::SymInt width = codebook.dim() == 2 ? codebook.sym_size(1) : c10::SymInt(1);
  return ops::key_of_call(
      kName, logits, last, generator, given_key,
      {ops::bytes_of_rows(logits, last, type, width), ops::bytes_of_rows(logits, last, at::kLong),
       how.hard ? 0 : ops::bytes_of(logits, type)});
}

std::tuple<Tensor, Tensor> draw(const Tensor& logits, const Tensor& codebook, const Tensor& tau,
                                const Draw& how, const optional<at::Generator>& generator,
                                const optional<Tensor>& given_key) {
  check_codebook(kName, logits, codebook);
  checks::source(kName, logits, generator, given_key);
  const int64_t last = std::max<int64_t>(logits.dim() - 1, 0);
  checks::has_classes(kName, logits, last);
  const Tensor key = key_of_draw(logits, codebook, last, how, generator, given_key);
  const Tensor rows = logits.dim() == 0 ? logits.unsqueeze(-1) : logits;
  const Tensor codes = codebook.dim() == 1 ? codebook.unsqueeze(-1) : codebook;
  Tensor output, index;
  if (how.hard)
    std::tie(output, index, std::ignore) = ops::lookup().call(rows, codes, tau, key);
  else
    std::tie(output, index) = soft_lookup(rows, codes, tau, key, how.return_index);
  return {codebook.dim() == 1 ? output.squeeze(-1) : output, index};
}

std::tuple<Tensor, Tensor> public_op(const Tensor& logits, const Tensor& codebook,
                                     const at::Scalar& tau, bool hard, bool return_index,
                                     c10::string_view estimator, optional<at::Generator> generator,
                                     const optional<Tensor>& key) {
  checks::logits(kName, logits);
  checks::temperature(kName, "tau", tau.toDouble());
  const Draw how = {hard, return_index, std::string(estimator)};
  if (estimator != "gumbel")
    return lookup_by(logits, codebook, tau.toDouble(), how, generator, key);
  return draw(logits, codebook, ops::temperature_of_call(logits, tau.toDouble()), how, generator,
              key);
}

std::tuple<Tensor, Tensor> public_op_tensor(const Tensor& logits, const Tensor& codebook,
                                            const Tensor& tau, bool hard, bool return_index,
                                            c10::string_view estimator,
                                            optional<at::Generator> generator,
                                            const optional<Tensor>& key) {
  checks::logits(kName, logits);
  const int64_t last = std::max<int64_t>(logits.dim() - 1, 0);
  const Draw how = {hard, return_index, std::string(estimator)};
  if (estimator != "gumbel") return lookup_by(logits, codebook, tau, how, generator, key);
  return draw(logits, codebook, checks::temperature(kName, "tau", tau, logits, last), how,
              generator, key);
}

}  // namespace

std::tuple<Tensor, Tensor> straight_through_lookup(const Tensor& logits, const Tensor& codebook,
                                                   double tau, bool hard, bool return_index,
                                                   optional<at::Generator> generator,
                                                   const optional<Tensor>& key) {
  return public_op(logits, codebook, tau, hard, return_index, "gumbel", std::move(generator), key);
}

std::tuple<Tensor, Tensor> straight_through_lookup(const Tensor& logits, const Tensor& codebook,
                                                   const Tensor& tau, bool hard, bool return_index,
                                                   optional<at::Generator> generator,
                                                   const optional<Tensor>& key) {
  return public_op_tensor(logits, codebook, tau, hard, return_index, "gumbel", std::move(generator),
                          key);
}

std::tuple<Tensor, Tensor> straight_through_lookup(
    const Tensor& logits, const Tensor& codebook, const StraightThroughLookupFuncOptions& options) {
  const auto rest = [&](const auto& op, const auto& tau) {
    return op(logits, codebook, tau, options.hard(), options.return_index(), options.estimator(),
              options.generator(), options.key());
  };
  if (const auto* tensor = std::get_if<Tensor>(&options.tau()))
    return rest(public_op_tensor, *tensor);
  return rest(public_op, at::Scalar(std::get<double>(options.tau())));
}

namespace {

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeExplicitAutograd, m) {
  m.impl("_straight_through_lookup", TORCH_FN(lookup));
}

}  // namespace

namespace ops {

void register_lookup(torch::Library& m) {
  m.impl("straight_through_lookup", TORCH_FN(public_op));
  m.impl("straight_through_lookup.tensor_tau", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
