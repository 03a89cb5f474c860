# SPDX-License-Identifier: Apache-2.0
"""Samples of rows whose classes are sharded over several ranks.

Every rank draws the noise of its own classes by their global position, so choices are bitwise equal
to those of one process. Ranks exchange a few numbers per row: the best score, its class and, for a
soft sample, the sum of the weights relative to that score. This takes one all-gather, since no
backend reduces such a tuple; all ranks merge in the same order and so hold the same bits. A
backward takes one all-reduce.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

from torch_gumbel import _unrounded
from torch_gumbel._ranks import SumOverRanks, ToShards
from torch_gumbel._sums import sum_of_rows, sum_to_size

_ops = torch.ops.torch_gumbel


@dataclass(frozen=True)
class Shard:
    """The position of a local tensor in the global one.

    ``full_shape`` and ``start`` cover the dimensions after the key's batch (None: the local tensor
    is the global one). ``group``: the ranks that hold the other classes of the same rows (None: all
    classes are local). ``first_class``: the global index of the first local class.
    """

    dim: int
    full_shape: Sequence[int] | None = None
    start: Sequence[int] | None = None
    group: dist.ProcessGroup | None = None
    first_class: int = 0


def sample(
    logits: Tensor,
    tau: Tensor,
    key: Tensor,
    hard: bool,
    dtype: torch.dtype,
    shard: Shard,
    *,
    recompute: bool = False,
) -> Tensor:
    """The local shard of a sample, of type ``dtype``.

    ``recompute`` applies if all classes are local; otherwise the soft sample is kept.
    """
    if shard.group is None:
        if hard and not recompute:
            return _local_hard(logits, tau, key, dtype, shard)
        return _local_sample(logits, tau, key, hard, dtype, shard)
    differentiated = torch.is_grad_enabled() and (logits.requires_grad or tau.requires_grad)
    if hard and not differentiated:
        return _one_hot(*argmax(logits, _one(), key, shard), logits, tau, dtype, shard)
    soft: Tensor
    soft, best, index = _VocabParallelSoftmax.apply(logits, tau, key, hard, dtype, shard)
    if not hard:
        return soft
    one_hot = _one_hot(best, index, logits, tau, dtype, shard)
    straight: Tensor = _StraightThrough.apply(soft, one_hot)
    return straight


def argmax(logits: Tensor, temperature: Tensor, key: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """(score, class) of the maximum over all classes, equal on every rank; size 1 at ``dim``.

    A row without a distribution has class 0, and NaN or -inf as its score.
    """
    value, index = _local_argmax(logits, temperature, key, shard)
    if shard.group is None:
        return value, index
    # float64 holds every score and every index below 2**53 exactly.
    values, indices = _gather([value, index + shard.first_class], shard)
    best, first = _merged(values, indices)
    return best.to(value.dtype), first


def _merged(values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and classes of the ranks -> the largest score; the smaller class on ties."""
    best = values.amax(0)  # NaN if any is
    first = torch.where(values == best, indices, math.inf).amin(0)
    return best, torch.where(best > -math.inf, first, 0).long()


def _local_sample(
    logits: Tensor, tau: Tensor, key: Tensor, hard: bool, dtype: torch.dtype, shard: Shard
) -> Tensor:
    """The sample over the local classes alone."""
    drawn: Tensor = _ops._gumbel_softmax(
        logits,
        tau,
        key,
        shard.dim,
        hard,
        dtype=dtype,
        full_shape=shard.full_shape,
        start=shard.start,
    )
    return drawn


def _local_hard(
    logits: Tensor, tau: Tensor, key: Tensor, dtype: torch.dtype, shard: Shard
) -> Tensor:
    """The hard sample over the local classes alone; keeps the soft one for its backward."""
    place = {"full_shape": shard.full_shape, "start": shard.start}
    drawn: Tensor = _ops._gumbel_softmax_hard(logits, tau, key, shard.dim, dtype=dtype, **place)
    return drawn


def _local_argmax(
    logits: Tensor, temperature: Tensor, key: Tensor, shard: Shard
) -> tuple[Tensor, Tensor]:
    if logits.dim() > 0 and logits.size(shard.dim) == 0:
        rows = [1 if i == shard.dim else n for i, n in enumerate(logits.shape)]
        wide = logits.new_full(rows, -math.inf, dtype=_compute_type(logits.dtype))
        return wide, torch.zeros_like(wide, dtype=torch.long)
    value, index = _ops._gumbel_max(
        logits, temperature, key, shard.dim, True, full_shape=shard.full_shape, start=shard.start
    )
    return value, index


def _one_hot(
    best: Tensor, index: Tensor, logits: Tensor, tau: Tensor, dtype: torch.dtype, shard: Shard
) -> Tensor:
    classes = logits.size(shard.dim)
    out: Tensor = logits.new_zeros(logits.shape, dtype=dtype)
    if classes > 0:
        place = index - shard.first_class
        inside = (place >= 0) & (place < classes)
        out.scatter_(shard.dim, place.clamp(0, classes - 1), inside.to(dtype))
    valid = (best > -math.inf) & ((tau > 0) & tau.isfinite()).to(best.device)
    return out.masked_fill_(~valid, math.nan)


def _local_soft(logits: Tensor, tau: Tensor, key: Tensor, hard: bool, shard: Shard) -> Tensor:
    """The soft sample over the local classes alone, as one process would compute it.

    For a hard sample it is computed from the rounded scores that the argmax is taken of.
    """
    # Half types are rounded once, after the merge.
    wide, place = (
        _compute_type(logits.dtype),
        {"full_shape": shard.full_shape, "start": shard.start},
    )
    y: Tensor
    if hard:
        _, y = _ops._gumbel_softmax_hard_soft(logits, tau, key, shard.dim, dtype=wide, **place)
        return y
    y = _local_sample(logits, tau, key, False, wide, shard)
    if _unrounded.is_wanted(logits, _classes(key, shard)):
        exact = _unrounded.unrounded_softmax(logits, key, shard.dim, **place)
        if exact is not None:
            y = torch.where(tau == 1, exact, y)
    return y


def _merging_score(
    value: Tensor, index: Tensor, logits: Tensor, tau: Tensor, key: Tensor, hard: bool, shard: Shard
) -> Tensor:
    """The largest local score, in the precision that the local soft sample is computed in."""
    if hard or logits.numel() == 0 or not _unrounded.is_wanted(logits, _classes(key, shard)):
        return value.double()
    assert shard.full_shape is not None and shard.start is not None
    exact = _unrounded.score_at(logits, key, shard.dim, index, shard.full_shape, shard.start)
    return torch.where((tau == 1) & value.isfinite(), exact, value.double())


def _classes(key: Tensor, shard: Shard) -> int:
    """The number of classes over all ranks."""
    assert shard.full_shape is not None
    return shard.full_shape[shard.dim - (key.dim() - 1)]


class _VocabParallelSoftmax(torch.autograd.Function):
    """The local shard of the soft sample and, without a gradient, the argmax over all classes."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        tau: Tensor,
        key: Tensor,
        hard: bool,
        dtype: torch.dtype,
        shard: Shard,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = _local_soft(logits, tau, key, hard, shard)
        value, index = _local_argmax(logits, _one(), key, shard)
        score = _merging_score(value, index, logits, tau, key, hard, shard)
        # The best class has exp(0) = 1: its sample is 1 / sum.
        has_classes = logits.size(shard.dim) > 0
        total = 1 / y.gather(shard.dim, index).double() if has_classes else value.double()
        values, indices, scores, totals = _gather(
            [value, index + shard.first_class, score, total], shard
        )
        best, first = _merged(values, indices)
        # Relative to the global maximum, so that nothing overflows at any temperature.
        weights = ((scores - scores.amax(0)) / tau.double()).exp() * totals
        weights = torch.where(values == -math.inf, 0, weights)
        whole = weights.sum(0)
        y.mul_(weights[dist.get_rank(shard.group)] / whole)
        # With all local classes masked, the local sample is NaN; other ranks may have finite ones.
        y.masked_fill_((value == -math.inf) & (whole > 0), 0)
        y = y.to(dtype)
        ctx.save_for_backward(y, tau)
        ctx.mark_non_differentiable(best, first)
        ctx.shard, ctx.logits_type = shard, logits.dtype
        return y, best, first

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        y, tau = ctx.saved_tensors
        at_logits, at_tau = _gradients(
            grads[0], y, tau, ctx.shard, ctx.logits_type, ctx.needs_input_grad[1]
        )
        return at_logits, at_tau, None, None, None, None


def _gradients(
    grad: Tensor, y: Tensor, tau: Tensor, shard: Shard, dtype: torch.dtype, tau_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """y (g - s) / tau and, for tau, -sum of it times log y; sums are over the classes of all ranks.

    The formulas are differentiable, which gives every higher order.
    """
    wide = _compute_type(y.dtype)
    y, grad, temperature = y.to(wide), grad.to(wide), tau.to(wide)
    weighted = y * grad
    parts = [weighted]
    if tau_grad:
        log_y = torch.where(y > 0, y, 1).log()
        parts += [weighted * log_y, y * log_y]
    sums = torch.stack([sum_of_rows(part, shard.dim) for part in parts])
    total: Tensor = SumOverRanks.apply(sums, shard.group)
    center = ToShards.apply(total[0], shard.group)
    at_logits = (y * (grad - center) / ToShards.apply(temperature, shard.group)).to(dtype)
    if not tau_grad:
        return at_logits, None
    rows = -(total[1] - total[0] * total[2]) / temperature
    return at_logits, sum_to_size(rows, tau.shape).to(tau.dtype)


class _StraightThrough(torch.autograd.Function):
    """The value of the second argument with the gradient of the first."""

    @staticmethod
    def forward(ctx: FunctionCtx, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.view_as(hard)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Any:
        return grads[0], None


def _one() -> Tensor:
    """A temperature of 1; created per call, since a mode or another default device may be active at
    import."""
    return torch.ones((), dtype=torch.float64, device="cpu")


def _gather(rows: Sequence[Tensor], shard: Shard) -> Sequence[Tensor]:
    """Tensors of one value per row -> the same of all ranks, stacked in front; one collective."""
    packed = torch.stack([part.double() for part in rows])
    parts = packed.new_empty(dist.get_world_size(shard.group), packed.numel())
    dist.all_gather_into_tensor(parts.view(-1), packed.view(-1), group=shard.group)
    return parts.view(len(parts), *packed.shape).unbind(1)


def _compute_type(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
