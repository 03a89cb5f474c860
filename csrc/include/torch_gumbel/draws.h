// SPDX-License-Identifier: Apache-2.0
/// \file
/// Draws from the classes that filters keep. Shapes, errors, and randomness:
/// <torch_gumbel/torch_gumbel.h>.
///
///     auto [token, log_prob, none] = sample_logits(
///         logits, SampleLogitsFuncOptions().temperature(.8).top_p(.9).return_log_prob(true));
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/arg.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/refused.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>

namespace torch_gumbel {

/// Options of filter_logits, and of sample_logits. Each filter is a number or a tensor, one value or
/// one per row, in a shape as for the temperature of gumbel_softmax; a tensor is never read on the
/// host: an entry out of range leaves its row without a distribution.
template <typename Options>
class FilterOptions {
 public:
  /// Temperature >= 0, finite; 0 keeps the first largest logit alone.
  Options& temperature(double value) { return set(temperature_, value); }
  Options& temperature(at::Tensor value) { return set(temperature_, std::move(value)); }
  const std::variant<double, at::Tensor>& temperature() const { return temperature_; }

  /// Keep the k largest logits, of equal ones the first classes: exactly k, if so many are not
  /// masked. -1 and 0: off. An integer, or a tensor of integers.
  Options& top_k(int64_t value) { return set(top_k_, value); }
  Options& top_k(at::Tensor value) { return set(top_k_, std::move(value)); }
  template <refused::NotAnInteger Value>
  Options& top_k(Value) = delete;
  const std::variant<std::monostate, int64_t, at::Tensor>& top_k() const { return top_k_; }

  /// Of these, keep the shortest prefix in falling order with at least that share of their
  /// probability, in (0, 1]; 1: off.
  Options& top_p(double value) { return set(top_p_, value); }
  Options& top_p(at::Tensor value) { return set(top_p_, std::move(value)); }
  const std::variant<std::monostate, double, at::Tensor>& top_p() const { return top_p_; }

  /// Of these, keep those at least that share, in [0, 1], as probable as the most probable one.
  Options& min_p(double value) { return set(min_p_, value); }
  Options& min_p(at::Tensor value) { return set(min_p_, std::move(value)); }
  const std::variant<std::monostate, double, at::Tensor>& min_p() const { return min_p_; }

 private:
  template <typename To, typename Value>
  Options& set(To& to, Value value) {
    to = std::move(value);
    return static_cast<Options&>(*this);
  }
  std::variant<double, at::Tensor> temperature_ = 1.0;
  std::variant<std::monostate, int64_t, at::Tensor> top_k_;
  std::variant<std::monostate, double, at::Tensor> top_p_, min_p_;
};

/// Options of filter_logits.
struct FilterLogitsFuncOptions : FilterOptions<FilterLogitsFuncOptions> {
  /// The class dimension.
  TORCH_ARG(int64_t, dim) = -1;
};

/// Options of sample_logits.
struct SampleLogitsFuncOptions : FilterOptions<SampleLogitsFuncOptions> {
  /// The class dimension.
  TORCH_ARG(int64_t, dim) = -1;

  /// Draws with replacement, as a leading dimension; absent: one, without that dimension.
  TORCH_ARG(std::optional<int64_t>, num_samples);

  /// The logarithm of the choice's probability, and the entropy, of the law of the kept classes.
  TORCH_ARG(bool, return_log_prob) = false;
  TORCH_ARG(bool, return_entropy) = false;

  /// As for gumbel_softmax.
  TORCH_ARG(std::optional<at::Generator>, generator);
  TORCH_ARG(std::optional<at::Tensor>, key);
};

/// An exact draw from softmax(logits / temperature), renormalised over the classes that the filters
/// keep: the largest logits / temperature + g among them, with the noise of gumbel_argmax. So its
/// choice is that of gumbel_argmax of the same key, if that one is kept. Filters are applied in the
/// order temperature, top-k, top-p, min-p; ties by the logits themselves, then the class. Nothing is
/// sorted.
///
/// \param logits  [*, K, *], as for gumbel_softmax, at most 2^31 - 1024 classes on a CPU. Rows along
///     another dimension than the last are copied.
/// \return  (index int64 [*], log-probability, entropy), with `num_samples` [num_samples, *]; what was
///     not asked for is an empty tensor. log-probability and entropy are float32 (float64 for float64
///     logits), not differentiable. A row that has no distribution gives 0 and NaN.
/// \throws  as gumbel_argmax; c10::ValueError also for top_k < -1, top_p outside (0, 1], min_p outside
///     [0, 1].
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor, at::Tensor> sample_logits(
    const at::Tensor& logits, const SampleLogitsFuncOptions& options = {});

/// logits / temperature, -inf where sample_logits with these filters draws no class. At temperature 0
/// the first largest logit stays as it is. A row that has no distribution gives NaN.
///
/// \return  shape and dtype of `logits`, contiguous; differentiable in logits and temperature, with the
///     kept classes as they are.
/// \throws  as sample_logits.
TORCH_GUMBEL_API at::Tensor filter_logits(const at::Tensor& logits,
                                          const FilterLogitsFuncOptions& options = {});

}  // namespace torch_gumbel
