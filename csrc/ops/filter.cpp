// SPDX-License-Identifier: Apache-2.0
// Filtered draws as ATen formulas, for devices without a kernel of their own: with a sort, but the
// same classes and the same choice.
#include "filter.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <limits>

#include "../math/softmax.h"
#include "backend.h"

namespace torch_gumbel::ops {

void check_filter(const char* who, const char* name, const Tensor& filter, const Tensor& logits,
                  int64_t dim) {
  TORCH_CHECK_VALUE(filter.device() == logits.device() || (filter.is_cpu() && filter.dim() == 0),
                    who, ": ", name, " must be on ", logits.device(), ", got one on ",
                    filter.device());
  const bool real = at::isFloatingType(filter.scalar_type()) ||
                    at::isIntegralType(filter.scalar_type(), /*includeBool=*/false);
  TORCH_CHECK_TYPE(real, who, ": ", name, " must be real, got ", filter.scalar_type());
  TORCH_CHECK_VALUE(checks::broadcasts_to_rows(filter, logits, dim), who, ": ", name, " of shape ",
                    filter.sym_sizes(), " does not broadcast to rows of shape ",
                    at::SymIntArrayRef(rows_shape(logits, dim)));
}

Tensor filter_rows(const char* who, const char* name, const Tensor& filter, const Tensor& logits,
                   int64_t dim, ScalarType type) {
  check_filter(who, name, filter, logits, dim);
  const Tensor placed = filter.to(logits.device(), type);
  return filter.dim() == 0 ? placed : placed.expand_symint(rows_shape(logits, dim)).contiguous();
}

namespace {

using std::optional;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Rows of logits and what the filters keep of them.
struct FilteredRows {
  Tensor x;            // logits in the opmath type
  Tensor temperature;  // float64, broadcasts
  Tensor greedy;       // where it is 0
  Tensor max;          // [*, 1, *]
  Tensor defined;      // [*, 1, *]
  Tensor kept;         // of the shape of x
};

/// Of classes in falling order, those of the shortest prefix of that share of the mass.
Tensor top_p_of(const Tensor& weights, const Tensor& p, int64_t dim) {
  const Tensor mass = weights.cumsum(dim);
  const Tensor total = mass.narrow(dim, mass.size(dim) - 1, 1).to(at::kDouble);
  const Tensor target = (total * p).ceil().clamp_min(1);
  return ((mass - weights).to(at::kDouble) < target).logical_or_(p >= 1);
}

FilteredRows filtered(const char* who, const Tensor& logits, const Tensor& given, int64_t dim,
                      const Filters& filters) {
  FilteredRows rows;
  rows.x = logits.to(opmath_type(logits.scalar_type()));
  rows.temperature = filter_rows(who, "temperature", given, logits, dim, at::kDouble);
  rows.greedy = rows.temperature == 0;
  const auto [sorted, order] = rows.x.sort(/*stable=*/true, dim, /*descending=*/true);
  rows.max = sorted.narrow(dim, 0, 1);  // NaN comes first
  rows.defined = rows.max.isfinite() * (rows.temperature >= 0) * (rows.temperature < kInfinity);
  c10::SmallVector<int64_t, 8> along(logits.dim(), 1);
  along[dim] = logits.size(dim);
  const Tensor rank = at::arange(logits.size(dim), logits.options().dtype(at::kLong)).view(along);
  Tensor kept = sorted > -kInfinity;
  if (filters.top_k) {
    const Tensor k = filter_rows(who, "top_k", *filters.top_k, logits, dim, at::kLong);
    kept = kept * ((rank < k) + (k <= 0));
    rows.defined = rows.defined * (k >= -1);
  }
  if (filters.top_p) {
    const Tensor p = filter_rows(who, "top_p", *filters.top_p, logits, dim, at::kDouble);
    const Tensor relative = (sorted - rows.max).to(at::kDouble) / rows.temperature;
    const Tensor weights = at::where(kept, (relative.exp() * 0x1p31).round(), 0).to(at::kLong);
    kept = kept * top_p_of(weights, p, dim);
    rows.defined = rows.defined * (p > 0) * (p <= 1);
  }
  if (filters.min_p) {
    const Tensor q = filter_rows(who, "min_p", *filters.min_p, logits, dim, at::kDouble);
    const Tensor least = rows.max.to(at::kDouble) + rows.temperature * q.log();
    kept = kept * ((sorted.to(at::kDouble) >= least) + (q == 0));
    rows.defined = rows.defined * (q >= 0) * (q <= 1);
  }
  kept = at::where(rows.greedy, rank == 0, kept);
  rows.kept = at::zeros_like(kept).scatter(dim, order, kept);
  return rows;
}

Tensor scaled(const FilteredRows& rows) {
  const bool wide = rows.x.scalar_type() == at::kDouble;
  const Tensor inverse =
      rows.temperature.to(rows.x.scalar_type())
          .reciprocal()
          .clamp_max(wide ? math::kMaxSamplingInverse<double> : math::kMaxSamplingInverse<float>);
  const double most = wide ? math::kLargest<double> : math::kLargest<float>;
  const Tensor product = (rows.x * inverse).clamp(-most, most);
  return at::where(rows.greedy.logical_or(rows.x.isfinite().logical_not()), rows.x, product);
}

Tensor filter_formula(const Tensor& logits, const Tensor& temperature, int64_t dim,
                      const optional<Tensor>& top_k, const optional<Tensor>& top_p,
                      const optional<Tensor>& min_p) {
  rows_shape(logits, dim);
  if (logits.numel() == 0) return empty_like_shape(logits, logits.scalar_type());
  if (logits.dim() == 0)
    return filter_formula(logits.unsqueeze(0), temperature, 0, top_k, top_p, min_p).squeeze(0);
  const auto rows = filtered("_filter_logits", logits, temperature, dim, {top_k, top_p, min_p});
  const Tensor open = at::where(rows.kept, scaled(rows), -kInfinity);
  return at::where(rows.defined, open, std::numeric_limits<double>::quiet_NaN())
      .to(logits.scalar_type())
      .contiguous();
}

/// Log-probability and entropy of the kept classes.
TensorPair law_of(const FilteredRows& rows, const Tensor& index, int64_t dim) {
  const Tensor relative =
      at::where(rows.kept, (rows.x - rows.max).to(at::kDouble) / rows.temperature, -kInfinity);
  const Tensor law = relative.log_softmax(dim);
  const Tensor terms = at::where(law > -kInfinity, law * law.exp(), 0);
  const auto finished = [&](const Tensor& values) {
    const Tensor drawn = at::where(rows.greedy, 0, values);
    return at::where(rows.defined, drawn, std::numeric_limits<double>::quiet_NaN())
        .to(rows.x.scalar_type());
  };
  return {finished(law.gather(dim, index)), finished(-terms.sum(dim, /*keepdim=*/true))};
}

FilterResult sample_formula(const Tensor& logits, const Tensor& temperature, const Tensor& key,
                            int64_t dim, const optional<Tensor>& top_k,
                            const optional<Tensor>& top_p, const optional<Tensor>& min_p,
                            bool log_prob, bool entropy, OptionalSymIntArrayRef full_shape,
                            OptionalSymIntArrayRef start) {
  constexpr const char* kName = "_sample_logits";
  rows_shape(logits, dim);
  checks::has_classes(kName, logits, dim);
  const auto type = opmath_type(logits.scalar_type());
  if (logits.numel() == 0)
    return {empty_rows(logits, dim, at::kLong),
            log_prob ? empty_rows(logits, dim, type) : no_rows(logits),
            entropy ? empty_rows(logits, dim, type) : no_rows(logits)};
  if (logits.dim() == 0) {
    const auto [index, log_probs, entropies] =
        sample_formula(logits.unsqueeze(0), temperature, key, 0, top_k, top_p, min_p, log_prob,
                       entropy, full_shape, start);
    return {index.squeeze(0), log_prob ? log_probs.squeeze(0) : log_probs,
            entropy ? entropies.squeeze(0) : entropies};
  }
  const auto rows = filtered(kName, logits, temperature, dim, {top_k, top_p, min_p});
  const Tensor open = at::where(rows.kept, rows.x, -kInfinity);
  const Tensor drawn =
      argmax().call(open, temperature, key, dim, /*keepdim=*/true, full_shape, start);
  const Tensor index = drawn * rows.defined;
  if (!log_prob && !entropy) return {index, no_rows(logits), no_rows(logits)};
  const auto [log_probs, entropies] = law_of(rows, index, dim);
  return {index, log_prob ? log_probs : no_rows(logits), entropy ? entropies : no_rows(logits)};
}

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeExplicitAutograd, m) {
  m.impl("_sample_logits", TORCH_FN(sample_formula));
  m.impl("_filter_logits", TORCH_FN(filter_formula));
}

}  // namespace
}  // namespace torch_gumbel::ops
