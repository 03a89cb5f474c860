// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples as ATen formulas.
#include "subset.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/where.h>

#include <limits>

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

/// One of the k rounds, made of its scores r, of which at least two are finite.
struct Round {
  Tensor u;        // (r - max r) / tau, -inf where masked
  Tensor a;        // softmax(u)
  Tensor largest;  // the one class that may have more than half of it, where it does
  Tensor others;   // u without that class

  Round(const Tensor& r, const Tensor& masked, const Tensor& tau, int64_t dim) {
    const Tensor open = at::where(masked, -kInfinity, r);
    const Tensor max = open.detach().amax(dim, /*keepdim=*/true);
    u = at::where(masked, -kInfinity, (r - max) / tau);
    a = u.softmax(dim);
    const Tensor first = at_largest(u, dim);
    largest = first.logical_and(a.detach() > 0.5);
    others = at::where(first, -kInfinity, u);
  }

  /// log(1 - a), where 1 - a does not cancel: of the largest class, from the others' sum.
  Tensor log_rest(int64_t dim) const {
    const Tensor rest = others.logsumexp(dim, /*keepdim=*/true);
    const Tensor of_largest = rest - rest.exp().log1p();  // its u is 0
    return at::where(largest, of_largest, (-at::where(largest, 0, a)).log1p());
  }
};

}  // namespace

Tensor has_subset(const Tensor& scores, int64_t k, int64_t dim) {
  const Tensor values = scores.detach();
  const Tensor enough = values.isfinite().sum(dim, /*keepdim=*/true) >= k;
  return enough.logical_and(values.amax(dim, /*keepdim=*/true).isfinite());
}

Tensor subset_formula(const Tensor& scores, const Tensor& temperature, int64_t k, int64_t dim) {
  const Tensor defined = has_subset(scores, k, dim);
  const Tensor valid = (temperature > 0).logical_and(temperature < kInfinity);
  const Tensor tau = at::where(valid, temperature, kNan).to(scores.device(), scores.scalar_type());
  const Tensor masked = (scores == -kInfinity).logical_and(defined);
  Tensor r = at::where(masked.logical_or(defined.logical_not()), 0, scores), sum;
  for (int64_t round = 1;; ++round) {
    const Round here(r, masked, tau, dim);
    sum = sum.defined() ? sum + here.a : here.a;
    if (round == k) return at::where(defined, sum, kNan);
    r = r + here.log_rest(dim);
  }
}

}  // namespace torch_gumbel::ops
