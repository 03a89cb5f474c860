// SPDX-License-Identifier: Apache-2.0
// Public op gumbel_argmax.
#include <torch/library.h>
#include <torch_gumbel/torch_gumbel.h>

#include "checks.h"
#include "fast_path.h"
#include "keys.h"
#include "ops.h"
#include "results.h"
#include "several.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "gumbel_argmax";

/// Draws with replacement, [num_samples, *].
Tensor draw_several(const Tensor& logits, const Tensor& temperature, const Tensor& key, int64_t dim,
                    bool keepdim, const c10::SymInt& num_samples) {
  if (logits.dim() == 0)
    return draw_several(logits.unsqueeze(-1), temperature, key, dim, false, num_samples);
  const ops::Several several(logits, key, num_samples);
  return several.samples_first(ops::argmax().call(several.logits(), several.rows(temperature), key,
                                                  dim + 1, keepdim, std::nullopt, std::nullopt));
}

struct Draw {
  int64_t dim;
  bool keepdim;
  optional<c10::SymInt> num_samples;
};

Tensor draw(const Tensor& logits, const Tensor& temperature, const Draw& how,
            const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  if (how.num_samples) checks::count(kName, "num_samples", *how.num_samples);
  checks::source(kName, logits, generator, given_key);
  checks::has_classes(kName, logits, how.dim);
  const c10::SymInt times = how.num_samples.value_or(1);
  const Tensor key = ops::key_of_call(kName, logits, how.dim, generator, given_key,
                                      {ops::bytes_of_rows(logits, how.dim, at::kLong, times)});
  if (how.num_samples)
    return draw_several(logits, temperature, key, how.dim, how.keepdim, *how.num_samples);
  return ops::argmax().call(logits, temperature, key, how.dim, how.keepdim, std::nullopt,
                            std::nullopt);
}

Tensor public_op(const Tensor& logits, int64_t dim, bool keepdim, const at::Scalar& temperature,
                 optional<c10::SymInt> num_samples, optional<at::Generator> generator,
                 const optional<Tensor>& key) {
  checks::logits(kName, logits);
  checks::sampling_temperature(kName, temperature.toDouble());
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return draw(logits, ops::temperature_of_call(logits, temperature.toDouble()),
              {wrapped, keepdim, std::move(num_samples)}, generator, key);
}

Tensor public_op_tensor(const Tensor& logits, const Tensor& temperature, int64_t dim, bool keepdim,
                        optional<c10::SymInt> num_samples, optional<at::Generator> generator,
                        const optional<Tensor>& key) {
  checks::logits(kName, logits);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return draw(logits, checks::temperature(kName, "temperature", temperature, logits, wrapped),
              {wrapped, keepdim, std::move(num_samples)}, generator, key);
}

}  // namespace

Tensor gumbel_argmax(const Tensor& logits, int64_t dim, bool keepdim, optional<int64_t> num_samples,
                     double temperature, optional<at::Generator> generator,
                     const optional<Tensor>& key) {
  return public_op(logits, dim, keepdim, temperature, num_samples, std::move(generator), key);
}

Tensor gumbel_argmax(const Tensor& logits, const Tensor& temperature, int64_t dim, bool keepdim,
                     optional<int64_t> num_samples, optional<at::Generator> generator,
                     const optional<Tensor>& key) {
  return public_op_tensor(logits, temperature, dim, keepdim, num_samples, std::move(generator),
                          key);
}

Tensor gumbel_argmax(const Tensor& logits, const GumbelArgmaxFuncOptions& options) {
  if (const auto* tensor = std::get_if<Tensor>(&options.temperature()))
    return gumbel_argmax(logits, *tensor, options.dim(), options.keepdim(), options.num_samples(),
                         options.generator(), options.key());
  return gumbel_argmax(logits, options.dim(), options.keepdim(), options.num_samples(),
                       std::get<double>(options.temperature()), options.generator(), options.key());
}

namespace ops {

void register_gumbel_argmax(torch::Library& m) {
  m.impl("gumbel_argmax", TORCH_FN(public_op));
  m.impl("gumbel_argmax.tensor_temperature", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
