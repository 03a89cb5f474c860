# SPDX-License-Identifier: Apache-2.0
"""gumbel_topk: sampling of several classes without replacement."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import check_integer, checked_call, integer, overridden

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def gumbel_topk(
    logits: Tensor,
    k: int,
    dim: int = -1,
    *,
    temperature: float | Tensor = 1.0,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Draws k distinct classes: the k largest of logits / temperature + g.

    An exact sample without replacement, in the order in which the classes would be drawn one after
    another: P(i, then j) = p_i p_j / (1 - p_i) with p = softmax(logits / temperature). The first is
    :func:`torch_gumbel.gumbel_argmax` of the same key, whose domain of exactness it shares: scores
    of size M change probabilities by up to about M 2**-24.

    Args:
        logits: ``[*, K, *]``, as for :func:`torch_gumbel.gumbel_softmax`.
        k: number of classes to draw, in [1, K].
        dim: the class dimension.
        temperature: as for :func:`torch_gumbel.gumbel_argmax`; 0 gives the k largest logits.
        generator: as for :func:`torch_gumbel.gumbel_softmax`.
        key: as for :func:`torch_gumbel.gumbel_softmax`.

    Returns:
        ``(values, indices)``, both ``[*, k, *]``, in descending order; equal values in the order of
        classes, and masked classes (-inf) last. Values are the perturbed logits in float32 (float64
        for float64 logits), differentiable in logits and in a temperature that is a tensor.
        Indices are int64. A row without a distribution gives NaN and the classes 0, ..., k - 1.

    Raises:
        As :func:`torch_gumbel.gumbel_argmax`; ValueError also for k out of range, and for more than
        2**28 classes of float32 scores on a GPU or in a traced call.

    Source: Kool, van Hoof, Welling, *Stochastic Beams and Where to Find Them* (2019).

    Example:
        >>> logits = torch.tensor([0.5, 0.3, 0.2, 0.0]).log()
        >>> values, indices = torch_gumbel.gumbel_topk(logits, 4, key=torch_gumbel.key(0))
        >>> indices  # every class once; the one of probability 0 comes last
        tensor([0, 2, 1, 3])
    """
    who = "gumbel_topk"
    if not _is_compiling() and has_torch_function_variadic(logits, temperature, key):
        found: tuple[Tensor, Tensor] = overridden(gumbel_topk, (logits, temperature, key), locals())
        return found
    taken = checked_call(who, logits, temperature, "temperature", generator, key, zero=True)
    check_integer(who, "k", k)
    dim = integer(who, "dim", dim)
    if isinstance(taken, Tensor):
        found = _ops.gumbel_topk.tensor_temperature(
            logits, taken, k, dim, generator=generator, key=key
        )
    else:
        found = _ops.gumbel_topk.default(
            logits, k, dim, temperature=taken, generator=generator, key=key
        )
    return found
