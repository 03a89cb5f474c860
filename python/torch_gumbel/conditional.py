# SPDX-License-Identifier: Apache-2.0
"""Noise given its outcome, and the log-probability of an ordered draw."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import (
    check_integer,
    check_source_types,
    check_tensor,
    checked_call,
    integer,
    number,
    overridden,
    refuse_dtensor,
    refuse_traced_generator,
)

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def gumbel_posterior(
    logits: Tensor,
    index: Tensor,
    dim: int = -1,
    *,
    max_value: float | Tensor | None = None,
    num_samples: int | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""Draws perturbed logits, logits + g, given that the largest is at ``index``.

    The largest comes from its own law, Gumbel(logsumexp(logits)), and the others from
    Gumbel(logits) truncated below it. With ``index`` itself drawn from softmax(logits), the result
    is distributed as ``logits + sample_gumbel(...)`` again. Everything is computed in logarithms:
    logits of +-1e4 are as good as others.

    Args:
        logits: ``[*, K, *]``, as for :func:`torch_gumbel.gumbel_softmax`.
        index: int64 ``[*, *]``, the class of the largest in every row.
        dim: the class dimension.
        max_value: the value of the largest, where it is known: a number, or a tensor with one value
            or one per row, as the temperature of :func:`torch_gumbel.gumbel_softmax`;
            differentiable. Default: drawn.
        num_samples: draws, > 0, with the words that :func:`torch_gumbel.gumbel_argmax` takes for as
            many.
        generator: as for :func:`torch_gumbel.gumbel_softmax`.
        key: as for :func:`torch_gumbel.gumbel_softmax`.

    Returns:
        The shape of ``logits``, with ``num_samples`` ``[num_samples, *, K, *]``, float32 (float64
        for float64 logits). Every other class lies strictly below that of the index; masked classes
        are -inf. Differentiable in logits to every order, through the noise as well: the derivative
        of the reparameterization, as REBAR needs it. A row without a distribution, with an index
        that is masked or not in [0, K), or with a ``max_value`` that is not finite, gives NaN.

    Raises:
        As :func:`torch_gumbel.gumbel_argmax`; TypeError also for an index that is not int64,
        ValueError for one of the wrong shape or device.

    Sources: Maddison, Tarlow, Minka, *A\* Sampling* (2014), section 3; Oberst, Sontag,
    *Counterfactual Off-Policy Evaluation with Gumbel-Max Structural Causal Models* (2019).

    Example:
        What would have been drawn with other logits, had everything else been equal:

        >>> seen, other = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 3.0, 2.0])
        >>> index = torch.tensor(2)
        >>> perturbed = torch_gumbel.gumbel_posterior(seen, index, key=torch_gumbel.key(0))
        >>> perturbed.argmax(), (other + (perturbed - seen)).argmax()
        (tensor(2), tensor(2))
    """
    who = "gumbel_posterior"
    if _is_compiling():
        refuse_traced_generator(who, generator)
    elif has_torch_function_variadic(logits, index, max_value, key):
        tensors = (logits, index, max_value, key)
        drawn: Tensor = overridden(gumbel_posterior, tensors, locals())
        return drawn
    else:
        check_tensor(who, "logits", logits)
        check_source_types(who, generator, key)
    check_tensor(who, "index", index)
    refuse_dtensor(who, logits)
    if num_samples is not None:
        check_integer(who, "num_samples", num_samples)
    if max_value is not None and not isinstance(max_value, Tensor):
        max_value = torch.tensor(number(who, "max_value", max_value), dtype=torch.float64)
    drawn = _ops.gumbel_posterior.default(
        logits,
        index,
        integer(who, "dim", dim),
        max_value=max_value,
        num_samples=num_samples,
        generator=generator,
        key=key,
    )
    return drawn


def gumbel_topk_log_prob(
    logits: Tensor, indices: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Log-probability of an ordered draw without replacement, such as :func:`gumbel_topk`'s.

    sum_i log(p_i / (1 - p_1 - ... - p_(i-1))) with p = softmax(logits / temperature), p_i that of
    the i-th index (Plackett-Luce). The sums run from the last index back, so that nothing cancels.

    Args:
        logits: ``[*, K, *]``, as for :func:`torch_gumbel.gumbel_softmax`.
        indices: int64 ``[*, k, *]`` with 1 <= k <= K, in the order of the draw.
        dim: the class dimension.
        temperature: > 0 and finite, as for :func:`torch_gumbel.gumbel_softmax`.

    Returns:
        ``[*, *]``, <= 0, float32 (float64 for float64 logits), differentiable in logits and in a
        temperature that is a tensor. A draw that is not possible, of a masked class or of a class
        twice, has -inf and a gradient of 0. A row without a distribution, or with an index that is
        not in [0, K), gives NaN.

    Raises:
        ValueError: indices of another shape or device; a temperature out of range or of a wrong
            shape.
        TypeError: not a tensor, logits not floating point, indices not int64.
        IndexError: ``dim`` out of range; K = 0.

    Source: Kool, van Hoof, Welling, *Stochastic Beams and Where to Find Them* (2019), eq. 4.

    Example:
        >>> logits = torch.tensor([0.5, 0.3, 0.2]).log()
        >>> torch_gumbel.gumbel_topk_log_prob(logits, torch.tensor([0, 2])).exp()  # .5 * .2 / .5
        tensor(0.2000)
    """
    who = "gumbel_topk_log_prob"
    tensors = (logits, indices, temperature)
    if not _is_compiling() and has_torch_function_variadic(*tensors):
        value: Tensor = overridden(gumbel_topk_log_prob, tensors, locals())
        return value
    taken = checked_call(who, logits, temperature, "temperature", None, None)
    check_tensor(who, "indices", indices)
    dim = integer(who, "dim", dim)
    if isinstance(taken, Tensor):
        value = _ops.gumbel_topk_log_prob.tensor_temperature(logits, indices, taken, dim)
    else:
        value = _ops.gumbel_topk_log_prob.default(logits, indices, dim, temperature=taken)
    return value
