# SPDX-License-Identifier: Apache-2.0
"""gumbel_subset: relaxed samples of k different classes."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import checked_call, flag, integer, overridden

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def gumbel_subset(
    logits: Tensor,
    k: int,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    dim: int = -1,
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""Draws a relaxed sample of k different classes: a k-hot vector with a gradient.

    One noise draw, r = logits + g; then k times a = softmax(r / tau), which is added to the sample,
    and log(1 - a), which is added to r. As tau goes to 0, the k-hot of the k largest of
    logits + g. Which classes those are has the law of draws without replacement:
    :func:`torch_gumbel.gumbel_topk`.

    Args:
        logits: ``[*, K, *]``, as for :func:`torch_gumbel.gumbel_softmax`.
        k: number of classes, in [1, K].
        tau: as for :func:`torch_gumbel.gumbel_softmax`.
        hard: exactly k ones, at the indices of :func:`torch_gumbel.gumbel_topk` of the same key,
            with the gradient of the soft sample (straight-through).
        dim: the class dimension.
        generator: as for :func:`torch_gumbel.gumbel_softmax`.
        key: as for :func:`torch_gumbel.gumbel_softmax`.

    Returns:
        The shape and dtype of ``logits``, entries >= 0 that sum to k. **An entry of a soft sample
        can exceed 1**: a class that has nearly all of one softmax keeps about as much weight as all
        others together in the next. With k = 1, the bits of :func:`torch_gumbel.gumbel_softmax`.
        A row with fewer than k finite logits, with NaN, or with +inf gives NaN, soft or hard.

    Raises:
        As :func:`torch_gumbel.gumbel_softmax`; ValueError also for k out of range, IndexError for
        K = 0.

    Source: Xie, Ermon, *Reparameterizable Subset Sampling via Continuous Relaxations* (2019).

    Example:
        >>> logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
        >>> torch_gumbel.gumbel_subset(logits, 2, hard=True, key=torch_gumbel.key(0))
        tensor([1., 0., 1., 0.])
    """
    who = "gumbel_subset"
    if not _is_compiling() and has_torch_function_variadic(logits, tau, key):
        drawn: Tensor = overridden(gumbel_subset, (logits, tau, key), locals())
        return drawn
    taken = checked_call(who, logits, tau, "tau", generator, key)
    k, dim, hard = integer(who, "k", k), integer(who, "dim", dim), flag(who, "hard", hard)
    if isinstance(taken, Tensor):
        drawn = _ops.gumbel_subset.tensor_tau(
            logits, k, taken, hard, dim, generator=generator, key=key
        )
    else:
        drawn = _ops.gumbel_subset.default(
            logits, k, taken, hard, dim, generator=generator, key=key
        )
    return drawn
