// SPDX-License-Identifier: Apache-2.0
// The private ops of relaxed k-hot samples for a backend: allocate the results, make the kernel's
// parameters, run the kernel. More rounds than kernels run are the formula's. A backend gives
//     static void run(const SubsetParams& a, const at::Tensor& on);
#pragma once

#include <torch/library.h>

#include "../math/subset.h"
#include "backend.h"
#include "subset.h"

namespace torch_gumbel::ops {

template <typename Backend>
struct SubsetOps {
  static Tensor forward(const Tensor& scores, const Tensor& tau, int64_t k, int64_t dim) {
    check(kForward, scores, k, dim);
    if (k > math::kMostRounds) return subset_formula(scores, tau, k, dim).contiguous();
    const Tensor result = empty_like_shape(scores, scores.scalar_type());
    if (scores.numel() > 0)
      run(kForward, {.input = scores, .output = result, .tau = tau, .dim = dim}, k);
    return result;
  }

  static TensorPair backward(const Tensor& grad, const Tensor& scores, const Tensor& tau, int64_t k,
                             int64_t dim, bool tau_grad) {
    check(kBackward, scores, k, dim);
    const auto type = scores.scalar_type();
    const Tensor rows = tau_grad ? empty_rows(scores, dim, type) : no_rows(scores);
    if (k > math::kMostRounds) {
      const auto [at_scores, at_tau] = subset_gradient(grad, scores, tau, k, dim);
      return {at_scores.contiguous(), tau_grad ? at_tau : rows};
    }
    const Tensor result = empty_like_shape(scores, type);
    Operands operands = {.input = scores, .grad = grad, .output = result, .tau = tau};
    operands.dim = dim;
    if (tau_grad) operands.row_value = rows;
    if (scores.numel() > 0) run(kBackward, operands, k);
    return {result, rows};
  }

  static void register_on(torch::Library& m) {
    m.impl(kForward, TORCH_FN(forward));
    m.impl(kBackward, TORCH_FN(backward));
  }

 private:
  static constexpr const char* kForward = "_gumbel_subset";
  static constexpr const char* kBackward = "_gumbel_subset_backward";

  static void check(const char* who, const Tensor& scores, int64_t k, int64_t dim) {
    const auto type = scores.scalar_type();
    TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble, who,
                     ": scores must be float32 or float64, got ", type);
    TORCH_CHECK_VALUE(scores.dim() > 0 && dim >= 0 && dim < scores.dim(), who,
                      ": dim must be in [0, ", scores.dim(), "), got ", dim);
    TORCH_CHECK_VALUE(k >= 1 && k <= scores.size(dim), who, ": k must be in [1, ", scores.size(dim),
                      "], got ", k);
  }

  static void run(const char* who, const Operands& operands, int64_t k) {
    const Launch launch = make_params(who, operands);
    SubsetParams a;
    static_cast<KernelParams&>(a) = launch.params;
    a.k = k;
    Backend::run(a, operands.input);
  }
};

}  // namespace torch_gumbel::ops
