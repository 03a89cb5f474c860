# SPDX-License-Identifier: Apache-2.0
"""The modules GumbelSigmoid and HardConcrete."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from torch_gumbel._arguments import check_integer, flag, listed, number
from torch_gumbel.gates import gumbel_sigmoid, hard_concrete, hard_concrete_penalty
from torch_gumbel.nn._temperature import Tempered
from torch_gumbel.schedules import TemperatureSchedule

GateEvalMode = Literal["threshold", "soft", "sample"]


class GumbelSigmoid(Tempered):
    """Samples gates in training; in evaluation, by default, opens those that are likely open.

    Args:
        tau: temperature, a number > 0 or a :class:`~torch_gumbel.schedules.TemperatureSchedule`,
            which :meth:`step` advances. ``module.tau = value`` changes it. Both are part of the
            state dict.
        hard: samples of 0 or 1 with the straight-through gradient.
        threshold: of hard samples and of ``eval_mode="threshold"``, in (0, 1).
        learnable_tau: learn the temperature, as its logarithm, ``[1]``: it stays > 0.
        eval_mode: the output in evaluation: ``"threshold"``, 1 where sigmoid(logits) exceeds the
            threshold, else 0, without noise and gradient; ``"soft"``, sigmoid(logits / tau),
            without noise; ``"sample"``, as in training.
        recompute: as for :func:`torch_gumbel.gumbel_sigmoid`.

    Shape:
        logits of any shape; the result has the same shape and dtype.

    Raises:
        ValueError: tau not > 0 and finite; a schedule for a tau that is learned; a threshold not in
            (0, 1); an unknown ``eval_mode``.
        TypeError: tau or threshold not a number.

    Example:
        >>> from torch_gumbel.nn import GumbelSigmoid
        >>> layer = GumbelSigmoid(tau=0.5, hard=True)
        >>> layer(torch.tensor([-2.0, 0.0, 2.0]), key=torch_gumbel.key(0))
        tensor([0., 1., 1.])
        >>> layer.eval()(torch.tensor([-2.0, 0.0, 2.0]))
        tensor([0., 0., 1.])
    """

    def __init__(
        self,
        tau: float | TemperatureSchedule = 1.0,
        hard: bool = False,
        threshold: float = 0.5,
        learnable_tau: bool = False,
        eval_mode: GateEvalMode = "threshold",
        *,
        recompute: bool = False,
    ) -> None:
        who = "GumbelSigmoid"
        hard, threshold = flag(who, "hard", hard), number(who, "threshold", threshold)
        super().__init__(tau, learnable_tau)
        if not 0 < threshold < 1:
            raise ValueError(f"{who}: threshold must be in (0, 1), got {threshold}")
        if eval_mode not in get_args(GateEvalMode):
            wanted = ", ".join(get_args(GateEvalMode))
            raise ValueError(f"{who}: eval_mode must be one of {wanted}, got {eval_mode!r}")
        self.hard, self.threshold = hard, threshold
        self.eval_mode, self.recompute = eval_mode, recompute

    def forward(
        self, logits: Tensor, *, generator: Generator | None = None, key: Tensor | None = None
    ) -> Tensor:
        """Draws a sample, or, in evaluation, returns the output of ``eval_mode``.

        Args:
            logits: of any shape.
            generator: as for :func:`torch_gumbel.gumbel_sigmoid`.
            key: as for :func:`torch_gumbel.gumbel_sigmoid`.
        """
        if self.training or self.eval_mode == "sample":
            return gumbel_sigmoid(
                logits,
                self._tau_for(logits),
                self.hard,
                self.threshold,
                recompute=self.recompute,
                generator=generator,
                key=key,
            )
        if self.eval_mode == "soft":
            return _sigmoid_without_noise(logits, self.tau)
        opened = (logits.detach().double().sigmoid() > self.threshold).to(logits.dtype)
        return opened.masked_fill(logits.isnan(), math.nan)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        lean = ", recompute=True" if self.recompute else ""
        return (
            f"tau={self._shown()}, hard={self.hard}, threshold={self.threshold:.4g}, "
            f"learnable_tau={self.learnable_tau}, eval_mode={self.eval_mode!r}{lean}"
        )


def _sigmoid_without_noise(logits: Tensor, tau: Tensor) -> Tensor:
    """sigmoid(logits / tau) in float32 (float64 for float64).

    Infinite logits are excluded from the division, whose gradient they would make NaN.
    """
    x = logits.to(torch.promote_types(logits.dtype, torch.float32))
    infinite = x.isinf()
    scaled = (x.masked_fill(infinite, 0.0) / tau.to(x.device)).to(x.dtype)
    return torch.where(infinite, (x.detach() > 0).to(x.dtype), scaled.sigmoid()).to(logits.dtype)


class HardConcrete(nn.Module):
    """Gates that learn to be exactly 0: L0 regularization.

    In training the input is multiplied by one sample of :func:`torch_gumbel.hard_concrete` for
    each gate; in evaluation by :meth:`test_gate`. Add a multiple of :meth:`penalty`, the expected
    number of gates that are not 0, to the loss.

    Args:
        shape: of the gates: a size, or a sequence of them. They broadcast against the input from
            the right.
        init_open: sigmoid of the first ``log_alpha``, in (0, 1).
        tau: temperature > 0.
        lower: as for :func:`torch_gumbel.hard_concrete`.
        upper: as for :func:`torch_gumbel.hard_concrete`.
        device: of the parameter.
        dtype: of the parameter.

    Attributes:
        log_alpha: the only parameter, the logits of the gates.

    Raises:
        ValueError: init_open not in (0, 1); tau, lower, or upper out of range.
        TypeError: a shape that is not of integers; an argument that is not a number.

    Source: Louizos, Welling, Kingma, *Learning Sparse Neural Networks through L0 Regularization*
    (2018).

    Example:
        >>> from torch_gumbel.nn import HardConcrete
        >>> gates = HardConcrete(4)
        >>> gates(torch.ones(4), key=torch_gumbel.key(0)).detach()
        tensor([0.3213, 1.0000, 0.8874, 0.6864])
        >>> gates.penalty().detach()
        tensor(3.3273)
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        init_open: float = 0.5,
        tau: float = 2 / 3,
        lower: float = -0.1,
        upper: float = 1.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        who = "HardConcrete"
        sizes = listed(shape)
        for size in sizes:
            check_integer(who, "shape", size)
        for name, value in (("init_open", init_open), ("tau", tau)):
            number(who, name, value)
        if not 0 < init_open < 1:
            raise ValueError(f"{who}: init_open must be in (0, 1), got {init_open}")
        if not 0 < tau < math.inf:
            raise ValueError(f"{who}: tau must be > 0 and finite, got {tau}")
        lower, upper = number(who, "lower", lower), number(who, "upper", upper)
        if not -math.inf < lower < 0:
            raise ValueError(f"{who}: lower must be < 0 and finite, got {lower}")
        if not 1 <= upper < math.inf:
            raise ValueError(f"{who}: upper must be >= 1 and finite, got {upper}")
        self.init_open, self.tau = float(init_open), float(tau)
        self.lower, self.upper = lower, upper
        self.log_alpha = nn.Parameter(torch.empty(sizes, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets log_alpha to logit(init_open)."""
        nn.init.constant_(self.log_alpha, math.log(self.init_open) - math.log1p(-self.init_open))

    def forward(
        self, input: Tensor, *, generator: Generator | None = None, key: Tensor | None = None
    ) -> Tensor:
        """The input times its gates, in its dtype.

        Args:
            input: ``[*, *shape]``.
            generator: as for :func:`torch_gumbel.hard_concrete`.
            key: as for :func:`torch_gumbel.hard_concrete`.
        """
        gates = self.sample(generator=generator, key=key) if self.training else self.test_gate()
        return input * gates.to(input.dtype)

    def sample(self, *, generator: Generator | None = None, key: Tensor | None = None) -> Tensor:
        """Samples the gates."""
        return hard_concrete(
            self.log_alpha, self.tau, self.lower, self.upper, generator=generator, key=key
        )

    def test_gate(self) -> Tensor:
        """clamp(sigmoid(log_alpha) (upper - lower) + lower, 0, 1), as in the paper without tau."""
        stretched = self.log_alpha.sigmoid() * (self.upper - self.lower) + self.lower
        return stretched.clamp(0.0, 1.0)

    def penalty(self) -> Tensor:
        """The expected number of gates that are not 0, a 0-d tensor."""
        return hard_concrete_penalty(self.log_alpha, self.tau, self.lower, self.upper).sum()

    def num_open(self) -> int:
        """The number of gates that are not 0 in evaluation."""
        return int((self.test_gate() > 0).sum())

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return (
            f"{list(self.log_alpha.shape)}, init_open={self.init_open:.4g}, tau={self.tau:.4g}, "
            f"lower={self.lower:.4g}, upper={self.upper:.4g}"
        )
