# SPDX-License-Identifier: Apache-2.0
"""Sums over ranks with derivatives of every order.

What every rank holds alike (tau, sums over ranks) has its whole gradient on every rank; what each
rank holds a part of has the gradient of that part. These two lead from one kind to the other, and
each is the derivative of the other.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class SumOverRanks(torch.autograd.Function):
    """Parts -> their sum on every rank: an all-reduce; backward, the gradient as it is."""

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
    """What every rank holds, used by each for its part: as it is; backward, an all-reduce."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return SumOverRanks.apply(grads[0], ctx.group), None
