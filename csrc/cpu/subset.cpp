// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples on the CPU: rows shared among threads. More rounds than the kernels run are
// the formula's.
#include "../ops/subset.h"

#include <torch/library.h>

#include "../ops/backend.h"
#include "../ops/parallel.h"
#include "kernels.h"
#include "scratch.h"
#include "subset_params.h"

namespace torch_gumbel::cpu {
namespace {

using at::Tensor;
using ops::TensorPair;

constexpr const char* kForward = "_gumbel_subset";
constexpr const char* kBackward = "_gumbel_subset_backward";

void check_scores(const char* who, const Tensor& scores, int64_t k, int64_t dim) {
  const auto type = scores.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble, who,
                   ": scores must be float32 or float64, got ", type);
  TORCH_CHECK_VALUE(scores.dim() > 0 && dim >= 0 && dim < scores.dim(), who,
                    ": dim must be in [0, ", scores.dim(), "), got ", dim);
  TORCH_CHECK_VALUE(k >= 1 && k <= scores.size(dim), who, ": k must be in [1, ", scores.size(dim),
                    "], got ", k);
}

void run(const char* who, const ops::Operands& operands, int64_t k) {
  const ops::Launch launch = ops::make_params(who, operands);
  const bool backward = operands.grad.defined();
  SubsetCall a;
  static_cast<KernelParams&>(a) = launch.params;
  a.k = k;
  a.plan = make_subset_plan(a, backward);
  const SubsetKernels& kernels = subset_kernels(selected_kernels());
  const auto rows = backward ? kernels.backward : kernels.forward;
  ops::parallel_for(0, a.rows.count, a.plan.grain, [&](int64_t begin, int64_t end) {
    const Scratch scratch(a.plan.scratch_bytes);
    rows(a, begin, end, scratch.get());
  });
}

Tensor forward(const Tensor& scores, const Tensor& tau, int64_t k, int64_t dim) {
  check_scores(kForward, scores, k, dim);
  if (k > math::kMostRounds) return ops::subset_formula(scores, tau, k, dim).contiguous();
  const Tensor result = ops::empty_like_shape(scores, scores.scalar_type());
  if (scores.numel() > 0)
    run(kForward, {.input = scores, .output = result, .tau = tau, .dim = dim}, k);
  return result;
}

TensorPair backward(const Tensor& grad, const Tensor& scores, const Tensor& tau, int64_t k,
                    int64_t dim, bool tau_grad) {
  check_scores(kBackward, scores, k, dim);
  const auto type = scores.scalar_type();
  const Tensor rows = tau_grad ? ops::empty_rows(scores, dim, type) : ops::no_rows(scores);
  if (k > math::kMostRounds) {
    const auto [at_scores, at_tau] = ops::subset_gradient(grad, scores, tau, k, dim);
    return {at_scores.contiguous(), tau_grad ? at_tau : rows};
  }
  const Tensor result = ops::empty_like_shape(scores, type);
  ops::Operands operands = {.input = scores, .grad = grad, .output = result, .tau = tau};
  operands.dim = dim;
  if (tau_grad) operands.row_value = rows;
  if (scores.numel() > 0) run(kBackward, operands, k);
  return {result, rows};
}

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) {
  m.impl(kForward, TORCH_FN(forward));
  m.impl(kBackward, TORCH_FN(backward));
}

}  // namespace
}  // namespace torch_gumbel::cpu
