// SPDX-License-Identifier: Apache-2.0
// The private ops of filtered draws for a backend: allocate the results, make the kernel's
// parameters, run the kernel. A backend gives
//     static constexpr bool kAlongClasses;  // whether classes must lie next to each other
//     static void run(const FilterParams& params, const at::Tensor& on);
#pragma once

#include <vector>

#include "../math/filter.h"
#include "backend.h"
#include "filter.h"

namespace torch_gumbel::ops {

template <typename Backend>
struct FilterOps {
  static FilterResult sample(const Tensor& logits, const Tensor& temperature, const Tensor& key,
                             int64_t dim, const std::optional<Tensor>& top_k,
                             const std::optional<Tensor>& top_p, const std::optional<Tensor>& min_p,
                             bool log_prob, bool entropy, at::OptionalIntArrayRef full_shape,
                             at::OptionalIntArrayRef start) {
    constexpr const char* kName = "_sample_logits";
    const auto type = opmath_type(logits.scalar_type());
    const Tensor index = empty_choices(logits, dim, /*keepdim=*/true, at::kLong);
    const auto rows = [&](bool wanted) {
      return wanted ? empty_rows(logits, dim, type) : no_rows(logits);
    };
    const Tensor log_probs = rows(log_prob), entropies = rows(entropy);
    checks::has_classes(kName, logits, dim);
    Operands operands = {.input = placed(logits, dim),
                         .tau = temperature,
                         .key = key,
                         .index = index,
                         .dim = dim,
                         .full_shape = full_shape,
                         .start = start};
    if (log_prob) operands.row_value = log_probs;
    Call call(kName, operands, {top_k, top_p, min_p});
    if (entropy) call.params.entropy = entropies.mutable_data_ptr();
    call.run();
    return {index, log_probs, entropies};
  }

  static Tensor filter(const Tensor& logits, const Tensor& temperature, int64_t dim,
                       const std::optional<Tensor>& top_k, const std::optional<Tensor>& top_p,
                       const std::optional<Tensor>& min_p) {
    const Tensor output = empty_like_shape(logits, logits.scalar_type());
    rows_shape(logits, dim);
    const Operands operands = {
        .input = placed(logits, dim), .output = output, .tau = temperature, .dim = dim};
    Call("_filter_logits", operands, {top_k, top_p, min_p}).run();
    return output;
  }

  static void register_on(torch::Library& m) {
    m.impl("_sample_logits", TORCH_FN(sample));
    m.impl("_filter_logits", TORCH_FN(filter));
  }

 private:
  /// The parameters of a call, and the tensors that they point into.
  struct Call {
    const Tensor on;
    Launch launch;
    FilterParams params;
    std::vector<Tensor> filters;

    Call(const char* who, const Operands& operands, const Filters& given) : on(operands.input) {
      launch = make_params(who, operands);
      static_cast<KernelParams&>(params) = launch.params;
      const auto take = [&](const char* name, const std::optional<Tensor>& filter, auto& to,
                            ScalarType type) {
        if (filter.has_value()) place(who, name, *filter, operands, to, type);
      };
      take("top_k", given.top_k, params.top_k, at::kLong);
      take("top_p", given.top_p, params.top_p, at::kDouble);
      take("min_p", given.min_p, params.min_p, at::kDouble);
      TORCH_CHECK_VALUE(params.rows.classes <= kMostFiltered, who, ": at most ", kMostFiltered,
                        " classes, got ", params.rows.classes);
    }

    /// A number that the host has goes with the parameters, without a copy to the device.
    template <typename T>
    void place(const char* who, const char* name, const Tensor& filter, const Operands& operands,
               PerRow<T>& to, ScalarType type) {
      check_filter(who, name, filter, operands.input, operands.dim);
      if (filter.is_cpu() && filter.dim() == 0) {
        to.number = *static_cast<const T*>(filter.to(type).const_data_ptr());
        return;
      }
      filters.push_back(filter_rows(who, name, filter, operands.input, operands.dim, type));
      to.values = static_cast<const T*>(filters.back().const_data_ptr());
      to.step = filters.back().dim() == 0 ? 0 : 1;
    }

    void run() const {
      if (params.rows.count > 0 && params.rows.classes > 0) Backend::run(params, on);
    }
  };

  /// Logits where a kernel can read them: a copy, unless they lie so.
  static Tensor placed(const Tensor& logits, int64_t dim) {
    if (!Backend::kAlongClasses || logits.dim() == 0 || logits.size(dim) <= 1 ||
        logits.stride(dim) == 1)
      return logits;
    return logits.movedim(dim, -1).contiguous().movedim(-1, dim);
  }
};

}  // namespace torch_gumbel::ops
