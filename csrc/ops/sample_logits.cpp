// SPDX-License-Identifier: Apache-2.0
// Public ops sample_logits and filter_logits.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <torch/library.h>
#include <torch_gumbel/draws.h>

#include <limits>

#include "autograd_node.h"
#include "checks.h"
#include "fast_path.h"
#include "keys.h"
#include "ops.h"
#include "params.h"
#include "results.h"
#include "several.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using c10::SymInt;
using ops::FilterResult;
using std::optional;

constexpr const char* kSample = "sample_logits";
constexpr const char* kFilter = "filter_logits";

/// The filters of a call, as users give them.
struct Given {
  std::variant<double, Tensor> temperature = 1.0;
  std::variant<std::monostate, int64_t, Tensor> top_k = {};
  std::variant<std::monostate, double, Tensor> top_p = {}, min_p = {};
};

/// The same as the private ops take them.
struct Checked {
  int64_t dim;
  Tensor temperature;
  optional<Tensor> top_k, top_p, min_p;

  bool any() const { return top_k || top_p || min_p; }
};

template <typename Number>
std::variant<std::monostate, Number, Tensor> variant_of(const optional<Number>& number) {
  if (number) return *number;
  return {};
}
template <typename Number>
std::variant<std::monostate, Number, Tensor> variant_of_tensor(const optional<Tensor>& tensor) {
  if (tensor) return *tensor;
  return {};
}

/// A filter that is a number or a tensor; nothing where it is off, or equal to `off`.
template <typename Number, typename Check>
optional<Tensor> checked(const char* who, const char* name,
                         const std::variant<std::monostate, Number, Tensor>& value,
                         const Tensor& logits, int64_t dim, Number off, Check&& check_number) {
  if (const auto* tensor = std::get_if<Tensor>(&value)) {
    TORCH_CHECK_TYPE(
        (!std::is_same_v<Number, int64_t>) || at::isIntegralType(tensor->scalar_type(), false), who,
        ": ", name, " must be a tensor of integers, got ", tensor->scalar_type());
    return checks::per_row(who, name, *tensor, logits, dim);
  }
  const auto* number = std::get_if<Number>(&value);
  if (number == nullptr) return std::nullopt;
  check_number(*number);
  if (*number == off) return std::nullopt;
  return at::scalar_tensor(*number, std::is_same_v<Number, int64_t> ? at::kLong : at::kDouble);
}

Checked check_filters(const char* who, const Tensor& logits, const Given& given, int64_t dim) {
  checks::logits(who, logits);
  Checked filters;
  filters.dim = checks::wrapped_dim(who, dim, logits.dim());
  if (const auto* tensor = std::get_if<Tensor>(&given.temperature)) {
    filters.temperature = checks::temperature(who, "temperature", *tensor, logits, filters.dim);
  } else {
    const double number = std::get<double>(given.temperature);
    checks::sampling_temperature(who, number);
    filters.temperature = ops::temperature_of_call(logits, number);
  }
  const auto check_k = [&](int64_t k) {
    TORCH_CHECK_VALUE(k >= -1, who, ": top_k must be > 0, or 0 or -1 for none, got ", k);
  };
  const auto check_p = [&](double p) {
    TORCH_CHECK_VALUE(p > 0 && p <= 1, who, ": top_p must be in (0, 1], got ", p);
  };
  const auto check_q = [&](double q) {
    TORCH_CHECK_VALUE(q >= 0 && q <= 1, who, ": min_p must be in [0, 1], got ", q);
  };
  filters.top_k = checked<int64_t>(who, "top_k", given.top_k, logits, filters.dim, 0, check_k);
  filters.top_p = checked<double>(who, "top_p", given.top_p, logits, filters.dim, 1, check_p);
  filters.min_p = checked<double>(who, "min_p", given.min_p, logits, filters.dim, 0, check_q);
  return filters;
}

/// How a call draws, and what it returns.
struct How {
  optional<SymInt> num_samples;
  bool log_prob, entropy;
};

/// Draws of rows that are not 0-d, of size 1 at dim. Without filters, by the kernels of gumbel_argmax.
FilterResult draw(const Tensor& logits, const Checked& filters, const Tensor& key, const How& how) {
  const auto none = std::nullopt;
  if (filters.any() || how.log_prob || how.entropy)
    return ops::sample_logits().call(logits, filters.temperature, key, filters.dim, filters.top_k,
                                     filters.top_p, filters.min_p, how.log_prob, how.entropy, none,
                                     none);
  const Tensor index = ops::argmax().call(logits, filters.temperature, key, filters.dim,
                                          /*keepdim=*/true, none, none);
  const auto options = logits.options().dtype(ops::opmath_type(logits.scalar_type()));
  return {index, at::empty({0}, options), at::empty({0}, options)};
}

FilterResult draw_several(const Tensor& logits, const Checked& filters, const Tensor& key,
                          const How& how) {
  const ops::Several several(logits, key, *how.num_samples);
  const auto rows = [&](const optional<Tensor>& filter) {
    return filter ? optional<Tensor>(several.rows(*filter)) : std::nullopt;
  };
  const Checked repeated = {filters.dim + 1, several.rows(filters.temperature), rows(filters.top_k),
                            rows(filters.top_p), rows(filters.min_p)};
  return draw(several.logits(), repeated, key, how);
}

FilterResult sample(const Tensor& logits, const Given& given, int64_t dim, const How& how,
                    const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  const Checked filters = check_filters(kSample, logits, given, dim);
  if (how.num_samples) checks::count(kSample, "num_samples", *how.num_samples);
  checks::source(kSample, logits, generator, given_key);
  checks::has_classes(kSample, logits, filters.dim);
  const auto bytes = [&](at::ScalarType type, bool wanted) {
    return wanted ? ops::bytes_of_rows(logits, filters.dim, type, how.num_samples.value_or(1)) : 0;
  };
  const auto type = ops::opmath_type(logits.scalar_type());
  const Tensor key = ops::key_of_call(
      kSample, logits, filters.dim, generator, given_key,
      {bytes(at::kLong, true), bytes(type, how.log_prob), bytes(type, how.entropy)});
  const Tensor rows = logits.dim() == 0 ? logits.unsqueeze(-1) : logits;
  auto [index, log_prob, entropy] =
      how.num_samples ? draw_several(rows, filters, key, how) : draw(rows, filters, key, how);
  const int64_t batch = how.num_samples ? key.dim() - 1 : 0;
  const auto finished = [&](const Tensor& result, bool wanted) {
    if (!wanted) return result;
    const Tensor dropped = result.squeeze(filters.dim + (how.num_samples ? 1 : 0));
    return batch == 0 ? dropped : dropped.movedim(batch, 0).contiguous();
  };
  return {finished(index, true), finished(log_prob, how.log_prob), finished(entropy, how.entropy)};
}

/// The value of the filtered logits, with the derivative of logits / temperature where they are kept.
Tensor differentiable(const Tensor& value, const Tensor& logits, const Tensor& temperature) {
  const auto type = ops::opmath_type(logits.scalar_type());
  const Tensor kept = value.detach() > -std::numeric_limits<double>::infinity();
  const Tensor x = at::where(kept, logits, 0).to(type);
  const Tensor greedy = temperature.detach() == 0;
  const Tensor quotient = x / at::where(greedy, 1, temperature).to(x.options());
  const Tensor change = (quotient - quotient.detach()).to(value.scalar_type());
  return value + at::where(kept.logical_and(quotient.detach().isfinite()), change, 0);
}

Tensor filter(const Tensor& logits, const Given& given, int64_t dim) {
  const Checked filters = check_filters(kFilter, logits, given, dim);
  const Tensor value = ops::filter_logits().call(logits, filters.temperature, filters.dim,
                                                 filters.top_k, filters.top_p, filters.min_p);
  const bool alone =
      ops::on_fast_path(logits) && !ops::is_differentiated(logits, filters.temperature);
  return alone ? value : differentiable(value, logits, filters.temperature);
}

// The public ops: of numbers, and of tensors.
FilterResult sample_op(const Tensor& logits, int64_t dim, const at::Scalar& temperature,
                       optional<int64_t> top_k, optional<double> top_p, optional<double> min_p,
                       optional<SymInt> num_samples, bool log_prob, bool entropy,
                       optional<at::Generator> generator, const optional<Tensor>& key) {
  return sample(logits,
                {temperature.toDouble(), variant_of(top_k), variant_of(top_p), variant_of(min_p)},
                dim, {std::move(num_samples), log_prob, entropy}, generator, key);
}
FilterResult sample_op_tensor(const Tensor& logits, const Tensor& temperature, int64_t dim,
                              const optional<Tensor>& top_k, const optional<Tensor>& top_p,
                              const optional<Tensor>& min_p, optional<SymInt> num_samples,
                              bool log_prob, bool entropy, optional<at::Generator> generator,
                              const optional<Tensor>& key) {
  return sample(logits,
                {temperature, variant_of_tensor<int64_t>(top_k), variant_of_tensor<double>(top_p),
                 variant_of_tensor<double>(min_p)},
                dim, {std::move(num_samples), log_prob, entropy}, generator, key);
}
Tensor filter_op(const Tensor& logits, int64_t dim, const at::Scalar& temperature,
                 optional<int64_t> top_k, optional<double> top_p, optional<double> min_p) {
  return filter(logits,
                {temperature.toDouble(), variant_of(top_k), variant_of(top_p), variant_of(min_p)},
                dim);
}
Tensor filter_op_tensor(const Tensor& logits, const Tensor& temperature, int64_t dim,
                        const optional<Tensor>& top_k, const optional<Tensor>& top_p,
                        const optional<Tensor>& min_p) {
  return filter(logits,
                {temperature, variant_of_tensor<int64_t>(top_k), variant_of_tensor<double>(top_p),
                 variant_of_tensor<double>(min_p)},
                dim);
}

template <typename Options>
Given given_by(const Options& options) {
  return {options.temperature(), options.top_k(), options.top_p(), options.min_p()};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> sample_logits(const Tensor& logits,
                                                 const SampleLogitsFuncOptions& options) {
  return sample(logits, given_by(options), options.dim(),
                {options.num_samples(), options.return_log_prob(), options.return_entropy()},
                options.generator(), options.key());
}

Tensor filter_logits(const Tensor& logits, const FilterLogitsFuncOptions& options) {
  return filter(logits, given_by(options), options.dim());
}

namespace ops {

void register_sample_logits(torch::Library& m) {
  m.impl("sample_logits", TORCH_FN(sample_op));
  m.impl("sample_logits.tensor_temperature", TORCH_FN(sample_op_tensor));
  m.impl("filter_logits", TORCH_FN(filter_op));
  m.impl("filter_logits.tensor_temperature", TORCH_FN(filter_op_tensor));
}

}  // namespace ops
}  // namespace torch_gumbel
