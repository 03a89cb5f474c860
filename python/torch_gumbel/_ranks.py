# SPDX-License-Identifier: Apache-2.0
"""Sums over ranks with derivatives of every order.

A replicated tensor (tau, sums over ranks) has its full gradient on every rank, a sharded one the
gradient of the local shard. These two functions convert between them, and each is the derivative
of the other.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class SumOverRanks(torch.autograd.Function):
    """Sharded -> replicated: forward, an all-reduce; backward, the identity."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = part.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ToShards.apply(grads[0], ctx.group), None


class ToShards(torch.autograd.Function):
    """Replicated -> used for the local shard: forward, the identity; backward, an all-reduce."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return SumOverRanks.apply(grads[0], ctx.group), None
