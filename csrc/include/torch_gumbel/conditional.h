// SPDX-License-Identifier: Apache-2.0
/// \file
/// Noise given its outcome, and the log-probability of an ordered draw. Shapes, errors, and
/// randomness: <torch_gumbel/torch_gumbel.h>.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/refused.h>

#include <cstdint>
#include <optional>

namespace torch_gumbel {

/// Perturbed logits, logits + g, given that their largest is at `index`: the largest is drawn from
/// its own law, Gumbel(logsumexp(logits)), and the others from Gumbel(logits) truncated below it.
/// Maddison, Tarlow, Minka, "A* sampling", 2014, section 3; Oberst, Sontag, "Counterfactual
/// off-policy evaluation with Gumbel-max structural causal models", 2019.
///
/// \param logits  as for gumbel_softmax.
/// \param index  int64, the shape of logits without `dim`.
/// \param max_value  the value of the largest, where it is known: one, or one per row, as the
///     temperature of gumbel_softmax; floating point, differentiable. Absent: drawn.
/// \param num_samples  draws, > 0, with the words that gumbel_argmax takes for as many.
/// \return  the shape of logits (with `num_samples`: [num_samples, ...]), float32 (float64 for
///     float64 logits), differentiable in logits, also through the noise, which is what REBAR needs.
///     Every other class lies strictly below that of the index, by at least one unit in the last
///     place; masked classes are -inf. A row without a distribution, with an index that is out of
///     range or masked, or with a max_value that is not finite, is NaN.
/// \throws  as gumbel_argmax; c10::TypeError also for an index that is not int64, c10::ValueError
///     for its shape or device.
TORCH_GUMBEL_API at::Tensor gumbel_posterior(
    const at::Tensor& logits, const at::Tensor& index, int64_t dim = -1,
    const std::optional<at::Tensor>& max_value = std::nullopt,
    std::optional<int64_t> num_samples = std::nullopt,
    std::optional<at::Generator> generator = std::nullopt,
    const std::optional<at::Tensor>& key = std::nullopt);
template <refused::NotAnInteger Dim, typename... Rest>
at::Tensor gumbel_posterior(const at::Tensor&, const at::Tensor&, Dim, Rest&&...) = delete;

/// Log-probability of an ordered draw without replacement (Plackett-Luce), such as gumbel_topk's:
/// sum_i log(p_i / (1 - p_1 - ... - p_(i-1))) with p = softmax(logits / temperature). Kool, van
/// Hoof, Welling, "Stochastic beams and where to find them", 2019, eq. 4.
///
/// \param logits  as for gumbel_softmax.
/// \param indices  int64 [*, k, *] with 1 <= k <= K, in the order of the draw.
/// \param temperature  > 0, finite.
/// \return  the shape of logits without `dim`, <= 0, float32 (float64 for float64 logits),
///     differentiable in logits (and in a temperature that is a tensor). A draw that is not
///     possible, of a masked class or of a class twice, has -inf and a gradient of 0; a row without
///     a distribution, or with an index out of range, is NaN.
/// \throws c10::ValueError  indices of another shape or device, a temperature out of range or of a
///     wrong shape.
/// \throws c10::TypeError  logits not floating point, indices not int64.
/// \throws c10::IndexError  dim out of range, K = 0.
TORCH_GUMBEL_API at::Tensor gumbel_topk_log_prob(const at::Tensor& logits,
                                                 const at::Tensor& indices, int64_t dim = -1,
                                                 double temperature = 1.0);

/// The same with the temperature a tensor of a shape as for gumbel_softmax, never read on the host.
TORCH_GUMBEL_API at::Tensor gumbel_topk_log_prob(const at::Tensor& logits,
                                                 const at::Tensor& indices,
                                                 const at::Tensor& temperature, int64_t dim = -1);
template <refused::NotAnInteger Dim, typename... Rest>
at::Tensor gumbel_topk_log_prob(const at::Tensor&, const at::Tensor&, Dim, Rest&&...) = delete;

}  // namespace torch_gumbel
