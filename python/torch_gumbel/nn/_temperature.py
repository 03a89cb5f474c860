# SPDX-License-Identifier: Apache-2.0
"""A temperature that is part of a module: saved, moved, annealed, or learned."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor, nn


class Tempered(nn.Module):
    """Holds a temperature: a buffer ``temperature``, or a parameter ``log_temperature``.

    A tensor and not a number, so that a compiled or captured call follows it when it changes.
    """

    temperature: Tensor
    log_temperature: nn.Parameter

    def __init__(self, tau: float, learnable: bool) -> None:
        super().__init__()
        tau = self._checked(tau)
        self.learnable_tau = learnable
        if learnable:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(tau)))
        else:
            self.register_buffer("temperature", torch.tensor(tau))

    @property
    def tau(self) -> Tensor:
        """The temperature, a tensor with one value. Assign a number to change it."""
        return self.log_temperature.exp() if self.learnable_tau else self.temperature

    @tau.setter
    def tau(self, value: float) -> None:
        number = self._checked(value)
        with torch.no_grad():
            if self.learnable_tau:
                self.log_temperature.fill_(math.log(number))
            else:
                self.temperature.fill_(number)

    def _checked(self, value: object) -> float:
        who = type(self).__name__
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if not isinstance(value, Real):
            raise TypeError(f"{who}: tau must be a number, got {type(value).__name__}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not 0 < number < math.inf:
            raise ValueError(f"{who}: tau must be > 0 and finite, got {value}")
        return number
