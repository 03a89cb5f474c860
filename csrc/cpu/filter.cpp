// SPDX-License-Identifier: Apache-2.0
// Filtered draws on the CPU.
#include "../ops/filter.h"

#include <torch/library.h>

#include "../ops/backend.h"
#include "../ops/parallel.h"
#include "filter_params.h"
#include "kernels.h"
#include "scratch.h"

namespace torch_gumbel::cpu {
namespace {

using at::Tensor;
using ops::FilterResult;
using ops::Filters;
using std::optional;

/// The parameters of a call, and the tensors that they point into.
struct Call {
  ops::Launch launch;
  FilterParams params;
  std::vector<Tensor> filters;

  Call(const char* who, const ops::Operands& operands, const Filters& given) {
    launch = ops::make_params(who, operands);
    static_cast<KernelParams&>(params) = launch.params;
    const auto take = [&](const char* name, const optional<Tensor>& filter, auto& to,
                          at::ScalarType type) {
      if (!filter.has_value()) return;
      filters.push_back(ops::filter_rows(who, name, *filter, operands.input, operands.dim, type));
      to.values = static_cast<decltype(to.values)>(filters.back().const_data_ptr());
      to.step = filters.back().dim() == 0 ? 0 : 1;
    };
    take("top_k", given.top_k, params.top_k, at::kLong);
    take("top_p", given.top_p, params.top_p, at::kDouble);
    take("min_p", given.min_p, params.min_p, at::kDouble);
    TORCH_CHECK_VALUE(params.rows.classes <= kMostFiltered, who, ": at most ", kMostFiltered,
                      " classes, got ", params.rows.classes);
  }

  void run() const {
    const Rows& rows = params.rows;
    if (rows.count == 0 || rows.classes == 0) return;
    const DType opmath = params.input_type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    const int64_t bytes = filter_scratch_bytes(rows.classes, opmath);
    const FilterKernel kernel = filter_kernel(selected_kernels());
    const int64_t grain = std::max<int64_t>(1, kElementsPerThread / rows.classes);
    ops::parallel_for(0, rows.count, grain, [&](int64_t begin, int64_t end) {
      const Scratch scratch(bytes);
      kernel(params, begin, end, scratch.get());
    });
  }
};

/// Logits with their classes next to each other: a copy, unless they lie so.
Tensor along_classes(const Tensor& logits, int64_t dim) {
  if (logits.dim() == 0 || logits.size(dim) <= 1 || logits.stride(dim) == 1) return logits;
  return logits.movedim(dim, -1).contiguous().movedim(-1, dim);
}

FilterResult sample(const Tensor& logits, const Tensor& temperature, const Tensor& key, int64_t dim,
                    const optional<Tensor>& top_k, const optional<Tensor>& top_p,
                    const optional<Tensor>& min_p, bool log_prob, bool entropy,
                    at::OptionalIntArrayRef full_shape, at::OptionalIntArrayRef start) {
  constexpr const char* kName = "_sample_logits";
  const auto type = ops::opmath_type(logits.scalar_type());
  const Tensor index = ops::empty_choices(logits, dim, /*keepdim=*/true, at::kLong);
  const auto rows = [&](bool wanted) {
    return wanted ? ops::empty_rows(logits, dim, type) : ops::no_rows(logits);
  };
  const Tensor log_probs = rows(log_prob), entropies = rows(entropy);
  checks::has_classes(kName, logits, dim);
  ops::Operands operands = {.input = along_classes(logits, dim),
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

Tensor filter(const Tensor& logits, const Tensor& temperature, int64_t dim,
              const optional<Tensor>& top_k, const optional<Tensor>& top_p,
              const optional<Tensor>& min_p) {
  const Tensor output = ops::empty_like_shape(logits, logits.scalar_type());
  ops::rows_shape(logits, dim);
  const ops::Operands operands = {
      .input = along_classes(logits, dim), .output = output, .tau = temperature, .dim = dim};
  Call("_filter_logits", operands, {top_k, top_p, min_p}).run();
  return output;
}

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) {
  m.impl("_sample_logits", TORCH_FN(sample));
  m.impl("_filter_logits", TORCH_FN(filter));
}

}  // namespace
}  // namespace torch_gumbel::cpu
