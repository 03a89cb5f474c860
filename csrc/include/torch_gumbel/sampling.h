// SPDX-License-Identifier: Apache-2.0
/// \file
/// Samples from logits. Shapes, errors, and randomness: <torch_gumbel/torch_gumbel.h>.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/options.h>
#include <torch_gumbel/refused.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace torch_gumbel {

/// A sample of the Gumbel-Softmax distribution: softmax((logits + g) / tau), g standard Gumbel
/// noise. Jang, Gu, Poole, "Categorical reparameterization with Gumbel-Softmax", 2016, eq. 2;
/// Maddison, Mnih, Teh, "The Concrete distribution", 2016.
///
/// \param logits  [*, K, *] float32, float64, float16, or bfloat16; -inf masks a class: probability
///     and gradient exactly 0. A row without a finite logit, or with NaN or +inf, gives a row of
///     NaN.
/// \param tau  temperature > 0, finite.
/// \param hard  false: the soft sample. true: its one-hot, with the gradient of the soft sample of
///     the same noise (straight-through); exactly one 1 and K - 1 zeros. Where a gradient is wanted
///     the soft sample is kept for it, as PyTorch keeps it. The 1 is at the class of gumbel_argmax,
///     with its domain of exactness, and so at the largest class of a float32 soft sample of the
///     same key, unless the row's two best scores lie within 2^-22 max(8, tau, M) of each other, M
///     the largest score in magnitude.
/// \param recompute  keep logits and key for the backward of a hard sample instead, and make the
///     noise again: one tensor less in memory. Until then neither logits nor key may be edited:
///     in-place edits raise in the backward, edits by way of `data()` or `set_data` change the
///     gradient in silence. Soft samples ignore it.
/// \return  shape and dtype of `logits` (under autocast on CUDA: float32), contiguous;
///     differentiable.
/// \throws c10::ValueError  tau not positive and finite, key or generator of the wrong device or
///     shape, or both given.
/// \throws c10::TypeError  logits not floating point, key not uint64 or int64.
/// \throws c10::IndexError  dim out of range; hard with K = 0.
TORCH_GUMBEL_API at::Tensor gumbel_softmax(const at::Tensor& logits, double tau = 1.0,
                                           bool hard = false, int64_t dim = -1,
                                           bool recompute = false,
                                           std::optional<at::Generator> generator = std::nullopt,
                                           const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor: one value, or one per row, in a shape that broadcasts to
/// logits with size 1 at `dim`, or in the rows' own, that of logits without `dim` ([B] for [B, K]). It
/// gets a gradient of its shape, and is never read on the host: an entry that is not positive and
/// finite makes its rows NaN.
/// \throws c10::ValueError  also for a tau of any other shape.
TORCH_GUMBEL_API at::Tensor gumbel_softmax(const at::Tensor& logits, const at::Tensor& tau,
                                           bool hard = false, int64_t dim = -1,
                                           bool recompute = false,
                                           std::optional<at::Generator> generator = std::nullopt,
                                           const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options.
TORCH_GUMBEL_API at::Tensor gumbel_softmax(const at::Tensor& logits,
                                           const GumbelSoftmaxFuncOptions& options);

// A tau, hard, or recompute, and a dim, that would be converted.
template <refused::ABool Tau, typename... Rest>
at::Tensor gumbel_softmax(const at::Tensor&, Tau, Rest&&...) = delete;
template <typename Tau, refused::NotABool Hard, typename... Rest>
at::Tensor gumbel_softmax(const at::Tensor&, const Tau&, Hard, Rest&&...) = delete;
template <typename Tau, refused::NotAnInteger Dim, typename... Rest>
at::Tensor gumbel_softmax(const at::Tensor&, const Tau&, bool, Dim, Rest&&...) = delete;
template <typename Tau, refused::NotABool Recompute, typename... Rest>
at::Tensor gumbel_softmax(const at::Tensor&, const Tau&, bool, int64_t, Recompute,
                          Rest&&...) = delete;

/// An exact draw from Categorical(softmax(logits / temperature)): argmax(logits / temperature + g).
/// No probabilities and no one-hot are formed. At temperature 1 it is the position of the 1 in the
/// hard sample of the same key; at temperature 0 the plain argmax. Gumbel, "Statistical theory of
/// extreme values", 1954; Maddison, Tarlow, Minka, "A* sampling", 2014.
///
/// Exactness has a domain: logits / temperature + g is rounded to float32 (float64 for float64
/// logits) before classes are compared, and the first class wins a tie. Scores of size M change
/// probabilities by up to about M 2^-24 (float64: M 2^-53): .06 at 1e6. The limit of a falling
/// temperature is the argmax: below 2^-64 (float64: 2^-512) it counts as that, and a quotient that
/// leaves the range of the type as its largest number.
///
/// \param num_samples  draws with replacement, > 0: sample s of a row takes the words of the row's
///     place in [num_samples, *logits.shape], or, with a key per slice, in [num_samples,
///     *slice.shape].
/// \param temperature  >= 0, finite: logits are multiplied by the float32 number 1 / temperature.
/// \return  int64 [*, *] (with `keepdim`: [*, 1, *]; with `num_samples`: [num_samples, ...]),
///     always in [0, K): the first class on ties, 0 for a row that has no distribution.
/// \throws  as gumbel_softmax; c10::ValueError also for a negative temperature or num_samples < 1,
///     c10::IndexError for K = 0.
TORCH_GUMBEL_API at::Tensor gumbel_argmax(const at::Tensor& logits, int64_t dim = -1,
                                          bool keepdim = false,
                                          std::optional<int64_t> num_samples = std::nullopt,
                                          double temperature = 1.0,
                                          std::optional<at::Generator> generator = std::nullopt,
                                          const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor of a shape as for gumbel_softmax, never read on the host.
/// An entry of 0 gives its row's plain argmax; one that is negative or not finite leaves its rows
/// without a distribution.
TORCH_GUMBEL_API at::Tensor gumbel_argmax(const at::Tensor& logits, const at::Tensor& temperature,
                                          int64_t dim = -1, bool keepdim = false,
                                          std::optional<int64_t> num_samples = std::nullopt,
                                          std::optional<at::Generator> generator = std::nullopt,
                                          const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options.
TORCH_GUMBEL_API at::Tensor gumbel_argmax(const at::Tensor& logits,
                                          const GumbelArgmaxFuncOptions& options);

// A dim, keepdim, or num_samples that would be converted: gumbel_argmax(logits, 0.7).
template <refused::NotAnInteger Dim, typename... Rest>
at::Tensor gumbel_argmax(const at::Tensor&, Dim, Rest&&...) = delete;
template <refused::NotABool Keepdim, typename... Rest>
at::Tensor gumbel_argmax(const at::Tensor&, int64_t, Keepdim, Rest&&...) = delete;
template <refused::NotAnInteger Count, typename... Rest>
at::Tensor gumbel_argmax(const at::Tensor&, int64_t, bool, Count, Rest&&...) = delete;
template <refused::NotAnInteger Dim, typename... Rest>
at::Tensor gumbel_argmax(const at::Tensor&, const at::Tensor&, Dim, Rest&&...) = delete;
template <refused::NotABool Keepdim, typename... Rest>
at::Tensor gumbel_argmax(const at::Tensor&, const at::Tensor&, int64_t, Keepdim,
                         Rest&&...) = delete;
template <refused::NotAnInteger Count, typename... Rest>
at::Tensor gumbel_argmax(const at::Tensor&, const at::Tensor&, int64_t, bool, Count,
                         Rest&&...) = delete;

/// k different classes per row: the k largest of logits / temperature + g, an exact sample without
/// replacement (P(i, then j) = p_i p_j / (1 - p_i), Plackett-Luce). The first is gumbel_argmax of
/// the same key, whose domain of exactness it shares. Kool, van Hoof, Welling, "Stochastic beams
/// and where to find them", 2019.
///
/// \param k  in [1, K].
/// \return  (values, indices), [*, k, *], in falling order; equal values in the order of classes,
///     masked classes last. Values are the perturbed logits, float32 (float64 for float64 logits),
///     differentiable in logits and temperature. A row that has no distribution gives NaN and
///     classes 0, ..., k - 1.
/// \throws  as gumbel_argmax; c10::ValueError also for k out of range, and for more than 2^28
///     classes of float32 scores on a GPU or in a traced call.
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> gumbel_topk(
    const at::Tensor& logits, int64_t k, int64_t dim = -1, double temperature = 1.0,
    std::optional<at::Generator> generator = std::nullopt,
    const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor, as for gumbel_argmax.
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> gumbel_topk(
    const at::Tensor& logits, int64_t k, const at::Tensor& temperature, int64_t dim = -1,
    std::optional<at::Generator> generator = std::nullopt,
    const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options: gumbel_topk(logits, GumbelTopkFuncOptions(3).dim(1)).
TORCH_GUMBEL_API std::tuple<at::Tensor, at::Tensor> gumbel_topk(
    const at::Tensor& logits, const GumbelTopkFuncOptions& options);

// A k or dim that would be converted: gumbel_topk(logits, 3, 0.5).
template <refused::NotAnInteger Count, typename... Rest>
std::tuple<at::Tensor, at::Tensor> gumbel_topk(const at::Tensor&, Count, Rest&&...) = delete;
template <refused::NotAnInteger Dim, typename... Rest>
std::tuple<at::Tensor, at::Tensor> gumbel_topk(const at::Tensor&, int64_t, Dim, Rest&&...) = delete;
template <refused::NotAnInteger Dim, typename... Rest>
std::tuple<at::Tensor, at::Tensor> gumbel_topk(const at::Tensor&, int64_t, const at::Tensor&, Dim,
                                               Rest&&...) = delete;

}  // namespace torch_gumbel
