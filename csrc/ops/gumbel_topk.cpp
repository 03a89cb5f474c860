// SPDX-License-Identifier: Apache-2.0
// Public op gumbel_topk: perturbed logits, and the largest of them.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <torch/library.h>
#include <torch_gumbel/sampling.h>

#include <limits>

#include "../math/softmax.h"
#include "autograd_node.h"
#include "checks.h"
#include "fast_path.h"
#include "keys.h"
#include "largest.h"
#include "ops.h"
#include "params.h"
#include "results.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "gumbel_topk";
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <typename T>
constexpr double kMost = std::numeric_limits<T>::max();

/// What the scores are formed of besides logits and noise: sampling_inverse of csrc/math/softmax.h,
/// and whether a row is greedy. As tensors, with derivatives in the temperature; or, of a number
/// that the host holds, as that.
struct Scaling {
  Tensor factor, plain;
  bool changes_logits = true, adds_noise = true;
};

template <typename T>
Scaling scaling_of(double temperature, const at::TensorOptions& options) {
  const bool plain = math::without_noise(temperature);
  const double inverse = plain ? 1 : static_cast<double>(math::sampling_inverse_of<T>(temperature));
  return {at::scalar_tensor(inverse, options), at::scalar_tensor(plain, at::kBool), inverse != 1,
          !plain};
}

/// The temperature is tested before it is narrowed to the opmath type, and where its inverse is
/// bounded it has no part in a derivative.
template <typename T>
Scaling scaling_of(const Tensor& temperature, const at::TensorOptions& options) {
  constexpr double kLeast = std::numeric_limits<T>::denorm_min();
  const double least = 1 / static_cast<double>(math::kMaxSamplingInverse<T>);
  const Tensor plain = temperature == 0;
  const Tensor valid = (temperature >= 0).logical_and(temperature < kInfinity);
  const Tensor unscaled = plain.logical_or(valid.logical_not());
  const Tensor given = at::where(unscaled, 1, temperature)
                           .to(options.device(), at::typeMetaToScalarType(options.dtype()));
  const Tensor inverse =
      at::where(given == kInfinity, kLeast, given.clamp(least, kMost<T>).reciprocal());
  const auto here = [&](const Tensor& rows) { return rows.to(options.device()); };
  return {at::where(here(valid), inverse, kNan), here(plain)};
}

Scaling scaling_of(const Tensor& temperature, const Tensor& logits) {
  const auto type = ops::opmath_type(logits.scalar_type());
  const auto options = logits.options().dtype(type);
  const bool wide = type == at::kDouble;
  const bool known = temperature.dim() == 0 && temperature.is_cpu() &&
                     !temperature.requires_grad() && ops::on_fast_path(temperature);
  if (!known)
    return wide ? scaling_of<double>(temperature, options)
                : scaling_of<float>(temperature, options);
  const auto number = temperature.item<double>();
  return wide ? scaling_of<double>(number, options) : scaling_of<float>(number, options);
}

double most_of(const Tensor& scores) {
  return scores.scalar_type() == at::kDouble ? kMost<double> : kMost<float>;
}

/// The sampler's logits / temperature + g in the opmath type, with gumbel_argmax's bits, as
/// differentiable ATen ops. What is infinite is kept out of products, whose derivatives would be
/// NaN.
Tensor perturbed(const Tensor& logits, const Scaling& scaling, const Tensor& noise) {
  const Tensor x = logits.to(noise.scalar_type()), infinite = x.isinf();
  const double most = most_of(noise);
  const Tensor finite = (at::where(infinite, 0, x) * scaling.factor).clamp(-most, most);
  return at::where(infinite, x, finite) + at::where(scaling.plain, 0, noise);
}

/// The same in the memory of the noise.
Tensor perturb_at_once(const Tensor& logits, const Scaling& scaling, Tensor noise) {
  if (!scaling.adds_noise) return logits.to(noise.scalar_type());
  if (!scaling.changes_logits) return noise.add_(logits);
  const double most = most_of(noise);
  const Tensor x = logits.to(noise.scalar_type());
  Tensor scaled = (x * scaling.factor).clamp_(-most, most);
  at::where_out(scaled, x.isinf(), x, scaled);
  noise.masked_fill_(scaling.plain, 0);
  return noise.add_(scaled);
}

/// The same in pieces that caches hold, where they share a temperature.
Tensor perturb(const Tensor& logits, const Scaling& scaling, const Tensor& noise) {
  constexpr int64_t kPiece = 1 << 14;  // below what ATen shares among threads
  const int64_t count = logits.numel();
  const bool pieces = logits.is_cpu() && logits.is_contiguous() && scaling.factor.numel() == 1 &&
                      scaling.adds_noise && scaling.changes_logits;
  if (!pieces || count <= 2 * kPiece) return perturb_at_once(logits, scaling, noise);
  const Scaling one = {scaling.factor.reshape({}), scaling.plain.reshape({})};
  const Tensor x = logits.view(-1), scores = noise.view(-1);
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t size = std::min(kPiece, count - begin);
    perturb_at_once(x.narrow(0, begin, size), one, scores.narrow(0, begin, size));
  }
  return noise;
}

std::tuple<Tensor, Tensor> draw(const Tensor& logits, const Tensor& temperature,
                                const c10::SymInt& k, int64_t dim, const Tensor& key) {
  const Tensor noise = ops::noise().call(logits, key, std::nullopt, std::nullopt);
  const Scaling scaling = scaling_of(temperature, logits);
  const bool simple = ops::on_fast_path(logits) && !ops::is_differentiated(logits, temperature);
  const Tensor scores = simple ? perturb(logits, scaling, noise)
                               : perturbed(logits.detach(), scaling, noise).detach();
  const Tensor found = ops::largest(kName, scores, k, dim);
  Tensor values = scores.gather(dim, found);
  // A finite maximum: no NaN, no +inf, and a class that can be drawn.
  const Tensor defined = values.narrow(dim, 0, 1).isfinite();
  // Derivatives are those of the k values alone.
  if (!simple) values = perturbed(logits.gather(dim, found), scaling, noise.gather(dim, found));
  c10::SymDimVector along(scores.dim(), 1);
  along[dim] = k;
  const Tensor first = at::arange(k, found.options()).view_symint(along);
  return {at::where(defined, values, kNan), at::where(defined, found, first)};
}

std::tuple<Tensor, Tensor> checked(const Tensor& logits, const Tensor& temperature,
                                   const c10::SymInt& k, int64_t dim,
                                   const optional<at::Generator>& generator,
                                   const optional<Tensor>& given_key) {
  const c10::SymInt classes = logits.dim() == 0 ? c10::SymInt(1) : logits.sym_size(dim);
  checks::has_classes(kName, logits, dim);
  TORCH_CHECK_VALUE(k >= 1 && k <= classes, kName, ": k must be in [1, ", classes, "], got ", k);
  checks::source(kName, logits, generator, given_key);
  const auto type = ops::opmath_type(logits.scalar_type());
  const Tensor key =
      ops::key_of_call(kName, logits, dim, generator, given_key,
                       {ops::bytes_of(logits, type), ops::bytes_of_rows(logits, dim, type, k),
                        ops::bytes_of_rows(logits, dim, at::kLong, k)});
  if (logits.dim() > 0) return draw(logits, temperature, k, dim, key);
  const auto [values, indices] = draw(logits.unsqueeze(-1), temperature, k, 0, key);
  return {values.squeeze(-1), indices.squeeze(-1)};
}

std::tuple<Tensor, Tensor> public_op(const Tensor& logits, c10::SymInt k, int64_t dim,
                                     const at::Scalar& temperature,
                                     optional<at::Generator> generator,
                                     const optional<Tensor>& key) {
  checks::logits(kName, logits);
  checks::sampling_temperature(kName, temperature.toDouble());
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return checked(logits, at::scalar_tensor(temperature, at::kDouble), k, wrapped, generator, key);
}

std::tuple<Tensor, Tensor> public_op_tensor(const Tensor& logits, const Tensor& temperature,
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
  return public_op(logits, k, dim, temperature, std::move(generator), key);
}

std::tuple<Tensor, Tensor> gumbel_topk(const Tensor& logits, int64_t k, const Tensor& temperature,
                                       int64_t dim, optional<at::Generator> generator,
                                       const optional<Tensor>& key) {
  return public_op_tensor(logits, temperature, k, dim, std::move(generator), key);
}

std::tuple<Tensor, Tensor> gumbel_topk(const Tensor& logits, const GumbelTopkFuncOptions& options) {
  if (const auto* tensor = std::get_if<Tensor>(&options.temperature()))
    return gumbel_topk(logits, options.k(), *tensor, options.dim(), options.generator(),
                       options.key());
  return gumbel_topk(logits, options.k(), options.dim(), std::get<double>(options.temperature()),
                     options.generator(), options.key());
}

namespace ops {

void register_gumbel_topk(torch::Library& m) {
  m.impl("gumbel_topk", TORCH_FN(public_op));
  m.impl("gumbel_topk.tensor_temperature", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
