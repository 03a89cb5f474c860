// SPDX-License-Identifier: Apache-2.0
// Public op gumbel_softmax: checks every argument once, makes a key, calls the private op.
#include <ATen/autocast_mode.h>
#include <torch/library.h>
#include <torch_gumbel/torch_gumbel.h>

#include "checks.h"
#include "fast_path.h"
#include "keys.h"
#include "ops.h"
#include "results.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "gumbel_softmax";

/// Under autocast on CUDA, half types give float32, as softmax does there (and not on the CPU); no
/// widened copy of the input is made.
optional<at::ScalarType> output_type(const Tensor& logits) {
  const auto type = logits.scalar_type();
  const bool half = type == at::kHalf || type == at::kBFloat16;
  if (half && logits.is_cuda() && at::autocast::is_autocast_enabled(at::kCUDA)) return at::kFloat;
  return std::nullopt;
}

Tensor sample(const Tensor& logits, const Tensor& tau, bool hard, int64_t dim, bool recompute,
              const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  checks::source(kName, logits, generator, given_key);
  if (hard) checks::has_classes(kName, logits, dim);
  const auto type = output_type(logits);
  const int64_t bytes = ops::bytes_of(logits, type.value_or(logits.scalar_type()));
  const bool pair = hard && !recompute && at::GradMode::is_enabled() &&
                    (logits.requires_grad() || tau.requires_grad());
  const Tensor key =
      ops::key_of_call(kName, logits, dim, generator, given_key, {bytes, pair ? bytes : 0});
  if (hard && !recompute)
    return ops::hard().call(logits, tau, key, dim, type, std::nullopt, std::nullopt);
  return ops::softmax().call(logits, tau, key, dim, hard, type, std::nullopt, std::nullopt);
}

Tensor public_op(const Tensor& logits, const at::Scalar& tau, bool hard, int64_t dim,
                 bool recompute, optional<at::Generator> generator, const optional<Tensor>& key) {
  return gumbel_softmax(logits, tau.toDouble(), hard, dim, recompute, std::move(generator), key);
}

Tensor public_op_tensor(const Tensor& logits, const Tensor& tau, bool hard, int64_t dim,
                        bool recompute, optional<at::Generator> generator,
                        const optional<Tensor>& key) {
  return gumbel_softmax(logits, tau, hard, dim, recompute, std::move(generator), key);
}

}  // namespace

Tensor gumbel_softmax(const Tensor& logits, double tau, bool hard, int64_t dim, bool recompute,
                      optional<at::Generator> generator, const optional<Tensor>& key) {
  checks::logits(kName, logits);
  checks::temperature(kName, "tau", tau);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return sample(logits, ops::temperature_of_call(logits, tau), hard, wrapped, recompute, generator,
                key);
}

Tensor gumbel_softmax(const Tensor& logits, const Tensor& tau, bool hard, int64_t dim,
                      bool recompute, optional<at::Generator> generator,
                      const optional<Tensor>& key) {
  checks::logits(kName, logits);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return sample(logits, checks::temperature(kName, "tau", tau, logits, wrapped), hard, wrapped,
                recompute, generator, key);
}

Tensor gumbel_softmax(const Tensor& logits, const GumbelSoftmaxFuncOptions& options) {
  const auto call = [&](const auto& tau) {
    return gumbel_softmax(logits, tau, options.hard(), options.dim(), options.recompute(),
                          options.generator(), options.key());
  };
  return std::visit(call, options.tau());
}

namespace ops {

void register_gumbel_softmax(torch::Library& m) {
  m.impl("gumbel_softmax", TORCH_FN(public_op));
  m.impl("gumbel_softmax.tensor_tau", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
