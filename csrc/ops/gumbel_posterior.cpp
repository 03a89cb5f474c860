// SPDX-License-Identifier: Apache-2.0
// Public op gumbel_posterior: perturbed logits given the class of the largest.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/nextafter.h>
#include <ATen/ops/where.h>
#include <torch/library.h>
#include <torch_gumbel/conditional.h>

#include <limits>

#include "checks.h"
#include "keys.h"
#include "ops.h"
#include "params.h"
#include "results.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "gumbel_posterior";
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// What is known of a row's perturbed logits, along a dimension of their own.
struct Outcome {
  Tensor index;           // of size 1 at dim
  optional<Tensor> most;  // broadcasts to rows
};

/// 1 at the class of each row; nowhere in a row whose index is out of range.
Tensor at_index(const Tensor& logits, const Tensor& index, int64_t dim) {
  c10::SymDimVector along(logits.dim(), 1);
  along[dim] = logits.sym_size(dim);
  return at::arange(logits.sym_size(dim), index.options()).view_symint(along) == index;
}

/// The largest of a row, M, is log sum exp(logits) + the noise of its class. Of another class,
/// -log(exp(-logit - noise) + exp(-M)) is truncated below M. Both in logarithms, so that nothing
/// overflows. What is infinite is kept out of sums, whose derivatives would be NaN.
Tensor conditional(const Tensor& logits, const Tensor& noise, const Outcome& given, int64_t dim) {
  const Tensor x = logits.to(noise.scalar_type()), masked = x == -kInfinity;
  const Tensor chosen = at_index(x, given.index, dim);
  const Tensor possible = chosen.logical_and(masked.logical_not()).any(dim, /*keepdim=*/true);
  const Tensor defined = x.amax(dim, /*keepdim=*/true).isfinite().logical_and(possible);
  const Tensor finite = at::where(masked.logical_or(defined.logical_not()), 0, x);
  const Tensor open = at::where(defined, x, 0);
  Tensor most = given.most.has_value() ? given.most->to(x.device(), x.scalar_type())
                                       : open.logsumexp(dim, /*keepdim=*/true) +
                                             at::where(chosen, noise, 0).sum(dim, /*keepdim=*/true);
  const Tensor real = most.isfinite();
  most = at::where(real, most, 0);
  const Tensor others = -at::logaddexp(-(finite + noise), -most);
  const Tensor held = most.detach(),
               step = at::nextafter(held, at::full_like(held, -kInfinity)) - held;
  const Tensor below = at::where(others < most, others, most + step);
  const Tensor row = at::where(chosen, most, at::where(masked, -kInfinity, below));
  return at::where(defined.logical_and(real), row, kNan);
}

/// One class per row, with size 1 at `dim`.
Tensor index_of_rows(const Tensor& index, const Tensor& logits, int64_t dim) {
  TORCH_CHECK_TYPE(index.defined() && index.scalar_type() == at::kLong, kName,
                   ": index must be an int64 tensor, got ",
                   index.defined() ? c10::toString(index.scalar_type()) : "an undefined one");
  TORCH_CHECK_VALUE(index.device() == logits.device(), kName, ": index must be on ",
                    logits.device(), ", got ", index.device());
  auto rows = c10::SymDimVector(logits.sym_sizes().begin(), logits.sym_sizes().end());
  rows.erase(rows.begin() + dim);
  TORCH_CHECK_VALUE(index.sym_sizes().equals(rows), kName, ": index must have shape ",
                    c10::SymIntArrayRef(rows), ", that of logits of shape ", logits.sym_sizes(),
                    " without dim ", dim, ", got ", index.sym_sizes());
  return index.unsqueeze(dim);
}

/// `value` repeated along a new dimension at `at`, after the dimensions of the keys; for what
/// broadcasts to logits of `rank` dimensions, only where it reaches them.
Tensor among_samples(const Tensor& value, int64_t rank, int64_t batch) {
  const int64_t unbatched = rank - batch;
  return value.dim() > unbatched ? value.unsqueeze(value.dim() - unbatched) : value;
}

Tensor draw(const Tensor& logits, const Outcome& given, int64_t dim,
            const optional<c10::SymInt>& num_samples, const Tensor& key) {
  const auto noise_of = [&](const Tensor& like) {
    return ops::noise().call(like, key, std::nullopt, std::nullopt);
  };
  if (!num_samples) return conditional(logits, noise_of(logits.detach()), given, dim);
  const int64_t rank = logits.dim(), batch = key.dim() - 1;
  c10::SymDimVector shape(logits.sym_sizes().begin(), logits.sym_sizes().end());
  shape.insert(shape.begin() + batch, *num_samples);
  const Tensor repeated = logits.unsqueeze(batch).expand_symint(shape);
  Outcome each = {given.index.unsqueeze(batch), std::nullopt};
  if (given.most) each.most = among_samples(*given.most, rank, batch);
  const Tensor result = conditional(repeated, noise_of(repeated.detach()), each, dim + 1);
  return batch == 0 ? result : result.movedim(batch, 0).contiguous();
}

Tensor public_op(const Tensor& given_logits, const Tensor& given_index, int64_t dim,
                 const optional<Tensor>& max_value, optional<c10::SymInt> num_samples,
                 optional<at::Generator> generator, const optional<Tensor>& given_key) {
  checks::logits(kName, given_logits);
  const bool scalar = given_logits.dim() == 0;
  const Tensor logits = scalar ? given_logits.unsqueeze(-1) : given_logits;
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  checks::has_classes(kName, logits, wrapped);
  Outcome given = {index_of_rows(given_index, logits, wrapped), std::nullopt};
  if (max_value) given.most = checks::temperature(kName, "max_value", *max_value, logits, wrapped);
  if (num_samples) checks::count(kName, "num_samples", *num_samples);
  checks::source(kName, logits, generator, given_key);
  const auto type = ops::opmath_type(logits.scalar_type());
  const c10::SymInt times = num_samples.value_or(1) * logits.sym_size(wrapped);
  const Tensor key = ops::key_of_call(kName, logits, wrapped, generator, given_key,
                                      {ops::bytes_of_rows(logits, wrapped, type, times),
                                       ops::bytes_of_rows(logits, wrapped, type, times)});
  const Tensor result = draw(logits, given, wrapped, num_samples, key);
  return scalar ? result.squeeze(-1) : result;
}

}  // namespace

Tensor gumbel_posterior(const Tensor& logits, const Tensor& index, int64_t dim,
                        const optional<Tensor>& max_value, optional<int64_t> num_samples,
                        optional<at::Generator> generator, const optional<Tensor>& key) {
  return public_op(logits, index, dim, max_value, num_samples, std::move(generator), key);
}

namespace ops {

void register_gumbel_posterior(torch::Library& m) {
  m.impl("gumbel_posterior", TORCH_FN(public_op));
}

}  // namespace ops

}  // namespace torch_gumbel
