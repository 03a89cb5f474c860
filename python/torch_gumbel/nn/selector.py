# SPDX-License-Identifier: Apache-2.0
"""The module GumbelSelector."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from torch_gumbel._arguments import flag, integer
from torch_gumbel.nn._temperature import Tempered
from torch_gumbel.schedules import TemperatureSchedule
from torch_gumbel.subset import gumbel_subset

_ops = torch.ops.torch_gumbel
SelectorEvalMode = Literal["topk", "soft", "sample"]


class GumbelSelector(Tempered):
    """Learns which k of its input's features to keep, all k different.

    In training the input is multiplied by one k-hot sample of :func:`torch_gumbel.gumbel_subset`
    per call; in evaluation, by default, every feature but those of the k largest logits is 0.

    Args:
        num_features: size of the input's last dimension, > 0.
        k: features to keep, in [1, num_features].
        tau: temperature, a number > 0 or a :class:`~torch_gumbel.schedules.TemperatureSchedule`,
            which :meth:`step` advances. ``module.tau = value`` changes it. Both are part of the
            state dict.
        hard: k-hot samples of ones and zeros with the straight-through gradient.
        learnable_tau: learn the temperature, as its logarithm, ``[1]``: it stays > 0.
        eval_mode: the output in evaluation: ``"topk"``, the input where :meth:`indices` are and 0
            elsewhere, without noise or gradient at the logits; ``"soft"``, times the soft sample
            without noise; ``"sample"``, as in training.
        device: of the parameter.
        dtype: of the parameter.

    Attributes:
        logits: ``[num_features]``, a parameter, first 0.

    Raises:
        ValueError: num_features not > 0; k not in [1, num_features]; tau not > 0 and finite; a
            schedule for a tau that is learned; an unknown ``eval_mode``.
        TypeError: num_features or k not an integer; tau not a number.

    Example:
        >>> from torch_gumbel.nn import GumbelSelector
        >>> layer = GumbelSelector(5, k=2, tau=0.5, hard=True)
        >>> layer(torch.ones(5), key=torch_gumbel.key(0)).detach()
        tensor([0., 0., 1., 0., 1.])
        >>> with torch.no_grad():
        ...     layer.logits.copy_(torch.tensor([0.0, 3.0, 1.0, 2.0, 0.0])).tolist()
        [0.0, 3.0, 1.0, 2.0, 0.0]
        >>> layer.eval().indices(), layer(torch.ones(5))
        (tensor([1, 3]), tensor([0., 1., 0., 1., 0.]))
    """

    def __init__(
        self,
        num_features: int,
        k: int,
        tau: float | TemperatureSchedule = 1.0,
        hard: bool = False,
        learnable_tau: bool = False,
        eval_mode: SelectorEvalMode = "topk",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        who = "GumbelSelector"
        num_features, k = integer(who, "num_features", num_features), integer(who, "k", k)
        hard = flag(who, "hard", hard)
        super().__init__(tau, learnable_tau)
        if num_features < 1:
            raise ValueError(f"{who}: num_features must be > 0, got {num_features}")
        if not 1 <= k <= num_features:
            raise ValueError(f"{who}: k must be in [1, {num_features}], got {k}")
        if eval_mode not in get_args(SelectorEvalMode):
            wanted = ", ".join(get_args(SelectorEvalMode))
            raise ValueError(f"{who}: eval_mode must be one of {wanted}, got {eval_mode!r}")
        self.num_features, self.k, self.hard, self.eval_mode = num_features, k, hard, eval_mode
        self.logits = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Sets the logits to 0; restores the initial temperature; restarts the schedule."""
        super().reset_parameters()
        nn.init.zeros_(self.logits)

    def forward(
        self, input: Tensor, *, generator: Generator | None = None, key: Tensor | None = None
    ) -> Tensor:
        """The input times one k-hot vector, in its dtype.

        Args:
            input: ``[*, num_features]``.
            generator: as for :func:`torch_gumbel.gumbel_subset`.
            key: as for :func:`torch_gumbel.gumbel_subset`.

        Raises:
            ValueError: an input of another last size.
        """
        if input.dim() == 0 or input.shape[-1] != self.num_features:
            raise ValueError(
                f"GumbelSelector: wanted an input of {self.num_features} features, got shape "
                f"{list(input.shape)}"
            )
        if self.training or self.eval_mode == "sample":
            return input * self.sample(generator=generator, key=key).to(input.dtype)
        if self.eval_mode == "soft":
            return input * self._without_noise().to(input.dtype)
        kept = torch.zeros_like(self.logits, dtype=torch.bool).scatter(0, self.indices(), True)
        return torch.where(kept, input, 0)

    def sample(self, *, generator: Generator | None = None, key: Tensor | None = None) -> Tensor:
        """A k-hot sample, ``[num_features]``."""
        tau = self._tau_for(self.logits.detach())
        return gumbel_subset(self.logits, self.k, tau, self.hard, generator=generator, key=key)

    def _without_noise(self) -> Tensor:
        x = self.logits
        scores = x.to(torch.promote_types(x.dtype, torch.float32))
        soft: Tensor = _ops._gumbel_subset(scores, self.tau.to(x.device), self.k, 0)
        return soft

    def indices(self) -> Tensor:
        """The features of the k largest logits, int64 ``[k]`` in rising order; of equal logits the
        first."""
        order = self.logits.detach().argsort(descending=True, stable=True)
        return order[: self.k].sort().values

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return (
            f"{self.num_features}, k={self.k}, tau={self._shown()}, hard={self.hard}, "
            f"learnable_tau={self.learnable_tau}, eval_mode={self.eval_mode!r}"
        )
