# SPDX-License-Identifier: Apache-2.0
"""Samples of rows whose classes lie on several ranks.

Every rank draws the noise of its own classes by their place in the whole, so choices are those of
one process in bits. What ranks tell each other is one value or pair per row: the log-sum-exp of
their scores for a soft sample, (best score, class) for a choice. Each is one all-gather, because
the reduction of such a pair is not one of those that backends know; all ranks merge the parts in
the same order and so hold the same bits. A backward takes one all-reduce.
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

_ops = torch.ops.torch_gumbel


@dataclass(frozen=True)
class Shard:
    """Where a local tensor lies in the whole.

    ``full_shape`` and ``start`` cover the dimensions after the key's batch (None: the local tensor
    is the whole). ``group``: the ranks that hold the other classes of the same rows (None: all are
    here). ``first_class``: the whole's index of the first class here.
    """

    dim: int
    full_shape: Sequence[int] | None = None
    start: Sequence[int] | None = None
    group: dist.ProcessGroup | None = None
    first_class: int = 0


def sample(
    logits: Tensor, tau: Tensor, key: Tensor, hard: bool, dtype: torch.dtype, shard: Shard
) -> Tensor:
    """The local part of a sample, of type ``dtype``."""
    if shard.group is None:
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
    if not hard:
        return _soft(logits, tau, key, dtype, shard)
    with torch.no_grad():
        one_hot = _one_hot(logits, tau, key, dtype, shard)
    if torch.is_grad_enabled() and (logits.requires_grad or tau.requires_grad):
        return _straight_through(_soft(logits, tau, key, dtype, shard), one_hot)
    return one_hot


def choose(logits: Tensor, temperature: Tensor, key: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """(score, class) of the best of all classes, the same on every rank; size 1 at ``dim``.

    The class is 0 where the row has no distribution; its score is then NaN or -inf.
    """
    value, index = _choose_here(logits, temperature, key, shard)
    if shard.group is None:
        return value, index
    # float64 holds every score and every index below 2**53 exactly.
    pairs = _gather(torch.stack([value.double(), (index + shard.first_class).double()]), shard)
    values, indices = pairs.unbind(1)
    best = values.amax(0)  # NaN if any is
    first = torch.where(values == best, indices, math.inf).amin(0)
    drawn = best > -math.inf
    return best.to(value.dtype), torch.where(drawn, first, 0).long()


def _choose_here(
    logits: Tensor, temperature: Tensor, key: Tensor, shard: Shard
) -> tuple[Tensor, Tensor]:
    if logits.dim() > 0 and logits.size(shard.dim) == 0:
        rows = [1 if i == shard.dim else n for i, n in enumerate(logits.shape)]
        wide = logits.new_full(rows, -math.inf, dtype=_compute_type(logits))
        return wide, torch.zeros_like(wide, dtype=torch.long)
    value, index = _ops._gumbel_argmax(
        logits, temperature, key, shard.dim, True, full_shape=shard.full_shape, start=shard.start
    )
    return value, index


def _one_hot(logits: Tensor, tau: Tensor, key: Tensor, dtype: torch.dtype, shard: Shard) -> Tensor:
    score, index = choose(logits, torch.ones((), dtype=torch.float64), key, shard)
    classes = logits.size(shard.dim)
    out: Tensor = logits.new_zeros(logits.shape, dtype=dtype)
    if classes > 0:
        place = index - shard.first_class
        inside = (place >= 0) & (place < classes)
        out.scatter_(shard.dim, place.clamp(0, classes - 1), inside.to(dtype))
    valid = (score > -math.inf) & ((tau > 0) & tau.isfinite()).to(score.device)
    return out.masked_fill_(~valid, math.nan)


def _soft(logits: Tensor, tau: Tensor, key: Tensor, dtype: torch.dtype, shard: Shard) -> Tensor:
    out: Tensor = _VocabularySoftmax.apply(logits, tau, key, dtype, shard)
    return out


class _VocabularySoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tau: Tensor, key: Tensor, dtype: torch.dtype, shard: Shard
    ) -> Tensor:
        # Half types are rounded once, after the parts are merged.
        local, lse = _ops._gumbel_softmax_lse(
            logits,
            tau,
            key,
            shard.dim,
            dtype=_compute_type(logits),
            full_shape=shard.full_shape,
            start=shard.start,
        )
        lse = lse.double()
        total = _gather(lse, shard).logsumexp(0)
        local.mul_((lse - total).exp())
        # A rank whose classes are all masked has NaN, where other ranks have classes to draw.
        local.masked_fill_((lse == -math.inf) & (total > -math.inf), 0)
        y: Tensor = local.to(dtype)
        ctx.save_for_backward(y, tau)
        ctx.shard, ctx.logits_type = shard, logits.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        y, tau = ctx.saved_tensors
        at_logits, at_tau = _gradients(
            grads[0], y, tau, ctx.shard, ctx.logits_type, ctx.needs_input_grad[1]
        )
        return at_logits, at_tau, None, None, None


def _gradients(
    grad: Tensor, y: Tensor, tau: Tensor, shard: Shard, dtype: torch.dtype, tau_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """y (g - s) / tau and, for tau, -sum of it times log y; sums are over the classes of all ranks.

    All of it is differentiable, so that every order exists.
    """
    wide = torch.promote_types(y.dtype, torch.float32)
    y, grad, temperature = y.to(wide), grad.to(wide), tau.to(wide)
    weighted = y * grad
    parts = [weighted]
    if tau_grad:
        log_y = torch.where(y > 0, y, 1).log()
        parts += [weighted * log_y, y * log_y]
    sums = torch.stack([part.sum(shard.dim, keepdim=True) for part in parts])
    total: Tensor = _SumOverRanks.apply(sums, shard.group)
    center = _ToShards.apply(total[0], shard.group)
    at_logits = (y * (grad - center) / _ToShards.apply(temperature, shard.group)).to(dtype)
    if not tau_grad:
        return at_logits, None
    rows = -(total[1] - total[0] * total[2]) / temperature
    return at_logits, rows.sum_to_size(tau.shape).to(tau.dtype)


# What every rank holds alike (tau, sums over ranks) has its whole gradient on every rank; what each
# rank holds a part of has the gradient of that part. These two lead from one kind to the other, and
# each is the derivative of the other.


class _SumOverRanks(torch.autograd.Function):
    """Parts -> their sum on every rank: an all-reduce; backward, the gradient as it is."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = part.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _ToShards.apply(grads[0], ctx.group), None


class _ToShards(torch.autograd.Function):
    """What every rank holds, used by each for its part: as it is; backward, an all-reduce."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _SumOverRanks.apply(grads[0], ctx.group), None


class _StraightThrough(torch.autograd.Function):
    """The value of the second argument with the gradient of the first."""

    @staticmethod
    def forward(ctx: FunctionCtx, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.view_as(hard)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Any:
        return grads[0], None


def _straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    out: Tensor = _StraightThrough.apply(soft, hard)
    return out


def _gather(rows: Tensor, shard: Shard) -> Tensor:
    """The ranks' tensors, stacked in front."""
    parts = rows.new_empty(dist.get_world_size(shard.group), rows.numel())
    dist.all_gather_into_tensor(parts.view(-1), rows.reshape(-1), group=shard.group)
    return parts.view(len(parts), *rows.shape)


def _compute_type(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)
