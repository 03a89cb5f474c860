// SPDX-License-Identifier: Apache-2.0
// The private ops of log-probabilities and entropies for a backend: allocate the results, make the
// kernel's parameters, run the kernel. A backend gives
//     static void check_index(const at::Tensor& index, int64_t classes);
//     static void run(bool backward, const LogProbParams& params, const at::Tensor& on);
#pragma once

#include <limits>

#include "../math/log_prob.h"
#include "backend.h"
#include "log_prob.h"

namespace torch_gumbel::ops {

template <typename Backend>
struct LogProbOps {
  static LogProbResult forward(const Tensor& logits, const Tensor& index, const Tensor& temperature,
                               int64_t dim) {
    constexpr const char* kName = "_log_prob_entropy";
    const auto type = opmath_type(logits.scalar_type());
    const auto rows = [&] { return empty_rows(logits, dim, type); };
    const LogProbResult results = {rows(), rows(), rows(), rows(), rows()};
    const auto& [log_prob, entropy, max, sum, mean] = results;
    if (logits.numel() == 0) {
      for (const Tensor& each : {log_prob, entropy, max, sum, mean})
        each.fill_(std::numeric_limits<double>::quiet_NaN());
      return results;
    }
    check_choices(kName, index, logits, dim);
    Backend::check_index(index, logits.dim() == 0 ? 1 : logits.size(dim));
    const Operands given = operands(logits, index, temperature, dim);
    const Launch launch = make_params(kName, given);
    LogProbParams a;
    static_cast<KernelParams&>(a) = launch.params;
    a.log_prob = log_prob.mutable_data_ptr(), a.entropy = entropy.mutable_data_ptr();
    a.max = max.mutable_data_ptr(), a.sum = sum.mutable_data_ptr();
    a.mean = mean.mutable_data_ptr();
    Backend::run(/*backward=*/false, a, logits);
    return results;
  }

  static TensorPair backward(const std::optional<Tensor>& grad_log_prob,
                             const std::optional<Tensor>& grad_entropy, const Tensor& logits,
                             const Tensor& index, const Tensor& temperature, const Tensor& max_rows,
                             const Tensor& sum_rows, const Tensor& mean_rows, int64_t dim,
                             bool temperature_grad) {
    constexpr const char* kName = "_log_prob_entropy_backward";
    check_choices(kName, index, logits, dim);
    const auto packed = [&](const Tensor& rows) { return packed_rows(kName, rows, logits, dim); };
    const auto packed_or_none = [&](const std::optional<Tensor>& rows) {
      return rows.has_value() ? packed(*rows) : Tensor();
    };
    const Tensor at_log_prob = packed_or_none(grad_log_prob),
                 at_entropy = packed_or_none(grad_entropy);
    const Tensor max = packed(max_rows), sum = packed(sum_rows), mean = packed(mean_rows);
    Operands given = operands(logits, index, temperature, dim);
    given.output = empty_like_shape(logits, logits.scalar_type());
    if (temperature_grad)
      given.row_value = empty_rows(logits, dim, opmath_type(logits.scalar_type()));
    const Tensor at_temperature = temperature_grad ? given.row_value : no_rows(logits);
    if (logits.numel() == 0) {
      if (temperature_grad) at_temperature.zero_();
      return {given.output, at_temperature};
    }
    const Launch launch = make_params(kName, given);
    LogProbParams a;
    static_cast<KernelParams&>(a) = launch.params;
    // The backward only reads them.
    a.max = const_cast<void*>(max.const_data_ptr());
    a.sum = const_cast<void*>(sum.const_data_ptr());
    a.mean = const_cast<void*>(mean.const_data_ptr());
    a.grad_log_prob = at_log_prob.defined() ? at_log_prob.const_data_ptr() : nullptr;
    a.grad_entropy = at_entropy.defined() ? at_entropy.const_data_ptr() : nullptr;
    Backend::run(/*backward=*/true, a, logits);
    return {given.output, at_temperature};
  }

  static void register_on(torch::Library& m) {
    m.impl("_log_prob_entropy", TORCH_FN(forward));
    m.impl("_log_prob_entropy_backward", TORCH_FN(backward));
  }

 private:
  /// One value per row, contiguous, of the opmath type.
  static Tensor packed_rows(const char* who, const Tensor& rows, const Tensor& logits,
                            int64_t dim) {
    TORCH_CHECK_VALUE(
        rows.device() == logits.device() && rows.sym_sizes().equals(rows_shape(logits, dim)), who,
        ": wanted one value per row of ", logits.sizes(), ", got shape ", rows.sizes(), " on ",
        rows.device());
    return rows.to(opmath_type(logits.scalar_type())).contiguous();
  }

  static Operands operands(const Tensor& logits, const Tensor& index, const Tensor& temperature,
                           int64_t dim) {
    return {.input = logits, .tau = temperature, .index = index.contiguous(), .dim = dim};
  }
};

}  // namespace torch_gumbel::ops
