// SPDX-License-Identifier: Apache-2.0
// Public op gumbel_at: the noise of some classes alone.
#include <torch/library.h>
#include <torch_gumbel/noise.h>

#include "checks.h"
#include "keys.h"
#include "noise_at.h"
#include "params.h"

namespace torch_gumbel {
namespace {

using at::ScalarType;
using at::Tensor;
using std::optional;

constexpr const char* kName = "gumbel_at";

Tensor public_op(const Tensor& index, const c10::SymInt& classes, const Tensor& given_key,
                 optional<ScalarType> dtype) {
  TORCH_CHECK_TYPE(
      index.defined() && index.layout() == at::kStrided && index.scalar_type() == at::kLong, kName,
      ": index must be a strided int64 tensor, got ",
      index.defined() ? c10::toString(index.scalar_type()) : "an undefined one");
  TORCH_CHECK_TYPE(given_key.defined(), kName, ": key must be a tensor, got an undefined one");
  const ScalarType type = dtype.value_or(at::kFloat);
  checks::element_type(kName, "dtype", type);
  checks::count(kName, "num_classes", classes);
  const int64_t last = std::max<int64_t>(index.dim() - 1, 0);
  const Tensor key = ops::placed_key(checks::fitted_key(kName, given_key, index, last), index);
  return ops::noise_at().call(index, classes, key, ops::opmath_type(type)).to(type);
}

Tensor op(const Tensor& index, c10::SymInt classes, const Tensor& key, optional<ScalarType> dtype) {
  return public_op(index, classes, key, dtype);
}

}  // namespace

Tensor gumbel_at(const Tensor& index, int64_t num_classes, const Tensor& key,
                 optional<ScalarType> dtype) {
  return public_op(index, num_classes, key, dtype);
}

namespace ops {

void register_gumbel_at(torch::Library& m) { m.impl("gumbel_at", TORCH_FN(op)); }

}  // namespace ops

}  // namespace torch_gumbel
