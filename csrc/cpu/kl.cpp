// SPDX-License-Identifier: Apache-2.0
// The relative entropy of rows on the CPU.
#include <torch/library.h>

#include "../ops/backend.h"
#include "../ops/parallel.h"
#include "kernels.h"
#include "kl_params.h"
#include "scratch.h"

namespace torch_gumbel::cpu {
namespace {

using at::Tensor;
using ops::KlResult;
using std::optional;

using Run = void (*)(const KlParams&, int64_t, int64_t, void*);

void run_on_rows(Run run, KlParams a) {
  if (a.rows.count == 0 || a.rows.classes == 0) return;
  a.plan = make_kl_plan(a.rows, a.type);
  ops::parallel_for(0, a.rows.count, a.plan.grain, [&](int64_t begin, int64_t end) {
    const Scratch scratch(a.plan.scratch_bytes);
    run(a, begin, end, scratch.get());
  });
}

/// All but the values of rows. `operands` own what it points to.
KlParams make_kl_params(const char* who, ops::Operands& operands, bool from_probs) {
  KlParams a;
  a.rows = ops::make_rows(who, operands);
  a.type = ops::dtype_of(who, operands.input);
  a.from_probs = from_probs;
  a.values = operands.input.const_data_ptr();
  if (operands.log_prior.defined()) a.log_prior = operands.log_prior.const_data_ptr();
  if (operands.output.defined()) a.output = operands.output.mutable_data_ptr();
  return a;
}

/// The logarithms of the prior, of the shape of the values and in the opmath type.
Tensor expand_prior(const Tensor& values, const optional<Tensor>& log_prior) {
  if (!log_prior.has_value()) return {};
  return log_prior->to(ops::opmath_type(values.scalar_type())).expand(values.sizes());
}

KlResult kl(const Tensor& values, const optional<Tensor>& log_prior, int64_t dim, bool from_probs) {
  const auto type = ops::opmath_type(values.scalar_type());
  const auto rows = [&] { return ops::empty_rows(values, dim, type); };
  const Tensor kl = rows(), base = rows(), log_sum = rows();
  if (values.numel() == 0)
    for (const Tensor& each : {kl, base, log_sum})
      each.fill_(std::numeric_limits<double>::quiet_NaN());
  ops::Operands operands = {
      .input = values, .log_prior = expand_prior(values, log_prior), .dim = dim};
  KlParams a = make_kl_params("_kl_categorical", operands, from_probs);
  a.kl = kl.mutable_data_ptr(), a.base = base.mutable_data_ptr();
  a.log_sum = log_sum.mutable_data_ptr();
  run_on_rows(selected_kernels().kl, a);
  return {kl, base, log_sum};
}

Tensor kl_backward(const Tensor& grad_rows, const Tensor& values, const Tensor& kl_rows,
                   const Tensor& base_rows, const Tensor& log_sum_rows,
                   const optional<Tensor>& log_prior, int64_t dim, bool from_probs) {
  const auto type = ops::opmath_type(values.scalar_type());
  const auto packed = [&](const Tensor& rows) {
    TORCH_CHECK_VALUE(rows.is_cpu() && rows.sym_sizes().equals(ops::rows_shape(values, dim)),
                      "_kl_categorical_backward: wanted one value per row of ", values.sizes(),
                      ", got shape ", rows.sizes(), " on ", rows.device());
    return rows.to(type).contiguous();
  };
  const Tensor grad = packed(grad_rows), kl = packed(kl_rows), base = packed(base_rows),
               log_sum = packed(log_sum_rows);
  Tensor output = ops::empty_like_shape(values, values.scalar_type());
  ops::Operands operands = {
      .input = values, .log_prior = expand_prior(values, log_prior), .output = output, .dim = dim};
  KlParams a = make_kl_params("_kl_categorical_backward", operands, from_probs);
  // The backward only reads them.
  a.kl = const_cast<void*>(kl.const_data_ptr());
  a.base = const_cast<void*>(base.const_data_ptr());
  a.log_sum = const_cast<void*>(log_sum.const_data_ptr());
  a.grad = grad.const_data_ptr();
  run_on_rows(selected_kernels().kl_backward, a);
  return output;
}

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) {
  m.impl("_kl_categorical", TORCH_FN(kl));
  m.impl("_kl_categorical_backward", TORCH_FN(kl_backward));
}

}  // namespace
}  // namespace torch_gumbel::cpu
