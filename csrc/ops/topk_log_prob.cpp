// SPDX-License-Identifier: Apache-2.0
// Public op gumbel_topk_log_prob: log-probability of an ordered draw without replacement.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/logcumsumexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>
#include <torch_gumbel/conditional.h>

#include <limits>

#include "checks.h"
#include "params.h"

namespace torch_gumbel {
namespace {

using at::Tensor;

constexpr const char* kName = "gumbel_topk_log_prob";
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Logits / temperature in the opmath type. Masked classes: `lowest`, a weight of 0 beside any other,
/// whose derivatives are finite.
struct Scaled {
  Tensor x, masked, defined;
  double lowest;

  Scaled(const Tensor& logits, const Tensor& temperature, int64_t dim) {
    const auto type = ops::opmath_type(logits.scalar_type());
    const Tensor given = logits.to(type);
    const Tensor valid = (temperature > 0).logical_and(temperature < kInfinity);
    const Tensor tau = at::where(valid, temperature, 1).to(given.device(), type);
    lowest = (type == at::kDouble ? std::numeric_limits<double>::lowest()
                                  : std::numeric_limits<float>::lowest()) /
             8;
    masked = given == -kInfinity;
    defined = given.amax(dim, /*keepdim=*/true).isfinite().logical_and(valid.to(given.device()));
    const Tensor finite = at::where(masked.logical_or(defined.logical_not()), 0, given);
    x = at::where(masked, lowest, (finite / tau).clamp(lowest / 2, -lowest / 2));
  }
};

/// sum_i (x_i - log of the sum of the weights that were left): sums from the last draw back, so that
/// nothing is subtracted.
Tensor log_prob(const Tensor& logits, const Tensor& indices, const Tensor& temperature,
                int64_t dim) {
  const Scaled scaled(logits, temperature, dim);
  const c10::SymInt classes = logits.sym_size(dim);
  const Tensor in_range = (indices >= 0).logical_and(indices < classes);
  const Tensor at = at::where(in_range, indices, 0);
  const Tensor drawn = scaled.x.gather(dim, at);
  const Tensor times =
      at::zeros_like(scaled.x.detach()).scatter_add(dim, at, in_range.to(scaled.x.scalar_type()));
  const Tensor rest =
      at::where(times > 0, scaled.lowest, scaled.x).logsumexp(dim, /*keepdim=*/true);
  const Tensor left = at::cat({rest, drawn.flip(dim)}, dim)
                          .logcumsumexp(dim)
                          .narrow_symint(dim, 1, indices.sym_size(dim));
  const Tensor each = drawn - left.flip(dim);
  const Tensor sum = (each - each.detach().clamp_min(0)).sum(dim, /*keepdim=*/true);
  const auto any = [&](const Tensor& mask) { return mask.any(dim, /*keepdim=*/true); };
  const Tensor impossible = any(times > 1).logical_or(any(scaled.masked.gather(dim, at)));
  const Tensor defined = scaled.defined.logical_and(in_range.all(dim, /*keepdim=*/true));
  return at::where(defined, at::where(impossible, -kInfinity, sum), kNan).squeeze(dim);
}

void check_indices(const Tensor& indices, const Tensor& logits, int64_t dim) {
  TORCH_CHECK_TYPE(indices.defined() && indices.scalar_type() == at::kLong, kName,
                   ": indices must be an int64 tensor, got ",
                   indices.defined() ? c10::toString(indices.scalar_type()) : "an undefined one");
  TORCH_CHECK_VALUE(indices.device() == logits.device(), kName, ": indices must be on ",
                    logits.device(), ", got ", indices.device());
  bool fits = indices.dim() == logits.dim();
  for (int64_t i = 0; fits && i < logits.dim(); ++i)
    fits = i == dim ? indices.sym_size(i) >= 1 && indices.sym_size(i) <= logits.sym_size(i)
                    : indices.sym_size(i) == logits.sym_size(i);
  TORCH_CHECK_VALUE(fits, kName, ": indices must have the shape of logits ", logits.sym_sizes(),
                    " but for 1 to ", logits.sym_size(dim), " classes at dim ", dim, ", got ",
                    indices.sym_sizes());
}

Tensor checked(const Tensor& logits, const Tensor& indices, const Tensor& temperature,
               int64_t dim) {
  if (logits.dim() == 0)
    return checked(logits.unsqueeze(-1), indices.unsqueeze(-1), temperature, 0);
  checks::has_classes(kName, logits, dim);
  check_indices(indices, logits, dim);
  return log_prob(logits, indices, temperature, dim);
}

Tensor public_op(const Tensor& logits, const Tensor& indices, int64_t dim,
                 const at::Scalar& temperature) {
  checks::logits(kName, logits);
  checks::temperature(kName, "temperature", temperature.toDouble());
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return checked(logits, indices, at::scalar_tensor(temperature, at::kDouble), wrapped);
}

Tensor public_op_tensor(const Tensor& logits, const Tensor& indices, const Tensor& temperature,
                        int64_t dim) {
  checks::logits(kName, logits);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return checked(logits, indices,
                 checks::temperature(kName, "temperature", temperature, logits, wrapped), wrapped);
}

}  // namespace

Tensor gumbel_topk_log_prob(const Tensor& logits, const Tensor& indices, int64_t dim,
                            double temperature) {
  return public_op(logits, indices, dim, temperature);
}

Tensor gumbel_topk_log_prob(const Tensor& logits, const Tensor& indices, const Tensor& temperature,
                            int64_t dim) {
  return public_op_tensor(logits, indices, temperature, dim);
}

namespace ops {

void register_topk_log_prob(torch::Library& m) {
  m.impl("gumbel_topk_log_prob", TORCH_FN(public_op));
  m.impl("gumbel_topk_log_prob.tensor_temperature", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
