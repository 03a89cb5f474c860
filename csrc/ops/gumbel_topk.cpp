// SPDX-License-Identifier: Apache-2.0
// Front door of gumbel_topk: perturbed logits, and the largest of them.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <torch/library.h>
#include <torch_gumbel/sampling.h>

#include <limits>

#include "arguments.h"
#include "checks.h"
#include "keys.h"
#include "ops.h"
#include "results.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "gumbel_topk";
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The sampler's logits / temperature + g in the compute type, with gumbel_argmax's bits, as
/// differentiable ATen ops. See inverse_temperature and scaled_logit in csrc/math/softmax.h.
Tensor perturbed(const Tensor& logits, const Tensor& temperature, const Tensor& key) {
  const auto type = ops::compute_type(logits.scalar_type());
  const bool wide = type == at::kDouble;
  const double most = wide ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  const double least =
      wide ? std::numeric_limits<double>::denorm_min() : std::numeric_limits<float>::denorm_min();
  const Tensor x = logits.to(type), given = temperature.to(x.device(), type);
  const Tensor plain = given == 0, valid = (given >= 0).logical_and(given < kInfinity);
  const Tensor inverse = at::where(plain, 1, given).reciprocal().clamp(least, most);
  const Tensor factor = at::where(valid, inverse, std::numeric_limits<double>::quiet_NaN());
  const Tensor scaled = at::where(x.isinf(), x, (x * factor).clamp(-most, most));
  const Tensor noise = ops::noise().call(logits, key, std::nullopt, std::nullopt);
  return scaled + at::where(plain, at::scalar_tensor(0, noise.options()), noise);
}

/// Numbers that fall in the order of the scores and, where these are equal, of the classes. A
/// float32 score leaves 29 bits of a double free for its class.
Tensor ranks(const Tensor& scores, int64_t dim) {
  c10::SymDimVector along(scores.dim(), 1);
  along[dim] = scores.sym_size(dim);
  const Tensor place =
      at::arange(scores.sym_size(dim), scores.options().dtype(at::kDouble)).view_symint(along);
  const Tensor value = at::where(scores.isinf(), -1e300, scores.to(at::kDouble));
  return value - (value.abs() * 0x1p-52 + 0x1p-180) * place;
}

Tensor largest(const Tensor& scores, const c10::SymInt& k, int64_t dim) {
  if (scores.scalar_type() == at::kDouble)
    return std::get<1>(at::sort(scores, /*stable=*/true, dim, /*descending=*/true))
        .narrow_symint(dim, 0, k);
  return std::get<1>(
      at::topk_symint(ranks(scores, dim), k, dim, /*largest=*/true, /*sorted=*/true));
}

std::tuple<Tensor, Tensor> draw(const Tensor& logits, const Tensor& temperature,
                                const c10::SymInt& k, int64_t dim, const Tensor& key) {
  const Tensor scores = perturbed(logits, temperature, key);
  const Tensor found = largest(scores.detach(), k, dim);
  // A finite maximum: no NaN, no +inf, and a class that can be drawn.
  const Tensor defined = scores.detach().amax(dim, /*keepdim=*/true).isfinite();
  c10::SymDimVector along(scores.dim(), 1);
  along[dim] = k;
  const Tensor first = at::arange(k, found.options()).view_symint(along);
  const Tensor indices = at::where(defined, found, first);
  const Tensor values = scores.gather(dim, indices);
  return {at::where(defined, values, std::numeric_limits<double>::quiet_NaN()), indices};
}

std::tuple<Tensor, Tensor> checked(const Tensor& logits, const Tensor& temperature,
                                   const c10::SymInt& k, int64_t dim,
                                   const optional<at::Generator>& generator,
                                   const optional<Tensor>& given_key) {
  const c10::SymInt classes = logits.dim() == 0 ? c10::SymInt(1) : logits.sym_size(dim);
  checks::has_classes(kName, logits, dim);
  TORCH_CHECK_VALUE(k >= 1 && k <= classes, kName, ": k must be in [1, ", classes, "], got ", k);
  checks::source(kName, logits, generator, given_key);
  const auto type = ops::compute_type(logits.scalar_type());
  const Tensor key =
      ops::key_of_call(kName, logits, dim, generator, given_key,
                       {ops::bytes_of(logits, type), ops::bytes_of_rows(logits, dim, type, k),
                        ops::bytes_of_rows(logits, dim, at::kLong, k)});
  if (logits.dim() > 0) return draw(logits, temperature, k, dim, key);
  const auto [values, indices] = draw(logits.unsqueeze(-1), temperature, k, 0, key);
  return {values.squeeze(-1), indices.squeeze(-1)};
}

std::tuple<Tensor, Tensor> front_door(const Tensor& logits, c10::SymInt k, int64_t dim,
                                      const at::Scalar& temperature,
                                      optional<at::Generator> generator,
                                      const optional<Tensor>& key) {
  checks::logits(kName, logits);
  checks::sampling_temperature(kName, temperature.toDouble());
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return checked(logits, at::scalar_tensor(temperature, at::kDouble), k, wrapped, generator, key);
}

std::tuple<Tensor, Tensor> front_door_tensor(const Tensor& logits, const Tensor& temperature,
                                             c10::SymInt k, int64_t dim,
                                             optional<at::Generator> generator,
                                             const optional<Tensor>& key) {
  checks::logits(kName, logits);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return checked(logits, checks::temperature(kName, "temperature", temperature, logits, wrapped), k,
                 wrapped, generator, key);
}

}  // namespace

std::tuple<Tensor, Tensor> gumbel_topk(const Tensor& logits, int64_t k, int64_t dim,
                                       double temperature, optional<at::Generator> generator,
                                       const optional<Tensor>& key) {
  return front_door(logits, k, dim, temperature, std::move(generator), key);
}

std::tuple<Tensor, Tensor> gumbel_topk(const Tensor& logits, int64_t k, const Tensor& temperature,
                                       int64_t dim, optional<at::Generator> generator,
                                       const optional<Tensor>& key) {
  return front_door_tensor(logits, temperature, k, dim, std::move(generator), key);
}

std::tuple<Tensor, Tensor> gumbel_topk(const Tensor& logits, const GumbelTopkFuncOptions& options) {
  if (const auto* tensor = std::get_if<Tensor>(&options.temperature()))
    return gumbel_topk(logits, options.k(), *tensor, options.dim(), options.generator(),
                       options.key());
  return gumbel_topk(logits, options.k(), options.dim(), std::get<double>(options.temperature()),
                     options.generator(), options.key());
}

namespace {

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeImplicitAutograd, m) {
  m.impl("gumbel_topk", TORCH_FN(front_door));
  m.impl("gumbel_topk.tensor_temperature", TORCH_FN(front_door_tensor));
}

TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchVmapMode, m) {
  m.impl("gumbel_topk", TORCH_FN(front_door));
  m.impl("gumbel_topk.tensor_temperature", TORCH_FN(front_door_tensor));
}

}  // namespace
}  // namespace torch_gumbel
