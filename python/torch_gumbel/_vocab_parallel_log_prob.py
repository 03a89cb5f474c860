# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities and entropies of rows whose classes are sharded over several ranks.

Forward, one all-gather of four numbers per row. Backward, logits need nothing of other ranks; a
temperature takes one all-reduce, and so do derivatives of the gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from torch_gumbel._ranks import SumOverRanks, ToShards
from torch_gumbel._sums import sum_of_rows, sum_to_size
from torch_gumbel._vocab_parallel import Shard, _compute_type, _gather

_ops = torch.ops.torch_gumbel


def log_prob_entropy(
    logits: Tensor, index: Tensor, temperature: Tensor, classes: int, shard: Shard
) -> tuple[Tensor, Tensor]:
    """(log_prob, entropy) over all classes, equal on every rank; size 1 at ``shard.dim``.

    ``index``: global, of size 1 at ``shard.dim``. ``classes``: on all ranks.
    """
    if index.is_cpu and not torch.compiler.is_compiling():
        outside = (index < 0) | (index >= classes)
        if bool(outside.any()):
            first = index[outside][0].item()
            raise IndexError(f"log_prob_entropy: index must be in [0, {classes}), got {first}")
    both: tuple[Tensor, Tensor] = _VocabParallel.apply(logits, temperature, index, classes, shard)
    return both


class _VocabParallel(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, temperature: Tensor, index: Tensor, classes: int, shard: Shard
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        wide = _compute_type(logits.dtype)
        top, total, centre, x = _gather(_local_sums(logits, temperature, index, shard), shard)
        best = top.amax(0)
        tau = temperature.to(best)
        d = torch.where(top > -math.inf, top - best, 0)
        share = torch.where(top == -math.inf, 0, (d / tau).exp() * total)
        whole = share.sum(0)
        mean = torch.where(share == 0, 0, share * (centre + d)).sum(0) / whole
        right = (index >= 0) & (index < classes) & (whole > 0) & (whole < math.inf)
        log_prob = torch.where(right, (x.amax(0) - best) / tau - whole.log(), math.nan)
        entropy = torch.where(right, whole.log() - mean / tau, math.nan)
        rows = [each.to(wide) for each in (best, torch.where(right, whole, math.nan), mean)]
        chosen_masked = log_prob == -math.inf
        ctx.save_for_backward(logits, temperature, index, chosen_masked, *rows)
        ctx.shard = shard
        return log_prob.to(wide), entropy.to(wide)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        logits, temperature, index, masked, *rows = ctx.saved_tensors
        at_log_prob, at_entropy = grads
        if at_log_prob is not None:
            at_log_prob = at_log_prob.masked_fill(masked, 0)
        of = (at_log_prob, at_entropy, logits, temperature, index, ctx.shard)
        if torch.is_grad_enabled():
            return *_differentiable_gradients(*of), None, None, None
        at_tau = ctx.needs_input_grad[1]
        at_logits, part = _local_gradients(*of, rows, at_tau)
        if not at_tau:
            return at_logits, None, None, None, None
        whole: Tensor = SumOverRanks.apply(part, ctx.shard.group)
        return at_logits, _of_tau(whole, temperature), None, None, None


def _local_sums(logits: Tensor, temperature: Tensor, index: Tensor, shard: Shard) -> list[Tensor]:
    """Of the local classes: the largest logit, S, the mean relative to it, and the logit of the
    chosen class, -inf if another rank holds it."""
    classes = logits.size(shard.dim)
    if classes == 0:
        none = logits.new_zeros(index.shape, dtype=torch.float64)
        return [none - math.inf, none, none, none - math.inf]
    place = index - shard.first_class
    inside = (place >= 0) & (place < classes)
    place = place.clamp(0, classes - 1)
    _, _, top, total, mean = _ops._log_prob_entropy(logits, place, temperature, shard.dim)
    x = torch.where(inside, logits.gather(shard.dim, place).double(), -math.inf)
    return [top, total, mean, x]


def _local_gradients(
    at_log_prob: Tensor | None,
    at_entropy: Tensor | None,
    logits: Tensor,
    temperature: Tensor,
    index: Tensor,
    shard: Shard,
    rows: list[Tensor],
    at_tau: bool,
) -> tuple[Tensor, Tensor]:
    """At the local logits, and this rank's part of that at the temperature, one per row."""
    if logits.size(shard.dim) == 0:
        return torch.zeros_like(logits), torch.zeros_like(rows[0])
    place = index - shard.first_class
    found: tuple[Tensor, Tensor] = _ops._log_prob_entropy_backward(
        at_log_prob,
        at_entropy,
        logits,
        place,
        temperature,
        *rows,
        shard.dim,
        temperature_grad=at_tau,
    )
    return found


def _differentiable_gradients(
    at_log_prob: Tensor | None,
    at_entropy: Tensor | None,
    logits: Tensor,
    temperature: Tensor,
    index: Tensor,
    shard: Shard,
) -> tuple[Tensor, Tensor]:
    """The same by differentiable operations: csrc/math/log_prob.h, u = log p + H."""
    group, dim = shard.group, shard.dim
    x = logits.to(_compute_type(logits.dtype))
    tau = ToShards.apply(temperature.to(x), group)
    masked = x == -math.inf
    scaled = torch.where(masked, -math.inf, x.masked_fill(masked, 0) / tau)
    best = _largest(scaled.detach(), shard)
    total = SumOverRanks.apply(sum_of_rows((scaled - best).exp(), dim), group)
    log_p = scaled - best - ToShards.apply(total.log(), group)
    p, log_p = log_p.exp(), log_p.masked_fill(masked, 0)
    u = log_p - ToShards.apply(SumOverRanks.apply(sum_of_rows(p * log_p, dim), group), group)
    classes = torch.arange(x.size(dim), device=x.device) + shard.first_class
    chosen = classes.view([-1 if i == dim else 1 for i in range(x.dim())]) == index
    at_logits, rows = torch.zeros_like(x), torch.zeros_like(total)
    if at_log_prob is not None:
        at_logits = at_logits + ToShards.apply(at_log_prob, group) * (chosen.to(x) - p)
        of_choice = SumOverRanks.apply(sum_of_rows(torch.where(chosen, u, 0), dim), group)
        rows = rows - at_log_prob * of_choice
    if at_entropy is not None:
        at_logits = at_logits - ToShards.apply(at_entropy, group) * p * u
        rows = rows + at_entropy * SumOverRanks.apply(sum_of_rows(p * u * u, dim), group)
    at_tau = _of_tau(rows / temperature.to(rows), temperature)
    return (at_logits / tau).to(logits.dtype), at_tau


def _largest(scaled: Tensor, shard: Shard) -> Tensor:
    """Of all ranks' classes."""
    rows = [1 if i == shard.dim else n for i, n in enumerate(scaled.shape)]
    empty = scaled.size(shard.dim) == 0
    local = scaled.new_full(rows, -math.inf) if empty else scaled.amax(shard.dim, keepdim=True)
    (parts,) = _gather([local], shard)
    return parts.amax(0).to(scaled.dtype)


def _of_tau(rows: Tensor, temperature: Tensor) -> Tensor:
    return sum_to_size(rows, temperature.shape).to(temperature)
