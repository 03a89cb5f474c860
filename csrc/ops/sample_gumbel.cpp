// SPDX-License-Identifier: Apache-2.0
// Public ops sample_gumbel and gumbel_like: the noise itself.
#include <ATen/ops/empty.h>
#include <torch/library.h>
#include <torch_gumbel/noise.h>

#include "checks.h"
#include "keys.h"
#include "ops.h"
#include "params.h"
#include "results.h"

namespace torch_gumbel {
namespace {

using at::ScalarType;
using at::Tensor;
using std::optional;

/// Noise of that shape on the device of `anchor`.
Tensor draw(const char* who, const Tensor& anchor, c10::SymIntArrayRef size, ScalarType type,
            const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  checks::element_type(who, "dtype", type);
  for (const c10::SymInt& n : size)
    TORCH_CHECK_VALUE(n >= 0, who, ": size must not be negative, got ", size);
  // Shape, device, and opmath type of the noise, without its memory.
  const auto options = at::TensorOptions().device(anchor.device()).dtype(ops::opmath_type(type));
  const Tensor like = at::empty({}, options).expand_symint(size);
  checks::source(who, like, generator, given_key);
  const int64_t last = std::max<int64_t>(like.dim() - 1, 0);
  const int64_t wide = ops::bytes_of(like, like.scalar_type());
  const int64_t narrow = type == like.scalar_type() ? 0 : ops::bytes_of(like, type);
  const Tensor key = ops::key_of_call(who, like, last, generator, given_key, {wide, narrow});
  return ops::noise().call(like, key, std::nullopt, std::nullopt).to(type);
}

Tensor sample_public_op(const Tensor& anchor, c10::SymIntArrayRef size, optional<ScalarType> dtype,
                        optional<at::Generator> generator, const optional<Tensor>& key) {
  const auto type = dtype.value_or(c10::get_default_dtype_as_scalartype());
  return draw("sample_gumbel", anchor, size, type, generator, key);
}

Tensor like_public_op(const Tensor& like, optional<ScalarType> dtype,
                      optional<at::Generator> generator, const optional<Tensor>& key) {
  TORCH_CHECK_TYPE(like.defined(), "gumbel_like: input must be a tensor, got an undefined one");
  const auto type = dtype.value_or(like.scalar_type());
  return draw("gumbel_like", like, like.sym_sizes(), type, generator, key);
}

}  // namespace

Tensor sample_gumbel(at::IntArrayRef size, const at::TensorOptions& options,
                     optional<at::Generator> generator, const optional<Tensor>& key) {
  const Tensor anchor = at::empty({0}, at::TensorOptions().device(options.device()));
  return sample_public_op(anchor, c10::fromIntArrayRefSlow(size),
                          c10::optTypeMetaToScalarType(options.dtype_opt()), std::move(generator),
                          key);
}

Tensor gumbel_like(const Tensor& like, optional<ScalarType> dtype,
                   optional<at::Generator> generator, const optional<Tensor>& key) {
  return like_public_op(like, dtype, std::move(generator), key);
}

namespace ops {

void register_sample_gumbel(torch::Library& m) {
  m.impl("sample_gumbel", TORCH_FN(sample_public_op));
  m.impl("gumbel_like", TORCH_FN(like_public_op));
}

}  // namespace ops

}  // namespace torch_gumbel
