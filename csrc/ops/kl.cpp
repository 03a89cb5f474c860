// SPDX-License-Identifier: Apache-2.0
// Public ops kl_categorical, categorical_elbo, and perplexity; and the relative entropy of rows as
// ATen formulas, for devices without a kernel of their own and for derivatives of the gradient.
#include "kl.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>
#include <torch/library.h>
#include <torch_gumbel/information.h>

#include "checks.h"
#include "params.h"
#include "probabilities.h"

namespace torch_gumbel::ops {
namespace {

using std::optional;

Tensor logits_of(const Tensor& values, bool from_probs) {
  return from_probs ? log_probabilities(values) : values.to(opmath_type(values.scalar_type()));
}

struct Terms {
  Tensor q, log_ratio;  // log q - log prior, 0 where q is 0
};

Terms terms_of(const Tensor& logits, const optional<Tensor>& log_prior, int64_t dim) {
  const Tensor log_q = logits.log_softmax(dim), q = log_q.exp();
  const Tensor log_p =
      log_prior.has_value()
          ? log_prior->to(logits.scalar_type())
          : -at::full({}, at::Scalar(logits.sym_size(dim)), logits.options()).log();
  return {q, at::where(q == 0, 0, log_q - log_p)};
}

KlResult formula(const Tensor& values, const optional<Tensor>& log_prior, int64_t dim,
                 bool from_probs) {
  const Tensor logits = logits_of(values, from_probs);
  const auto [q, log_ratio] = terms_of(logits, log_prior, dim);
  const Tensor kl = (q * log_ratio).sum(dim, /*keepdim=*/true).clamp_min(0);
  if (from_probs) {
    const Tensor sum = values.to(logits.scalar_type()).sum(dim, /*keepdim=*/true);
    return {kl, sum, sum.log()};
  }
  const Tensor largest = logits.amax(dim, /*keepdim=*/true);
  return {kl, largest, (logits - largest).logsumexp(dim, /*keepdim=*/true)};
}

Tensor backward_formula(const Tensor& grad_rows, const Tensor& values, const Tensor&, const Tensor&,
                        const Tensor&, const optional<Tensor>& log_prior, int64_t dim,
                        bool from_probs) {
  return kl_gradient(grad_rows, values, log_prior, dim, from_probs).contiguous();
}

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeExplicitAutograd, m) {
  m.impl("_kl_categorical", TORCH_FN(formula));
  m.impl("_kl_categorical_backward", TORCH_FN(backward_formula));
}

}  // namespace

Tensor kl_probabilities(const Tensor& values, int64_t dim, bool from_probs) {
  return logits_of(values, from_probs).softmax(dim);
}

Tensor kl_gradient(const Tensor& grad_rows, const Tensor& values,
                   const std::optional<Tensor>& log_prior, int64_t dim, bool from_probs) {
  const Tensor logits = logits_of(values, from_probs);
  const auto [q, log_ratio] = terms_of(logits, log_prior, dim);
  const Tensor centred = log_ratio - (q * log_ratio).sum(dim, /*keepdim=*/true);
  Tensor gradient = grad_rows.to(logits.scalar_type()) * at::where(q == 0, 0, q * centred);
  if (from_probs) {
    const Tensor p = values.to(logits.scalar_type()), zero = p == 0;
    gradient = at::where(zero, 0, gradient / at::where(zero, 1, p));
  }
  return gradient.to(values.scalar_type());
}

}  // namespace torch_gumbel::ops

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

/// A prior that broadcasts against the values: one of a single dimension lies along `dim`.
Tensor aligned(const char* who, const Tensor& prior, const Tensor& values, int64_t dim) {
  checks::values(who, "prior", prior);
  const auto wanted = values.sym_sizes();
  const int64_t rank = values.dim();
  Tensor along = prior;
  if (prior.dim() == 1) {
    c10::SymDimVector shape(rank - dim, 1);
    shape[0] = prior.sym_size(0);
    along = prior.view_symint(shape);
  }
  const auto given = along.sym_sizes();
  const int64_t excess = rank - along.dim();
  bool fits = excess >= 0 && dim >= excess && given[dim - excess] == wanted[dim];
  for (int64_t i = 0; fits && i < along.dim(); ++i)
    fits = given[i] == 1 || given[i] == wanted[i + excess];
  TORCH_CHECK_VALUE(fits, who, ": prior must have shape [", wanted[dim],
                    "], or broadcast against shape ", wanted, " with all classes at dim ", dim,
                    ", got shape ", prior.sym_sizes());
  TORCH_CHECK_VALUE(prior.device() == values.device(), who, ": prior must be on ", values.device(),
                    ", got ", prior.device());
  return along;
}

/// log(prior / its sum), in the opmath type of the values.
optional<Tensor> log_prior_of(const char* who, const optional<Tensor>& prior, const Tensor& values,
                              int64_t dim) {
  if (!prior) return std::nullopt;
  const Tensor along = aligned(who, *prior, values, dim);
  const Tensor wide = along.to(ops::opmath_type(values.scalar_type()));
  // Relative to the largest, so that neither sum nor logarithm leaves the range of the type.
  const int64_t classes = dim - values.dim();
  const Tensor relative = wide / wide.detach().amax(classes, /*keepdim=*/true);
  return ops::log_probabilities(relative) - relative.sum(classes, /*keepdim=*/true).log();
}

/// KL of every row; a 0-d tensor is a row of one class.
Tensor rows_of(const char* who, const Tensor& values, const optional<Tensor>& prior, int64_t dim,
               bool from_probs) {
  if (values.dim() == 0) return rows_of(who, values.unsqueeze(-1), prior, 0, from_probs);
  checks::has_classes(who, values, dim);
  const auto result =
      ops::kl().call(values, log_prior_of(who, prior, values, dim), dim, from_probs);
  return std::get<0>(result).squeeze(dim);
}

Tensor kl_public_op(const optional<Tensor>& logits, const optional<Tensor>& probs,
                    const optional<Tensor>& prior, int64_t dim) {
  constexpr const char* kName = "kl_categorical";
  TORCH_CHECK_VALUE(logits.has_value() != probs.has_value(), kName,
                    ": wanted logits or probs, got ", logits.has_value() ? "both" : "neither");
  const Tensor& values = logits ? *logits : *probs;
  checks::values(kName, logits ? "logits" : "probs", values);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, values.dim());
  return rows_of(kName, values, prior, wrapped, probs.has_value());
}

Tensor elbo_public_op(const Tensor& log_likelihood, const Tensor& logits,
                      const optional<Tensor>& prior) {
  constexpr const char* kName = "categorical_elbo";
  checks::values(kName, "log_likelihood", log_likelihood);
  checks::logits(kName, logits);
  const auto batch = log_likelihood.sym_sizes(), shape = logits.sym_sizes();
  bool leads = batch.size() < shape.size();
  for (size_t i = 0; leads && i < batch.size(); ++i) leads = batch[i] == shape[i];
  TORCH_CHECK_VALUE(leads, kName,
                    ": log_likelihood must have the leading sizes of logits of shape ", shape,
                    ", without the classes, got shape ", batch);
  const int64_t last = logits.dim() - 1;
  const Tensor kl = rows_of(kName, logits, prior, last, false);
  const auto first_latent = static_cast<int64_t>(batch.size());
  return log_likelihood - (first_latent < last ? kl.flatten(first_latent).sum(-1) : kl);
}

Tensor perplexity_public_op(const Tensor& codes, int64_t dim, at::OptionalIntArrayRef over) {
  constexpr const char* kName = "perplexity";
  checks::values(kName, "codes", codes);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, codes.dim());
  checks::has_classes(kName, codes, wrapped);
  c10::SmallVector<int64_t, 8> averaged;
  for (int64_t i = 0; !over.has_value() && i < codes.dim(); ++i)
    if (i != wrapped) averaged.push_back(i);
  if (over.has_value())
    for (const int64_t each : *over)
      averaged.push_back(checks::wrapped_dim(kName, each, codes.dim()));
  for (const int64_t each : averaged)
    TORCH_CHECK_VALUE(each != wrapped, kName, ": over must not name the class dimension ", wrapped);
  const Tensor wide = codes.to(ops::opmath_type(codes.scalar_type()));
  const Tensor mean = averaged.empty() ? wide : wide.mean(averaged, /*keepdim=*/true);
  // The entropy is log K - KL to the uniform distribution, which is finite and differentiable at 0
  // log 0.
  const Tensor kl = rows_of(kName, mean, std::nullopt, wrapped, true);
  const at::Scalar classes = codes.dim() == 0 ? at::Scalar(1) : at::Scalar(codes.sym_size(wrapped));
  const Tensor value = (-kl).exp() * at::full({}, classes, kl.options());
  c10::SymDimVector shape;
  for (int64_t i = 0; i < codes.dim(); ++i) {
    bool gone = i == wrapped;
    for (const int64_t each : averaged) gone |= each == i;
    if (!gone) shape.push_back(codes.sym_size(i));
  }
  return value.reshape_symint(shape);
}

}  // namespace

Tensor kl_categorical(const optional<Tensor>& logits, const optional<Tensor>& probs,
                      const optional<Tensor>& prior, int64_t dim) {
  return kl_public_op(logits, probs, prior, dim);
}

Tensor categorical_elbo(const Tensor& log_likelihood, const Tensor& logits,
                        const optional<Tensor>& prior) {
  return elbo_public_op(log_likelihood, logits, prior);
}

Tensor perplexity(const Tensor& codes, int64_t dim, at::OptionalIntArrayRef over) {
  return perplexity_public_op(codes, dim, over);
}

namespace ops {

void register_kl(torch::Library& m) {
  m.impl("kl_categorical", TORCH_FN(kl_public_op));
  m.impl("categorical_elbo", TORCH_FN(elbo_public_op));
  m.impl("perplexity", TORCH_FN(perplexity_public_op));
}

}  // namespace ops

}  // namespace torch_gumbel
