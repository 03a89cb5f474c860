// SPDX-License-Identifier: Apache-2.0
// Public op sample_categorical: gumbel_softmax of the logarithm of probabilities.
#include <torch/library.h>
#include <torch_gumbel/probabilities.h>

#include "checks.h"
#include "fast_path.h"
#include "keys.h"
#include "ops.h"
#include "probabilities.h"
#include "results.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "sample_categorical";

Tensor sample(const Tensor& probs, const Tensor& temperature, bool hard, int64_t dim,
              const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  checks::source(kName, probs, generator, given_key);
  if (hard) checks::has_classes(kName, probs, dim);
  const Tensor logits = ops::log_probabilities(probs);
  const int64_t bytes = ops::bytes_of(probs, probs.scalar_type());
  const bool pair =
      hard && at::GradMode::is_enabled() && (probs.requires_grad() || temperature.requires_grad());
  const Tensor key =
      ops::key_of_call(kName, probs, dim, generator, given_key, {bytes, pair ? bytes : 0});
  if (hard)
    return ops::hard().call(logits, temperature, key, dim, probs.scalar_type(), std::nullopt,
                            std::nullopt);
  return ops::softmax().call(logits, temperature, key, dim, hard, probs.scalar_type(), std::nullopt,
                             std::nullopt);
}

Tensor public_op(const Tensor& probs, const at::Scalar& temperature, bool hard, int64_t dim,
                 bool validate_args, optional<at::Generator> generator,
                 const optional<Tensor>& key) {
  checks::values(kName, "probs", probs);
  checks::temperature(kName, "temperature", temperature.toDouble());
  const int64_t wrapped = checks::wrapped_dim(kName, dim, probs.dim());
  if (validate_args) ops::check_probabilities(kName, "probs", probs, wrapped);
  return sample(probs, ops::temperature_of_call(probs, temperature.toDouble()), hard, wrapped,
                generator, key);
}

Tensor public_op_tensor(const Tensor& probs, const Tensor& temperature, bool hard, int64_t dim,
                        bool validate_args, optional<at::Generator> generator,
                        const optional<Tensor>& key) {
  checks::values(kName, "probs", probs);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, probs.dim());
  const Tensor rows = checks::temperature(kName, "temperature", temperature, probs, wrapped);
  if (validate_args) ops::check_probabilities(kName, "probs", probs, wrapped);
  return sample(probs, rows, hard, wrapped, generator, key);
}

}  // namespace

Tensor sample_categorical(const Tensor& probs, double temperature, bool hard, int64_t dim,
                          bool validate_args, optional<at::Generator> generator,
                          const optional<Tensor>& key) {
  return public_op(probs, temperature, hard, dim, validate_args, std::move(generator), key);
}

Tensor sample_categorical(const Tensor& probs, const Tensor& temperature, bool hard, int64_t dim,
                          bool validate_args, optional<at::Generator> generator,
                          const optional<Tensor>& key) {
  return public_op_tensor(probs, temperature, hard, dim, validate_args, std::move(generator), key);
}

Tensor sample_categorical(const Tensor& probs, const SampleCategoricalFuncOptions& options) {
  const auto call = [&](const auto& temperature) {
    return sample_categorical(probs, temperature, options.hard(), options.dim(),
                              options.validate_args(), options.generator(), options.key());
  };
  return std::visit(call, options.temperature());
}

namespace ops {

void register_sample_categorical(torch::Library& m) {
  m.impl("sample_categorical", TORCH_FN(public_op));
  m.impl("sample_categorical.tensor_temperature", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
