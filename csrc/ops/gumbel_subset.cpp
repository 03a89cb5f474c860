// SPDX-License-Identifier: Apache-2.0
// Public op gumbel_subset: relaxed k-hot samples.
#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>
#include <torch_gumbel/subset.h>

#include <limits>

#include "autograd_node.h"
#include "checks.h"
#include "estimators.h"
#include "fast_path.h"
#include "keys.h"
#include "largest.h"
#include "ops.h"
#include "params.h"
#include "results.h"
#include "subset.h"

namespace torch_gumbel {
namespace {

using at::Tensor;
using std::optional;

constexpr const char* kName = "gumbel_subset";
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// What a sample is made of, once its arguments are checked.
struct Draw {
  const Tensor &logits, &tau, &key;
  int64_t k, dim;

  /// With gumbel_topk's bits, in the memory of the noise where nothing records this call.
  Tensor scores() const {
    const Tensor noise = ops::noise().call(logits.detach(), key, std::nullopt, std::nullopt);
    return ops::on_fast_path(logits) ? noise.add_(logits) : noise + logits;
  }

  /// One class is the sample of another op.
  Tensor one(bool hard) const {
    const auto none = std::nullopt;
    return hard ? ops::hard().call(logits, tau, key, dim, none, none, none)
                : ops::softmax().call(logits, tau, key, dim, false, none, none, none);
  }

  Tensor several(bool hard) const {
    const Tensor perturbed = scores();
    const auto type = logits.scalar_type();
    const auto soft = [&] { return ops::subset().call(perturbed, tau, k, dim).to(type); };
    if (!hard) return soft();
    const Tensor values = perturbed.detach();
    const Tensor defined = ops::has_subset(values, k, dim)
                               .logical_and(ops::valid_temperatures(tau).to(values.device()) > 0);
    const Tensor found = ops::largest(kName, values, k, dim);
    const Tensor ones = at::zeros_like(values).scatter(dim, found, 1.0);
    const Tensor khot = at::where(defined, ones, kNan).to(type);
    const bool alone = ops::on_fast_path(logits) && !ops::is_differentiated(logits, tau);
    if (alone) return khot;
    const Tensor y = soft();
    return khot + (y - y.detach());
  }
};

Tensor checked(const Tensor& logits, int64_t k, const Tensor& tau, bool hard, int64_t dim,
               const optional<at::Generator>& generator, const optional<Tensor>& given_key) {
  checks::has_classes(kName, logits, dim);
  const Tensor rows = logits.dim() == 0 ? logits.unsqueeze(-1) : logits;
  const c10::SymInt classes = rows.sym_size(dim);
  TORCH_CHECK_VALUE(k >= 1 && k <= classes, kName, ": k must be in [1, ", classes, "], got ", k);
  checks::source(kName, logits, generator, given_key);
  const auto type = ops::opmath_type(logits.scalar_type());
  const Tensor key =
      ops::key_of_call(kName, logits, dim, generator, given_key,
                       {ops::bytes_of(logits, logits.scalar_type()), ops::bytes_of(logits, type)});
  const Draw draw = {rows, tau, key, k, dim};
  const Tensor sample = k == 1 ? draw.one(hard) : draw.several(hard);
  return logits.dim() == 0 ? sample.squeeze(-1) : sample;
}

Tensor public_op(const Tensor& logits, int64_t k, const at::Scalar& tau, bool hard, int64_t dim,
                 optional<at::Generator> generator, const optional<Tensor>& key) {
  return gumbel_subset(logits, k, tau.toDouble(), hard, dim, std::move(generator), key);
}

Tensor public_op_tensor(const Tensor& logits, int64_t k, const Tensor& tau, bool hard, int64_t dim,
                        optional<at::Generator> generator, const optional<Tensor>& key) {
  return gumbel_subset(logits, k, tau, hard, dim, std::move(generator), key);
}

}  // namespace

Tensor gumbel_subset(const Tensor& logits, int64_t k, double tau, bool hard, int64_t dim,
                     optional<at::Generator> generator, const optional<Tensor>& key) {
  checks::logits(kName, logits);
  checks::temperature(kName, "tau", tau);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return checked(logits, k, ops::temperature_of_call(logits, tau), hard, wrapped, generator, key);
}

Tensor gumbel_subset(const Tensor& logits, int64_t k, const Tensor& tau, bool hard, int64_t dim,
                     optional<at::Generator> generator, const optional<Tensor>& key) {
  checks::logits(kName, logits);
  const int64_t wrapped = checks::wrapped_dim(kName, dim, logits.dim());
  return checked(logits, k, checks::temperature(kName, "tau", tau, logits, wrapped), hard, wrapped,
                 generator, key);
}

namespace ops {

void register_gumbel_subset(torch::Library& m) {
  m.impl("gumbel_subset", TORCH_FN(public_op));
  m.impl("gumbel_subset.tensor_tau", TORCH_FN(public_op_tensor));
}

}  // namespace ops

}  // namespace torch_gumbel
