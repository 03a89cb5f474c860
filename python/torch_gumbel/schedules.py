# SPDX-License-Identifier: Apache-2.0
"""Temperature schedules: pure functions of the training step, and a module that counts steps.

Every function takes the step as its first argument and has no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torch_gumbel._arguments import holds_values

__all__ = ["TemperatureSchedule", "cosine", "exponential", "linear"]


def exponential(step: int, *, tau0: float = 1.0, rate: float = 1e-5, tau_min: float = 0.5) -> float:
    """Exponential decay to a lower bound, max(tau_min, tau0 exp(-rate step)).

    Args:
        step: number of completed training steps, >= 0.
        tau0: temperature at step 0, > 0 and finite.
        rate: decay per step, >= 0; ``-math.log(factor)`` for a decay factor per step (wav2vec 2.0:
            0.999995).
        tau_min: the lower bound, in (0, tau0].

    Raises:
        ValueError: an argument out of its range.

    Source: Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2016), section
    4.2: lower bound 0.5, rates of 1e-5 and 1e-4.

    Example:
        >>> from torch_gumbel import schedules
        >>> [round(schedules.exponential(t, rate=1e-4), 4) for t in (0, 1000, 100_000)]
        [1.0, 0.9048, 0.5]
    """
    _check("exponential", step, tau0, tau_min)
    if not 0 <= rate < math.inf:
        raise ValueError(f"exponential: rate must be >= 0 and finite, got {rate}")
    return max(tau_min, tau0 * math.exp(-rate * step))


def linear(step: int, *, tau0: float = 1.0, tau_min: float = 0.5, steps: int) -> float:
    """Linear decay from tau0 at step 0 to tau_min at ``steps``, constant after that.

    Args:
        step: number of completed training steps, >= 0.
        tau0: temperature at step 0, > 0 and finite.
        tau_min: temperature at the end, in (0, tau0].
        steps: number of steps of the decay, > 0.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> from torch_gumbel import schedules
        >>> [schedules.linear(t, tau0=1.0, tau_min=0.5, steps=100) for t in (0, 50, 100, 500)]
        [1.0, 0.75, 0.5, 0.5]
    """
    return tau_min + (tau0 - tau_min) * (1 - _progress("linear", step, tau0, tau_min, steps))


def cosine(step: int, *, tau0: float = 1.0, tau_min: float = 0.5, steps: int) -> float:
    """Cosine decay from tau0 at step 0 to tau_min at ``steps``, constant after that.

    Args:
        step: number of completed training steps, >= 0.
        tau0: temperature at step 0, > 0 and finite.
        tau_min: temperature at the end, in (0, tau0].
        steps: number of steps of the decay, > 0.

    Raises:
        ValueError: an argument out of its range.

    Source: Loshchilov, Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts* (2016),
    eq. 5.

    Example:
        >>> from torch_gumbel import schedules
        >>> [round(schedules.cosine(t, tau0=1.0, tau_min=0.5, steps=100), 4) for t in (0, 25, 100)]
        [1.0, 0.9268, 0.5]
    """
    done = _progress("cosine", step, tau0, tau_min, steps)
    return tau_min + (tau0 - tau_min) * 0.5 * (1 + math.cos(math.pi * done))


class TemperatureSchedule(nn.Module):
    """Counts training steps and gives their temperature; its state dict is the count.

    A submodule is saved and loaded with its model.

    Args:
        schedule: a function of the step: :func:`exponential`, :func:`linear`, :func:`cosine`, or
            any other that returns a number > 0.
        **settings: keyword arguments of ``schedule``.

    Raises:
        TypeError: ``schedule`` is not callable, or does not take the settings.
        ValueError: settings out of range, or a temperature at step 0 that is not > 0.

    Example:
        >>> from torch_gumbel import schedules
        >>> tau = schedules.TemperatureSchedule(schedules.linear, tau0=1.0, tau_min=0.5, steps=10)
        >>> tau.value, tau.step(), tau.step()
        (1.0, 0.95, 0.9)
    """

    def __init__(self, schedule: Callable[..., float], **settings: Any) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(
                f"TemperatureSchedule: schedule must be callable, got {type(schedule).__name__}"
            )
        self.schedule = partial(schedule, **settings)
        self.count = 0
        self._checked(self.value)

    @property
    def value(self) -> float:
        """The temperature after the steps counted so far."""
        return self.schedule(self.count)

    def step(self) -> float:
        """Counts one step; returns the temperature after it.

        Raises:
            ValueError: the temperature is not > 0 and finite; the step is not counted then.
        """
        value = self._checked(self.schedule(self.count + 1))
        self.count += 1
        return value

    def reset_parameters(self) -> None:
        """Resets the count to 0."""
        self.count = 0

    def forward(self) -> float:
        """Returns :attr:`value`."""
        return self.value

    def get_extra_state(self) -> Tensor:
        """The count in the form of the state dict: a 0-d int64 tensor."""
        return torch.tensor(self.count, dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: Tensor | dict[str, int]) -> None:
        """Loads the count of a state dict; older versions saved a dict."""
        count = state["count"] if isinstance(state, dict) else state
        if holds_values(count):
            self.count = int(count)

    def _checked(self, value: float) -> float:
        if not 0 < value < math.inf:
            raise ValueError(
                f"TemperatureSchedule: schedule must give a temperature > 0 and finite, got {value}"
            )
        return value

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        name = getattr(self.schedule.func, "__name__", repr(self.schedule.func))
        settings = [f"{key}={value}" for key, value in self.schedule.keywords.items()]
        return ", ".join([name, *settings, f"count={self.count}"])


def _check(who: str, step: int, tau0: float, tau_min: float) -> None:
    if not 0 < tau0 < math.inf:
        raise ValueError(f"{who}: tau0 must be > 0 and finite, got {tau0}")
    if not 0 < tau_min <= tau0:
        raise ValueError(f"{who}: tau_min must be in (0, tau0 = {tau0}], got {tau_min}")
    if not step >= 0:
        raise ValueError(f"{who}: step must be >= 0, got {step}")


def _progress(who: str, step: int, tau0: float, tau_min: float, steps: int) -> float:
    """The completed fraction of the decay, in [0, 1]."""
    _check(who, step, tau0, tau_min)
    if not steps > 0:
        raise ValueError(f"{who}: steps must be > 0, got {steps}")
    return min(1.0, step / steps)
