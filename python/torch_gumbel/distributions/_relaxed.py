# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""Shared parts of the relaxed distributions: the support, and moments without a closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.distribution import Distribution


class Simplex(constraints.Constraint):
    """Non-negative with a sum of 1, up to the rounding of each class to its dtype."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        total = value.detach().sum(-1, dtype=torch.float64)
        near = (total - 1).abs() < max(1e-6, torch.finfo(value.dtype).eps)
        return near & (value >= 0).all(-1)


class WithoutMoments(Distribution):
    """Moments without a closed form; the discrete distribution below it has them."""

    _discrete = "categorical"  # the property that is this distribution
    _choice = "class"  # what it is of

    @property
    def mean(self) -> Tensor:
        """Not implemented: it has no closed form."""
        raise self._without("mean")

    @property
    def variance(self) -> Tensor:
        """Not implemented: it has no closed form."""
        raise self._without("variance")

    def entropy(self) -> Tensor:
        """Not implemented: it has no closed form."""
        raise self._without("entropy")

    def _without(self, name: str) -> NotImplementedError:
        return NotImplementedError(
            f"{type(self).__name__}: the {name} of the relaxed distribution has no closed form; "
            f"that of its {self._choice} is in .{self._discrete}"
        )
