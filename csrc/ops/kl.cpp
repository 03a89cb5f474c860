// SPDX-License-Identifier: Apache-2.0
// Relative entropy of rows as ATen formulas, for devices without a kernel of their own and for
// derivatives of the gradient; and its shapes.
#include "kl.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include "backend.h"
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

KlResult meta(const Tensor& values, const optional<Tensor>&, int64_t dim, bool) {
  check_meta(values);
  const auto rows = [&] { return empty_rows(values, dim, opmath_type(values.scalar_type())); };
  return {rows(), rows(), rows()};
}

Tensor backward_meta(const Tensor&, const Tensor& values, const Tensor&, const Tensor&,
                     const Tensor&, const optional<Tensor>&, int64_t, bool) {
  check_meta(values);
  return empty_like_shape(values, values.scalar_type());
}

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeExplicitAutograd, m) {
  m.impl("_kl_categorical", TORCH_FN(formula));
  m.impl("_kl_categorical_backward", TORCH_FN(backward_formula));
}

TORCH_LIBRARY_IMPL(torch_gumbel, Meta, m) {
  m.impl("_kl_categorical", TORCH_FN(meta));
  m.impl("_kl_categorical_backward", TORCH_FN(backward_meta));
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
