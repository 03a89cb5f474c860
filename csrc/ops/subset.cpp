// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples and their gradient as ATen formulas, for devices without a kernel of their
// own, for more rounds than kernels run, and for derivatives of the gradient.
#include "subset.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include <limits>

#include "backend.h"

namespace torch_gumbel::ops {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// 1 at the first largest class of each row.
Tensor at_largest(const Tensor& u, int64_t dim) {
  const Tensor index = u.detach().argmax(dim, /*keepdim=*/true);
  c10::SymDimVector along(u.dim(), 1);
  along[dim] = u.sym_size(dim);
  return at::arange(u.sym_size(dim), index.options()).view_symint(along) == index;
}

/// One of the k rounds, made of its scores r, of which at least one is finite.
struct Round {
  Tensor u;        // (r - max r) / tau, -inf where masked
  Tensor a;        // softmax(u)
  Tensor largest;  // the class that has more than half of it, if there is one
  Tensor others;   // u without the largest class

  Round(const Tensor& r, const Tensor& masked, const Tensor& tau, int64_t dim) {
    const Tensor max = at::where(masked, -kInfinity, r.detach()).amax(dim, /*keepdim=*/true);
    u = at::where(masked, -kInfinity, (r - max) / tau);
    a = u.softmax(dim);
    const Tensor first = at_largest(u, dim);
    largest = first.logical_and(a.detach() > 0.5);
    others = at::where(first, -kInfinity, u);
  }

  /// log(1 - a): of the largest class from the others' sum.
  Tensor log_rest(int64_t dim) const {
    const Tensor rest = others.logsumexp(dim, /*keepdim=*/true);
    const Tensor of_largest = rest - u.logsumexp(dim, /*keepdim=*/true);
    return at::where(largest, of_largest, (-at::where(largest, 0, a)).log1p());
  }
};

/// The scores of rows that have a k-hot, and where they are masked.
struct Rows {
  Tensor tau, factor, masked, r;  // factor: NaN for a row without one, 1 for others

  Rows(const Tensor& scores, const Tensor& temperature, int64_t k, int64_t dim) {
    const Tensor valid = (temperature > 0).logical_and(temperature < kInfinity);
    const Tensor here = valid.to(scores.device());
    const Tensor defined = has_subset(scores, k, dim).logical_and(here);
    tau = at::where(valid, temperature, 1).to(scores.device(), scores.scalar_type());
    factor = at::where(defined, 1, kNan).to(scores.scalar_type());
    masked = (scores == -kInfinity).logical_and(defined);
    r = at::where(masked.logical_or(defined.logical_not()), 0, scores);
  }
};

/// The gradient at r / tau of a round; `next`: that at the scores behind it, undefined behind the
/// last one.
Tensor gradient_of_round(const Round& round, const Tensor& grad, const Tensor& next, int64_t dim) {
  const auto sum = [&](const Tensor& x) { return x.sum(dim, /*keepdim=*/true); };
  if (!next.defined()) return round.a * (grad - sum(round.a * grad));
  const Tensor small = at::where(round.largest, 0, round.a);
  const Tensor share = grad - at::where(round.largest, 0, next / (1 - small));
  const Tensor of_largest = at::where(round.largest, next * round.a, 0);
  return round.a * (share - sum(round.a * share)) - of_largest +
         round.others.softmax(dim) * sum(of_largest);
}

TensorPair backward_formula(const Tensor& grad, const Tensor& scores, const Tensor& tau, int64_t k,
                            int64_t dim, bool tau_grad) {
  const auto [at_scores, rows] = subset_gradient(grad, scores, tau, k, dim);
  return {at_scores.contiguous(), tau_grad ? rows : no_rows(scores)};
}

Tensor formula(const Tensor& scores, const Tensor& tau, int64_t k, int64_t dim) {
  return subset_formula(scores, tau, k, dim).contiguous();
}

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeExplicitAutograd, m) {
  m.impl("_gumbel_subset", TORCH_FN(formula));
  m.impl("_gumbel_subset_backward", TORCH_FN(backward_formula));
}

}  // namespace

Tensor has_subset(const Tensor& scores, int64_t k, int64_t dim) {
  const Tensor values = scores.detach();
  const Tensor enough = values.isfinite().sum(dim, /*keepdim=*/true) >= k;
  return enough.logical_and(values.amax(dim, /*keepdim=*/true).isfinite());
}

Tensor subset_formula(const Tensor& scores, const Tensor& tau, int64_t k, int64_t dim) {
  const Rows rows(scores, tau, k, dim);
  Tensor r = rows.r, sum;
  for (int64_t j = 1;; ++j) {
    const Round round(r, rows.masked, rows.tau, dim);
    sum = sum.defined() ? sum + round.a : round.a;
    if (j == k) return sum * rows.factor;
    r = r + round.log_rest(dim);
  }
}

TensorPair subset_gradient(const Tensor& grad, const Tensor& scores, const Tensor& temperature,
                           int64_t k, int64_t dim) {
  const Rows rows(scores, temperature, k, dim);
  std::vector<Round> rounds;
  Tensor r = rows.r;
  for (int64_t j = 1; j <= k; ++j) {
    rounds.emplace_back(r, rows.masked, rows.tau, dim);
    if (j < k) r = r + rounds.back().log_rest(dim);
  }
  const Tensor g = grad.to(r.scalar_type());
  Tensor next, at_tau = rows.factor * 0;
  for (auto round = rounds.rbegin(); round != rounds.rend(); ++round) {
    const Tensor step = gradient_of_round(*round, g, next, dim);
    const Tensor u = at::where(rows.masked, 0, round->u);
    at_tau = at_tau - (step * u).sum(dim, /*keepdim=*/true);
    const Tensor here = step / rows.tau;
    next = next.defined() ? next + here : here;
  }
  return {next * rows.factor, at_tau / rows.tau};
}

}  // namespace torch_gumbel::ops
