# SPDX-License-Identifier: Apache-2.0
"""Unrounded scores, which soft samples at a temperature of 1 are computed from.

On a CPU, float32 rows of more than 16 classes take exp(x) / E instead of exp(p) with p = x + g
rounded to float32. Ranks that hold shards of such a row must merge them by the same scores: at
logits of 1e5, rounding changes exp(p) by 0.4 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_ops = torch.ops.torch_gumbel
_ROUNDED = 16  # rows of at most so many classes round their scores at every temperature


def is_wanted(logits: Tensor, classes: int) -> bool:
    """Whether rows with that number of classes take unrounded scores at a temperature of 1."""
    return logits.device.type == "cpu" and logits.dtype != torch.float64 and classes > _ROUNDED


def unrounded_softmax(logits: Tensor, key: Tensor, dim: int, **place: Any) -> Tensor | None:
    """The sample at temperature 1 of a shard whose scores the op rounds; None if it does not."""
    if not 0 < logits.size(dim) <= _ROUNDED:
        return None
    noise: Tensor = _ops._gumbel_noise(logits, key, **place)
    return (logits.double() + noise.double()).softmax(dim).float()


def score_at(
    logits: Tensor,
    key: Tensor,
    dim: int,
    index: Tensor,
    full_shape: Sequence[int],
    start: Sequence[int],
) -> Tensor:
    """Logit plus noise in float64 of one class per row: ``index`` has size 1 at ``dim``."""
    x = logits.gather(dim, index).double()
    return x + _noise_at(logits, key, dim, index, full_shape, start).double()


def _noise_at(
    logits: Tensor,
    key: Tensor,
    dim: int,
    index: Tensor,
    full_shape: Sequence[int],
    start: Sequence[int],
) -> Tensor:
    """The noise at position e: element e % 4 of the four that (seed, offset + e / 4) draws."""
    batch, rank = key.dim() - 1, logits.dim()
    position, stride = torch.zeros_like(index), 1
    for i in range(rank - 1, batch - 1, -1):
        shape = [-1 if j == i else 1 for j in range(rank)]
        along = torch.arange(logits.size(i), device=index.device).view(shape)
        place = index if i == dim else along
        position = position + (place + start[i - batch]) * stride
        stride *= full_shape[i - batch]
    words = key.view(torch.int64).to(index.device)
    seed, offset = (words[..., i].view(*key.shape[:-1], *[1] * (rank - batch)) for i in (0, 1))
    keys = torch.stack([seed.expand_as(position), offset + position // 4], -1)
    like = logits.new_empty(()).expand(*position.shape, 4)
    four: Tensor = _ops._gumbel_noise(like, keys)
    return four.gather(-1, (position % 4).unsqueeze(-1)).squeeze(-1)
