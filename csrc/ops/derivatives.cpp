// SPDX-License-Identifier: Apache-2.0
#include "derivatives.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "ops.h"
#include "params.h"
#include "sums.h"

namespace torch_gumbel::ops {
namespace {

/// The operands of the backward in the opmath type.
struct Widened {
  at::Tensor y, g, tau;
  int64_t dim;

  Widened(const at::Tensor& output, const at::Tensor& grad, const at::Tensor& temperature,
          int64_t along)
      : y(output.to(opmath_type(output.scalar_type()))),
        g(grad.defined() ? grad.to(y.scalar_type()) : grad),
        tau(temperature.to(y.scalar_type())),
        dim(along) {}

  at::Tensor sum(const at::Tensor& values) const { return sum_of_rows(values, dim); }
  /// y (x - sum y x) / tau: the softmax Jacobian, symmetric, at x.
  at::Tensor jacobian(const at::Tensor& x) const { return y * (x - sum(y * x)) / tau; }
  at::Tensor zero_where_y_is(const at::Tensor& values) const {
    return at::where(y > 0, values, at::zeros({}, y.options()));
  }
};

}  // namespace

at::Tensor log_or_zero(const at::Tensor& y) {
  const at::Tensor wide = y.to(opmath_type(y.scalar_type()));
  const at::Tensor positive = wide > 0;
  const at::Tensor one = at::zeros({}, wide.options()) + 1;
  return at::where(positive, wide, one).log() +
         at::where(wide == wide, 0 * one, wide);  // NaN stays NaN
}

at::Tensor reduce_to_tau(const at::Tensor& rows, const at::Tensor& tau) {
  return sum_to_shape(rows, tau.sym_sizes()).to(tau.options().dtype(tau.scalar_type()));
}

BackwardGradients backward_of_backward(const at::Tensor& v, const at::Tensor& w,
                                       const at::Tensor& grad, const at::Tensor& output,
                                       const at::Tensor& tau, int64_t dim) {
  const Widened q(output, grad, tau, dim);
  // r = -sum l log y is linear in l, so its cotangent joins that of l.
  at::Tensor u = v.defined() ? v.to(q.y.scalar_type()) : at::zeros_like(q.y);
  if (w.defined()) u = u - w * log_or_zero(q.y);
  const at::Tensor centred = (q.g - q.sum(q.y * q.g)) / q.tau;
  at::Tensor at_y = u * centred - q.g * q.sum(u * q.y) / q.tau;
  if (w.defined()) at_y = at_y - q.zero_where_y_is(w * centred);
  return {q.jacobian(u).to(grad.scalar_type()), at_y.to(output.scalar_type()),
          -q.sum(u * q.y * centred) / q.tau};
}

std::tuple<at::Tensor, at::Tensor> tangents_of_backward(
    const at::Tensor& grad_t, const at::Tensor& output_t, const at::Tensor& tau_t,
    const at::Tensor& grad, const at::Tensor& output, const at::Tensor& tau, int64_t dim) {
  const Widened q(output, grad, tau, dim);
  const at::Tensor centred = (q.g - q.sum(q.y * q.g)) / q.tau;
  const at::Tensor l = q.y * centred;
  at::Tensor l_t = at::zeros_like(l);
  if (grad_t.defined()) l_t = l_t + q.jacobian(grad_t);
  if (output_t.defined()) l_t = l_t + output_t * centred - q.y * q.sum(output_t * q.g) / q.tau;
  if (tau_t.defined()) l_t = l_t - l * tau_t / q.tau;
  at::Tensor r_t = -q.sum(l_t * log_or_zero(q.y));
  if (output_t.defined()) r_t = r_t - q.sum(q.zero_where_y_is(centred * output_t));
  return {l_t, r_t};
}

at::Tensor tangent_of_sample(const at::Tensor& logits_t, const at::Tensor& tau_t,
                             const at::Tensor& output, const at::Tensor& tau, int64_t dim,
                             at::ScalarType type) {
  const Widened q(output, at::Tensor(), tau, dim);
  at::Tensor direction = logits_t.defined() ? logits_t.to(q.y.scalar_type()) : at::zeros_like(q.y);
  if (tau_t.defined()) direction = direction - log_or_zero(q.y) * tau_t;
  return std::get<0>(backward().call(direction, output, tau, dim, type, false));
}

at::Tensor tangent_of_hard_sample(const at::Tensor& logits_t, const at::Tensor& tau_t,
                                  const at::Tensor& logits, const at::Tensor& tau,
                                  const at::Tensor& key, int64_t dim, at::ScalarType type,
                                  at::OptionalSymIntArrayRef full_shape,
                                  at::OptionalSymIntArrayRef start) {
  if (!tau_t.defined())
    return std::get<0>(
               hard_backward().call(logits_t, logits, tau, key, dim, false, full_shape, start))
        .to(type);
  const at::Tensor y = softmax().call(logits, tau, key, dim, false,
                                      opmath_type(logits.scalar_type()), full_shape, start);
  return tangent_of_sample(logits_t, tau_t, y, tau, dim, type);
}

at::Tensor tangent_of_lse(const at::Tensor& logits_t, const at::Tensor& tau_t,
                          const at::Tensor& output, const at::Tensor& lse, const at::Tensor& tau,
                          int64_t dim) {
  const Widened q(output, at::Tensor(), tau, dim);
  at::Tensor tangent = at::zeros_like(lse);
  if (logits_t.defined()) tangent = tangent + q.sum(q.y * logits_t) / q.tau;
  if (tau_t.defined()) tangent = tangent - q.sum(q.y * (log_or_zero(q.y) + lse)) * tau_t / q.tau;
  return tangent.to(lse.scalar_type());
}

}  // namespace torch_gumbel::ops
