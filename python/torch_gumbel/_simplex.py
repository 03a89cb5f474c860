# SPDX-License-Identifier: Apache-2.0
"""Cells of the simplex of three classes: small triangles of equal size."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_gumbel.distributions import RelaxedOneHotCategorical

SIDE = 40  # triangles along a side


def cell_counts(y: Tensor) -> Tensor:
    """The number of points ``[n, 3]`` in each cell of :func:`cells`."""
    scaled = y.double()[:, :2] * SIDE
    i, j = scaled.floor().clamp(0, SIDE - 1).long().unbind(1)
    over = (i + j - (SIDE - 1)).clamp(min=0)  # a corner of y = 1, rounded
    i = (i - over).clamp(min=0)
    j = torch.minimum(j, SIDE - 1 - i)
    upper = ((scaled[:, 0] - i + scaled[:, 1] - j) > 1) & (i + j < SIDE - 1)
    flat = (i * SIDE + j) * 2 + upper
    return torch.bincount(flat, minlength=2 * SIDE**2)[_inside()].double()


def cell_masses(probs: Tensor, tau: float, parts: int = 8) -> Tensor:
    """The probability of each cell: the density averaged over parts^2 points, times the area."""
    sub = torch.tensor(_centroids(parts), dtype=torch.float64)
    corners = cells()
    points = torch.einsum("sk,ckd->csd", torch.cat([sub, 1 - sub.sum(1, keepdim=True)], 1), corners)
    density = (
        RelaxedOneHotCategorical(tau, probs.double(), validate_args=False).log_prob(points).exp()
    )
    return density.mean(1) * 0.5 / SIDE**2


def cells() -> Tensor:
    """Corners ``[cells, 3, 3]`` of the triangles that tile the simplex."""
    h = 1 / SIDE
    found = []
    for i in range(SIDE):
        for j in range(SIDE - i):
            a, b, c = (i, j), (i + 1, j), (i, j + 1)
            found.append((a, b, c))
            if i + j < SIDE - 1:
                found.append(((i + 1, j + 1), c, b))
    first_two = torch.tensor(found, dtype=torch.float64) * h
    return torch.cat([first_two, 1 - first_two.sum(-1, keepdim=True)], -1)


def _inside() -> Tensor:
    """Mask of the (i, j, upper) that are cells, flattened in the order of :func:`cells`."""
    i, j = torch.arange(SIDE)[:, None], torch.arange(SIDE)[None]
    lower, upper = i + j < SIDE, i + j < SIDE - 1
    return torch.stack([lower, upper], -1).flatten()


def _centroids(parts: int) -> list[tuple[float, float]]:
    """First two coordinates of the centroids of parts^2 triangles that tile a triangle."""
    third = [
        ((i + 1 / 3) / parts, (j + 1 / 3) / parts) for i in range(parts) for j in range(parts - i)
    ]
    rest = [
        ((i + 2 / 3) / parts, (j + 2 / 3) / parts)
        for i in range(parts)
        for j in range(parts - i - 1)
    ]
    return third + rest
