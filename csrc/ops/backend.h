// SPDX-License-Identifier: Apache-2.0
// The private ops for a backend: allocate the results, make the kernel's parameters, run the
// kernel. A backend gives
//     static void run(Op op, const KernelParams& params, const at::Tensor& on);
// which runs one op on the device of `on`.
#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <torch/library.h>

#include "checks.h"
#include "estimators.h"
#include "ops.h"
#include "params.h"

namespace torch_gumbel::ops {

/// Contents undefined, contiguous, where `like` is. On a CPU without a dispatch, since small calls
/// take little more time than their tensors do; but a fake tensor says that it is on a CPU, too.
inline Tensor empty_near(const Tensor& like, c10::SymIntArrayRef shape, ScalarType type) {
  const auto keys = like.key_set();
  if (keys.has_backend(c10::BackendComponent::CPUBit) && !keys.has(c10::DispatchKey::Python))
    return Tensor(at::detail::empty_cpu(C10_AS_INTARRAYREF_SLOW(shape), type));
  return at::empty_symint(shape, like.options().dtype(type).memory_format(std::nullopt));
}

inline Tensor empty_like_shape(const Tensor& like, ScalarType type) {
  return empty_near(like, like.sym_sizes(), type);
}

inline Tensor empty_rows(const Tensor& like, int64_t dim, ScalarType type) {
  return empty_near(like, rows_shape(like, dim), type);
}

/// A result that was not asked for.
inline Tensor no_elements(const Tensor& like, ScalarType type) {
  const c10::SymInt none = 0;
  return empty_near(like, none, type);
}

/// The second result of a backward that was not asked for it.
inline Tensor no_rows(const Tensor& like) {
  return no_elements(like, opmath_type(like.scalar_type()));
}

/// One number for the choice of each row: without `keepdim`, `dim` is dropped.
inline Tensor empty_choices(const Tensor& logits, int64_t dim, bool keepdim, ScalarType type) {
  auto shape = rows_shape(logits, dim);
  if (!keepdim && !shape.empty()) shape.erase(shape.begin() + dim);
  return empty_near(logits, shape, type);
}

/// A stray meta tensor among real ones brings a call to the meta kernels, where there is no data to
/// return.
inline void check_meta(const Tensor& main) {
  TORCH_CHECK_VALUE(main.is_meta(), "torch_gumbel: wanted all tensors on ", main.device(),
                    ", got one on meta");
}

template <typename Backend>
struct PrivateOps {
  using Shape = at::OptionalIntArrayRef;

  static void run(const char* who, Op op, const Operands& operands) {
    const Launch launch = make_params(who, operands);
    if (launch.params.rows.count == 0 || launch.params.rows.classes == 0) return;
    Backend::run(op, launch.params, operands.input.defined() ? operands.input : operands.output);
  }

  /// The operands of a draw, but for its results.
  static Operands drawn(const Tensor& logits, const Tensor& tau, const Tensor& key, int64_t dim,
                        Shape full_shape, Shape start) {
    return {.input = logits,
            .tau = tau,
            .key = key,
            .dim = dim,
            .full_shape = full_shape,
            .start = start};
  }

  static Tensor softmax(const Tensor& logits, const Tensor& tau, const Tensor& key, int64_t dim,
                        bool hard, std::optional<ScalarType> dtype, Shape full_shape, Shape start) {
    Operands operands = drawn(logits, tau, key, dim, full_shape, start);
    operands.output = empty_like_shape(logits, dtype.value_or(logits.scalar_type()));
    run("_gumbel_softmax", hard ? Op::kHard : Op::kSoft, operands);
    return operands.output;
  }

  static Tensor hard(const Tensor& logits, const Tensor& tau, const Tensor& key, int64_t dim,
                     std::optional<ScalarType> dtype, Shape full_shape, Shape start) {
    return softmax(logits, tau, key, dim, /*hard=*/true, dtype, full_shape, start);
  }

  static TensorPair hard_soft(const Tensor& logits, const Tensor& tau, const Tensor& key,
                              int64_t dim, std::optional<ScalarType> dtype, Shape full_shape,
                              Shape start) {
    Operands operands = drawn(logits, tau, key, dim, full_shape, start);
    operands.output = empty_like_shape(logits, dtype.value_or(logits.scalar_type()));
    operands.one_hot = empty_like_shape(logits, operands.output.scalar_type());
    run("_gumbel_softmax_hard_soft", Op::kHardSoft, operands);
    return {operands.one_hot, operands.output};
  }

  static TensorPair softmax_lse(const Tensor& logits, const Tensor& tau, const Tensor& key,
                                int64_t dim, std::optional<ScalarType> dtype, Shape full_shape,
                                Shape start) {
    Operands operands = drawn(logits, tau, key, dim, full_shape, start);
    operands.output = empty_like_shape(logits, dtype.value_or(logits.scalar_type()));
    operands.row_value = empty_rows(logits, dim, opmath_type(logits.scalar_type()));
    if (logits.numel() == 0) operands.row_value.fill_(-std::numeric_limits<double>::infinity());
    run("_gumbel_softmax_lse", Op::kSoft, operands);
    return {operands.output, operands.row_value};
  }

  static TensorPair backward(const Tensor& grad, const Tensor& output, const Tensor& tau,
                             int64_t dim, std::optional<ScalarType> dtype, bool tau_grad) {
    Tensor grad_logits = empty_like_shape(output, dtype.value_or(output.scalar_type()));
    Operands operands = {
        .input = output, .grad = grad, .output = grad_logits, .tau = tau, .dim = dim};
    const Tensor rows = tau_grad_rows(output, dim, tau_grad, operands);
    run("_gumbel_softmax_backward", Op::kBackward, operands);
    return {grad_logits, rows};
  }

  static TensorPair hard_backward(const Tensor& grad, const Tensor& logits, const Tensor& tau,
                                  const Tensor& key, int64_t dim, bool tau_grad, Shape full_shape,
                                  Shape start) {
    Operands operands = drawn(logits, tau, key, dim, full_shape, start);
    operands.grad = grad;
    operands.output = empty_like_shape(logits, logits.scalar_type());
    const Tensor rows = tau_grad_rows(logits, dim, tau_grad, operands);
    run("_gumbel_softmax_hard_backward", Op::kHardBackward, operands);
    return {operands.output, rows};
  }

  static TensorPair max(const Tensor& logits, const Tensor& temperature, const Tensor& key,
                        int64_t dim, bool keepdim, Shape full_shape, Shape start) {
    Operands operands = drawn(logits, temperature, key, dim, full_shape, start);
    operands.row_value = empty_choices(logits, dim, keepdim, opmath_type(logits.scalar_type()));
    run_argmax("_gumbel_max", keepdim, operands);
    return {operands.row_value, operands.index};
  }

  static Tensor argmax(const Tensor& logits, const Tensor& temperature, const Tensor& key,
                       int64_t dim, bool keepdim, Shape full_shape, Shape start) {
    Operands operands = drawn(logits, temperature, key, dim, full_shape, start);
    run_argmax("_gumbel_argmax", keepdim, operands);
    return operands.index;
  }

  static OneHotResult one_hot(const Tensor& logits, const Tensor& tau, const Tensor& key,
                              int64_t dim, c10::string_view estimator, int64_t draws, double gap,
                              std::optional<ScalarType> dtype, bool keep, Shape full_shape,
                              Shape start) {
    constexpr const char* kName = "_sample_one_hot";
    estimator_settings(kName, estimator, draws, gap);
    Operands operands = drawn(logits, tau, key, dim, full_shape, start);
    operands.output = empty_like_shape(logits, dtype.value_or(logits.scalar_type()));
    operands.index = empty_choices(logits, dim, /*keepdim=*/true, at::kLong);
    checks::has_classes(kName, logits, dim);
    Tensor kept;
    if constexpr (Backend::kHardGivesIndex) {
      kept = kept_logits(logits, keep, operands);
      run(kName, Op::kHard, operands);
    } else {
      kept = keep ? logits.contiguous() : no_elements(logits, logits.scalar_type());
      if (keep && kept.is_same(logits)) kept = logits.clone();
      Operands sample = operands;
      sample.index = Tensor();
      run(kName, Op::kHard, sample);
      operands.output = Tensor();
      operands.tau = at::ones({}, at::kDouble);
      run(kName, Op::kArgmax, operands);
      if (tau.dim() > 0 || !tau.is_cpu()) operands.index.mul_(valid_temperatures(tau));
      return {sample.output, kept, operands.index};
    }
    return {operands.output, kept, operands.index};
  }

  static TensorPair one_hot_backward(const Tensor& grad, const Tensor& logits, const Tensor& index,
                                     const Tensor& tau, const Tensor& key, int64_t dim,
                                     c10::string_view estimator, int64_t draws, double gap,
                                     bool tau_grad, Shape full_shape, Shape start) {
    constexpr const char* kName = "_sample_one_hot_backward";
    const auto settings = estimator_settings(kName, estimator, draws, gap);
    check_choices(kName, index, logits, dim);
    Operands operands = drawn(logits, tau, key, dim, full_shape, start);
    operands.grad = grad;
    // Draws are added up in the output: of a half type, too coarsely.
    const bool adds_up = !Backend::kHardGivesIndex && settings.estimator == Estimator::kGumbelRao;
    const auto type = logits.scalar_type();
    operands.output = empty_like_shape(logits, adds_up ? opmath_type(type) : type);
    operands.index = index.contiguous();
    const Tensor rows = tau_grad_rows(logits, dim, tau_grad, operands);
    Launch launch = make_params(kName, operands);
    launch.params.estimator = settings.estimator;
    launch.params.draws = settings.draws, launch.params.gap = settings.gap;
    if (launch.params.rows.count > 0 && launch.params.rows.classes > 0)
      Backend::run_one_hot_backward(launch.params, logits);
    return {operands.output.to(type), rows};
  }

  /// Along the last dimension: for noise, which one is the class dimension makes no difference.
  static Tensor noise(const Tensor& like, const Tensor& key, Shape full_shape, Shape start) {
    Tensor output = empty_like_shape(like, opmath_type(like.scalar_type()));
    run("_gumbel_noise", Op::kNoise,
        {.output = output,
         .key = key,
         .dim = std::max<int64_t>(like.dim() - 1, 0),
         .full_shape = full_shape,
         .start = start});
    return output;
  }

  static void register_on(torch::Library& m) {
    m.impl("_gumbel_softmax", TORCH_FN(softmax));
    m.impl("_gumbel_softmax_hard", TORCH_FN(hard));
    m.impl("_gumbel_softmax_hard_soft", TORCH_FN(hard_soft));
    m.impl("_gumbel_softmax_lse", TORCH_FN(softmax_lse));
    m.impl("_gumbel_softmax_backward", TORCH_FN(backward));
    m.impl("_gumbel_softmax_hard_backward", TORCH_FN(hard_backward));
    m.impl("_gumbel_max", TORCH_FN(max));
    m.impl("_gumbel_argmax", TORCH_FN(argmax));
    m.impl("_gumbel_noise", TORCH_FN(noise));
    m.impl("_sample_one_hot", TORCH_FN(one_hot));
    m.impl("_sample_one_hot_backward", TORCH_FN(one_hot_backward));
  }

 private:
  static void run_argmax(const char* who, bool keepdim, Operands& operands) {
    operands.index = empty_choices(operands.input, operands.dim, keepdim, at::kLong);
    checks::has_classes(who, operands.input, operands.dim);
    run(who, Op::kArgmax, operands);
  }

  /// A copy of logits that lie as the output does is made by the kernel that draws.
  static Tensor kept_logits(const Tensor& logits, bool keep, Operands& operands) {
    if (!keep) return no_elements(logits, logits.scalar_type());
    if (!logits.is_contiguous()) return logits.contiguous();
    if (operands.output.scalar_type() != logits.scalar_type()) return logits.clone();
    operands.one_hot = empty_like_shape(logits, logits.scalar_type());
    return operands.one_hot;
  }

  static Tensor tau_grad_rows(const Tensor& like, int64_t dim, bool wanted, Operands& operands) {
    if (!wanted) return no_rows(like);
    operands.row_value = empty_rows(like, dim, opmath_type(like.scalar_type()));
    if (like.numel() == 0) operands.row_value.zero_();
    return operands.row_value;
  }
};

}  // namespace torch_gumbel::ops
