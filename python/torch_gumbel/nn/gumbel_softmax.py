# SPDX-License-Identifier: Apache-2.0
"""The module GumbelSoftmax."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from torch_gumbel._arguments import check_string, flag, integer
from torch_gumbel.estimators import ESTIMATORS, sample_one_hot
from torch_gumbel.functional import gumbel_softmax
from torch_gumbel.nn._temperature import Tempered
from torch_gumbel.schedules import TemperatureSchedule

EvalMode = Literal["argmax", "sample", "soft"]


class GumbelSoftmax(Tempered):
    """Samples in training; in evaluation, by default, returns the most likely class.

    Args:
        dim: the class dimension.
        tau: temperature, a number > 0 or a :class:`~torch_gumbel.schedules.TemperatureSchedule`,
            which :meth:`step` advances. ``module.tau = value`` changes it. Both are part of the
            state dict.
        hard: one-hot samples with the straight-through gradient.
        learnable_tau: learn the temperature, as its logarithm, ``[1]``: it stays > 0.
        eval_mode: the output in evaluation: ``"argmax"``, the one-hot of the largest logit, first
            on ties, without noise and gradient; ``"soft"``, softmax(logits / tau), without noise;
            ``"sample"``, as in training.
        recompute: as for :func:`torch_gumbel.gumbel_softmax`: the backward of a hard sample keeps
            logits and key, which must not be modified until then, instead of the soft sample.
        estimator: of the gradient of a hard sample, by name, as for
            :func:`torch_gumbel.sample_one_hot` with its other arguments at their defaults; at the
            module's temperature, but for ``"zgr"``, which has none.

    Shape:
        logits ``[*, K, *]`` with classes along ``dim``; the result has the same shape and dtype.

    Raises:
        ValueError: tau not > 0 and finite; a schedule for a tau that is learned; an unknown
            ``eval_mode`` or ``estimator``; an ``estimator`` of soft samples, or with
            ``recompute``; a tau below 1 for ``"reinmax"``.
        TypeError: tau not a number.

    Example:
        >>> from torch_gumbel.nn import GumbelSoftmax
        >>> layer = GumbelSoftmax(tau=0.5, hard=True)
        >>> layer(torch.zeros(2, 3), key=torch_gumbel.key(0))
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
        >>> layer.eval()(torch.tensor([[0.1, 0.7, 0.2]]))
        tensor([[0., 1., 0.]])
    """

    logits: Tensor | None

    def __init__(
        self,
        dim: int = -1,
        tau: float | TemperatureSchedule = 1.0,
        hard: bool = False,
        learnable_tau: bool = False,
        eval_mode: EvalMode = "argmax",
        *,
        recompute: bool = False,
        estimator: str = "gumbel",
    ) -> None:
        dim, hard = integer("GumbelSoftmax", "dim", dim), flag("GumbelSoftmax", "hard", hard)
        super().__init__(tau, learnable_tau)
        if eval_mode not in get_args(EvalMode):
            wanted = ", ".join(get_args(EvalMode))
            raise ValueError(f"GumbelSoftmax: eval_mode must be one of {wanted}, got {eval_mode!r}")
        self.dim, self.hard, self.eval_mode, self.recompute = dim, hard, eval_mode, recompute
        self.estimator = _checked_estimator(estimator, hard, recompute)
        if estimator == "reinmax" and not learnable_tau:
            _check_reinmax_tau(float(self.tau))
        self.register_buffer("logits", None)

    @classmethod
    def from_probabilities(
        cls,
        probs: Tensor,
        *,
        dim: int = -1,
        tau: float | TemperatureSchedule = 1.0,
        hard: bool = False,
        learnable: bool = False,
        learnable_tau: bool = False,
        eval_mode: EvalMode = "argmax",
        recompute: bool = False,
        estimator: str = "gumbel",
        tolerance: float | None = None,
    ) -> GumbelSoftmax:
        """A layer with its own logits, log(probs), called without arguments.

        For probabilities that a network computes, use :func:`torch_gumbel.sample_categorical`.

        Args:
            probs: ``[*, K, *]`` with classes along ``dim``. A zero is never drawn.
            dim: the class dimension.
            tau: as for the class.
            hard: as for the class.
            learnable: make the logits a parameter.
            learnable_tau: as for the class.
            eval_mode: as for the class.
            recompute: as for the class.
            estimator: as for the class.
            tolerance: allowed deviation of the sum of a row from 1. Default: 1e-4 or, if larger,
                the rounding unit of the dtype (float16: 9.8e-4, bfloat16: 7.8e-3).

        Returns:
            A :class:`GumbelSoftmax` whose ``logits`` are a copy of log(probs), as a buffer or a
            parameter.

        Raises:
            ValueError: a negative or NaN probability, or a row that does not sum to 1.
            TypeError: probs are not a floating point tensor.

        Example:
            >>> from torch_gumbel.nn import GumbelSoftmax
            >>> coin = GumbelSoftmax.from_probabilities(torch.tensor([0.25, 0.75]), hard=True)
            >>> coin(key=torch_gumbel.key(1))
            tensor([0., 1.])
        """
        dim = integer("GumbelSoftmax.from_probabilities", "dim", dim)
        _check_probabilities(probs, dim, tolerance)
        layer = cls(
            dim, tau, hard, learnable_tau, eval_mode, recompute=recompute, estimator=estimator
        )
        logits = probs.detach().log()
        if learnable:
            del layer.logits
            layer.register_parameter("logits", nn.Parameter(logits))
        else:
            layer.logits = logits
        return layer

    def forward(
        self,
        logits: Tensor | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """Draws a sample, or, in evaluation, returns the output of ``eval_mode``.

        Args:
            logits: ``[*, K, *]``; optional if the layer has its own.
            generator: as for :func:`torch_gumbel.gumbel_softmax`.
            key: as for :func:`torch_gumbel.gumbel_softmax`.

        Raises:
            TypeError: no logits are given and the layer holds none.
        """
        logits = self.logits if logits is None else logits
        if logits is None:
            raise TypeError("GumbelSoftmax: logits are wanted, got none, and the layer holds none")
        if self.training or self.eval_mode == "sample":
            if self.estimator != "gumbel":
                return self._one_hot(logits, generator, key)
            return gumbel_softmax(
                logits,
                self._tau_for(logits),
                self.hard,
                dim=self.dim,
                recompute=self.recompute,
                generator=generator,
                key=key,
            )
        if self.eval_mode == "soft":
            return _softmax_without_noise(logits, self.tau, self.dim)
        return _one_hot_of_largest(logits, self.dim)

    def _one_hot(self, logits: Tensor, generator: Generator | None, key: Tensor | None) -> Tensor:
        tau = None if self.estimator == "zgr" else self._tau_for(logits)
        return sample_one_hot(logits, self.estimator, tau, self.dim, generator=generator, key=key)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        held = "" if self.logits is None else f", logits={list(self.logits.shape)}"
        lean = ", recompute=True" if self.recompute else ""
        if self.estimator != "gumbel":
            lean += f", estimator={self.estimator!r}"
        return (
            f"dim={self.dim}, tau={self._shown()}, hard={self.hard}, "
            f"learnable_tau={self.learnable_tau}, eval_mode={self.eval_mode!r}{lean}{held}"
        )


def _checked_estimator(estimator: str, hard: bool, recompute: bool) -> str:
    check_string("GumbelSoftmax", "estimator", estimator)
    if estimator not in ESTIMATORS:
        wanted = ", ".join(ESTIMATORS)
        raise ValueError(f"GumbelSoftmax: estimator must be one of {wanted}, got {estimator!r}")
    if estimator != "gumbel" and (not hard or recompute):
        given = "recompute=True" if hard else "hard=False"
        raise ValueError(
            "GumbelSoftmax: estimator is an argument of hard samples without recompute, got "
            f"{estimator!r} with {given}"
        )
    return estimator


def _check_reinmax_tau(tau: float) -> None:
    if not tau >= 1:
        raise ValueError(f'GumbelSoftmax: tau of "reinmax" must be >= 1, got {tau}')


def _one_hot_of_largest(logits: Tensor, dim: int) -> Tensor:
    """The one-hot of the largest logit; rows whose sample would be NaN are NaN."""
    largest, index = logits.detach().max(dim, keepdim=True)
    one_hot = torch.zeros_like(logits, requires_grad=False).scatter_(dim, index, 1.0)
    return one_hot.masked_fill_(~largest.isfinite(), math.nan)


def _softmax_without_noise(logits: Tensor, tau: Tensor, dim: int) -> Tensor:
    """softmax(logits / tau) in float32 (float64 for float64).

    Computed relative to the largest logit, so that no finite logit or temperature overflows. Masks
    are excluded from the division, whose gradient they would make NaN.
    """
    if logits.numel() == 0:
        return logits.softmax(dim)
    x = logits.to(torch.promote_types(logits.dtype, torch.float32))
    masked, top = x == -math.inf, x.detach().amax(dim, keepdim=True)
    t = tau.to(x.device)
    above_1, below_1 = torch.where(t > 1, t, 1.0), torch.where(t > 1, 1.0, t)
    centred = x.masked_fill(masked, 0.0) / above_1 - top / above_1
    scaled = (centred / below_1).to(x.dtype).masked_fill(masked, -math.inf)
    return scaled.softmax(dim).to(logits.dtype)


def _check_probabilities(probs: Tensor, dim: int, tolerance: float | None) -> None:
    who = "GumbelSoftmax.from_probabilities"
    if not isinstance(probs, Tensor) or not probs.is_floating_point():
        kind = probs.dtype if isinstance(probs, Tensor) else type(probs).__name__
        raise TypeError(f"{who}: probs must be a floating point tensor, got {kind}")
    if not bool((probs >= 0).all()):
        raise ValueError(f"{who}: probs must not be negative or NaN, got {probs.detach()}")
    if tolerance is None:
        tolerance = max(1e-4, torch.finfo(probs.dtype).eps)
    sums = probs.detach().sum(dim, dtype=torch.float64)
    far = (sums - 1).abs().max() if sums.numel() else sums.new_zeros(())
    if not bool(far <= tolerance):
        worst = sums.flatten()[(sums - 1).abs().argmax()].item()
        raise ValueError(
            f"{who}: rows of probs must sum to 1 within {tolerance}, got a row of sum {worst:.6g}"
        )
