// SPDX-License-Identifier: Apache-2.0
// Front door of gumbel_argmax.
#include <ATen/ops/scalar_tensor.h>
#include <torch/library.h>
#include <torch_gumbel/torch_gumbel.h>

#include "checks.h"
#include "keys.h"
#include "ops.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "gumbel_argmax";

Tensor draw(const Tensor& logits, const Tensor& temperature, int64_t dim, bool keepdim,
            const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  checks::source(kName, logits, generator, given_key);
  checks::has_classes(kName, logits, dim);
  const Tensor key =
      given_key ? ops::placed_key(checks::fitted_key(kName, *given_key, logits, dim), logits)
                : ops::draw_key(logits, generator);
  return std::get<1>(
      ops::argmax().call(logits, temperature, key, dim, keepdim, std::nullopt, std::nullopt));
}

Tensor front_door(const Tensor& logits, int64_t dim, bool keepdim, const at::Scalar& temperature,
                  optional<at::Generator> generator, const optional<Tensor>& key) {
  return gumbel_argmax(logits, dim, keepdim, temperature.toDouble(), std::move(generator), key);
}

Tensor front_door_tensor(const Tensor& logits, const Tensor& temperature, int64_t dim, bool keepdim,
                         optional<at::Generator> generator, const optional<Tensor>& key) {
  checks::logits(kName, logits);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  checks::temperature(kName, "temperature", temperature, logits, wrapped);
  return draw(logits, checks::as_floating(temperature), wrapped, keepdim, generator, key);
}

}  // namespace

Tensor gumbel_argmax(const Tensor& logits, int64_t dim, bool keepdim, double temperature,
                     optional<at::Generator> generator, const optional<Tensor>& key) {
  checks::logits(kName, logits);
  checks::temperature(kName, "temperature", temperature);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return draw(logits, at::scalar_tensor(temperature, at::kDouble), wrapped, keepdim, generator,
              key);
}

Tensor gumbel_argmax(const Tensor& logits, const GumbelArgmaxFuncOptions& options) {
  return gumbel_argmax(logits, options.dim(), options.keepdim(), options.temperature(),
                       options.generator(), options.key());
}

namespace {

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeImplicitAutograd, m) {
  m.impl("gumbel_argmax", TORCH_FN(front_door));
  m.impl("gumbel_argmax.tensor_temperature", TORCH_FN(front_door_tensor));
}

TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchVmapMode, m) {
  m.impl("gumbel_argmax", TORCH_FN(front_door));
  m.impl("gumbel_argmax.tensor_temperature", TORCH_FN(front_door_tensor));
}

}  // namespace
}  // namespace torch_gumbel
