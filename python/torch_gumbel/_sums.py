# SPDX-License-Identifier: Apache-2.0
"""Sums that are bitwise independent of the number of threads: csrc/ops/sums.h in Python."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

_ONE_THREAD, _PART = 1 << 15, 1 << 12


def sum_to_size(values: Tensor, shape: Sequence[int]) -> Tensor:
    """``values.sum_to_size(shape)`` for a shape of the same rank or a lower one."""
    if values.device.type != "cpu" or values.numel() < _ONE_THREAD:
        return values.sum_to_size(list(shape))
    leading = values.dim() - len(shape)
    kept = [i for i in range(leading, values.dim()) if shape[i - leading] == values.size(i)]
    reduced = [i for i in range(values.dim()) if i not in kept]
    if not reduced:
        return values
    rows = values.permute(kept + reduced).contiguous().flatten(len(kept))
    return _sum_of_parts(rows).reshape(list(shape))


def sum_of_rows(values: Tensor, dim: int) -> Tensor:
    """``values.sum(dim, keepdim=True)``."""
    return sum_to_size(values, [1 if i == dim else n for i, n in enumerate(values.shape)])


def _sum_of_parts(rows: Tensor) -> Tensor:
    whole = rows.size(-1) // _PART * _PART
    if whole == 0:
        return rows.sum(-1)
    total = _sum_of_parts(rows[..., :whole].reshape(*rows.shape[:-1], -1, _PART).sum(-1))
    return total if whole == rows.size(-1) else total + rows[..., whole:].sum(-1)
