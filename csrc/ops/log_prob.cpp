// SPDX-License-Identifier: Apache-2.0
// Public op log_prob_entropy; and it and its gradient as ATen formulas, for devices without a
// kernel of their own and for derivatives of the gradient.
#include "log_prob.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>
#include <torch_gumbel/log_prob.h>

#include <limits>

#include "backend.h"
#include "checks.h"
#include "estimators.h"
#include "params.h"

namespace torch_gumbel::ops {
namespace {

using std::optional;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// A row's classes are along `dim`; a masked class is kept out of what would make NaN of it.
struct Terms {
  Tensor masked, log_p, p;  // log_p: 0 where masked

  Terms(const Tensor& logits, const Tensor& temperature, int64_t dim) {
    const Tensor x = logits.to(opmath_type(logits.scalar_type()));
    const Tensor tau =
        at::where((temperature > 0).logical_and(temperature < kInfinity), temperature, kNan)
            .to(x.scalar_type())
            .to(x.device());
    masked = x == -kInfinity;
    const Tensor scaled = at::where(masked, -kInfinity, at::where(masked, 0, x) / tau);
    const Tensor all = scaled.log_softmax(dim);
    p = all.exp();
    log_p = at::where(masked.logical_and(p == 0), 0, all);
  }
};

/// 1 at the class of each row, 0 elsewhere, and everywhere in a row whose index is out of range.
Tensor chosen_mask(const Tensor& logits, const Tensor& index, int64_t dim) {
  if (logits.dim() == 0) return index == 0;
  c10::SymDimVector along(logits.dim(), 1);
  along[dim] = logits.sym_size(dim);
  return at::arange(logits.sym_size(dim), index.options()).view_symint(along) == index;
}

LogProbResult formula(const Tensor& logits, const Tensor& index, const Tensor& temperature,
                      int64_t dim) {
  check_choices("_log_prob_entropy", index, logits, dim);
  const Terms terms(logits, temperature, dim);
  const auto sum = [&](const Tensor& values) { return values.sum(dim, /*keepdim=*/true); };
  const Tensor mask = chosen_mask(logits, index, dim), inside = mask.any(dim, /*keepdim=*/true);
  const Tensor x = logits.to(terms.p.scalar_type());
  const Tensor largest = x.amax(dim, /*keepdim=*/true), max = at::where(inside, largest, kNan);
  const Tensor entropy = at::where(inside, -sum(terms.p * terms.log_p), kNan);
  const Tensor at_choice = sum(at::where(mask, terms.log_p, 0));
  const Tensor is_masked = mask.logical_and(terms.masked).any(dim, /*keepdim=*/true);
  const Tensor finite = entropy == entropy;
  const Tensor log_prob =
      at::where(is_masked.logical_and(finite), -kInfinity, at::where(finite, at_choice, kNan));
  const Tensor d = at::where(terms.masked, 0, x - max);
  const Tensor weights = at::where(finite, 1 / terms.p.amax(dim, /*keepdim=*/true), kNan);
  return {log_prob, entropy, max, at::where(max == -kInfinity, 0, weights), sum(terms.p * d)};
}

TensorPair backward_formula(const optional<Tensor>& grad_log_prob,
                            const optional<Tensor>& grad_entropy, const Tensor& logits,
                            const Tensor& index, const Tensor& temperature, const Tensor&,
                            const Tensor&, const Tensor&, int64_t dim, bool temperature_grad) {
  const auto [at_logits, rows] =
      log_prob_gradient(grad_log_prob.value_or(Tensor()), grad_entropy.value_or(Tensor()), logits,
                        index, temperature, dim);
  return {at_logits.contiguous(), temperature_grad ? rows : no_rows(logits)};
}

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeExplicitAutograd, m) {
  m.impl("_log_prob_entropy", TORCH_FN(formula));
  m.impl("_log_prob_entropy_backward", TORCH_FN(backward_formula));
}

}  // namespace

TensorPair log_prob_gradient(const Tensor& grad_log_prob, const Tensor& grad_entropy,
                             const Tensor& logits, const Tensor& index, const Tensor& temperature,
                             int64_t dim) {
  const Terms terms(logits, temperature, dim);
  const auto sum = [&](const Tensor& values) { return values.sum(dim, /*keepdim=*/true); };
  const Tensor& p = terms.p;
  const Tensor tau = temperature.to(p.scalar_type()).to(p.device());
  const Tensor u = terms.log_p - sum(p * terms.log_p);  // log p + H
  const Tensor mask = chosen_mask(logits, index, dim);
  Tensor at_logits = at::zeros_like(p), rows = at::zeros_like(sum(p));
  if (grad_log_prob.defined()) {
    const Tensor is_masked = mask.logical_and(terms.masked).any(dim, /*keepdim=*/true);
    const Tensor a = at::where(is_masked, 0, grad_log_prob.to(p.scalar_type()));
    at_logits = at_logits + a * (mask.to(p.scalar_type()) - p);
    rows = rows - a * sum(at::where(mask, u, 0));
  }
  if (grad_entropy.defined()) {
    const Tensor b = grad_entropy.to(p.scalar_type());
    at_logits = at_logits - b * p * u;
    rows = rows + b * sum(p * u * u);
  }
  return {(at_logits / tau).to(logits.scalar_type()), rows / tau};
}

}  // namespace torch_gumbel::ops

namespace torch_gumbel {
namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;

constexpr const char* kName = "log_prob_entropy";

/// One class per row, with size 1 at `dim`.
Tensor index_of_rows(const Tensor& index, const Tensor& logits, int64_t dim) {
  TORCH_CHECK_TYPE(index.defined() && index.scalar_type() == at::kLong, kName,
                   ": index must be an int64 tensor, got ",
                   index.defined() ? c10::toString(index.scalar_type()) : "an undefined one");
  TORCH_CHECK_TYPE(index.layout() == at::kStrided, kName,
                   ": index must be a strided tensor, got layout ", index.layout());
  TORCH_CHECK_VALUE(index.device() == logits.device(), kName, ": index must be on ",
                    logits.device(), ", got ", index.device());
  auto rows = c10::SymDimVector(logits.sym_sizes().begin(), logits.sym_sizes().end());
  if (!rows.empty()) rows.erase(rows.begin() + dim);
  TORCH_CHECK_VALUE(index.sym_sizes().equals(rows), kName, ": index must have shape ",
                    c10::SymIntArrayRef(rows), ", that of logits of shape ", logits.sym_sizes(),
                    " without dim ", dim, ", got ", index.sym_sizes());
  return logits.dim() == 0 ? index : index.unsqueeze(dim);
}

Pair of_rows(const Tensor& logits, const Tensor& index, const Tensor& temperature, int64_t dim) {
  checks::has_classes(kName, logits, dim);
  const auto results =
      ops::log_prob().call(logits, index_of_rows(index, logits, dim), temperature, dim);
  return {std::get<0>(results).squeeze(dim), std::get<1>(results).squeeze(dim)};
}

Pair public_op(const Tensor& logits, const Tensor& index, int64_t dim,
               const at::Scalar& temperature) {
  checks::logits(kName, logits);
  checks::temperature(kName, "temperature", temperature.toDouble());
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return of_rows(logits, index, at::scalar_tensor(temperature, at::kDouble), wrapped);
}

Pair public_op_tensor(const Tensor& logits, const Tensor& index, const Tensor& temperature,
                      int64_t dim) {
  checks::logits(kName, logits);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return of_rows(logits, index,
                 checks::temperature(kName, "temperature", temperature, logits, wrapped), wrapped);
}

}  // namespace

Pair log_prob_entropy(const Tensor& logits, const Tensor& index, int64_t dim, double temperature) {
  return public_op(logits, index, dim, temperature);
}

Pair log_prob_entropy(const Tensor& logits, const Tensor& index, const Tensor& temperature,
                      int64_t dim) {
  return public_op_tensor(logits, index, temperature, dim);
}

namespace ops {

void register_log_prob(torch::Library& m) {
  m.impl("log_prob_entropy", TORCH_FN(public_op));
  m.impl("log_prob_entropy.tensor_temperature", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
