# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""The temperature of a module: saved, moved, annealed, or learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from torch_gumbel._arguments import holds_values, is_dtensor
from torch_gumbel.schedules import TemperatureSchedule

_CPU = torch.device("cpu")
_NUMBER = "_extra_state"  # its name in a state dict
# A value of shape [1] and its 0-d view. Dynamo treats a 0-d float64 CPU tensor as a number, and
# traces twice.
_Kept = tuple[Tensor, Tensor]
_is_compiling = torch.compiler.is_compiling


class Tempered(nn.Module):
    """A module with a temperature: a number, or a parameter ``log_temperature``.

    The number is a Python float, which no cast, loader, or uninitialized memory can change, and is
    saved as a tensor, the extra state. Calls use one tensor per device, which assignments update in
    place, so that compiled calls and captured CUDA graphs follow them. After
    ``module.tau = nn.Parameter(...)`` the temperature is that parameter, ``temperature``.
    """

    schedule: TemperatureSchedule | None
    log_temperature: nn.Parameter
    temperature: nn.Parameter

    def __init__(self, tau: float | TemperatureSchedule, learnable: bool) -> None:
        super().__init__()
        self.schedule = self._schedule_of(tau, learnable)
        self._first = self._checked(tau.value if isinstance(tau, TemperatureSchedule) else tau)
        self._learned: Literal["log_temperature", "temperature"] | None = None
        self._number, self._device = self._first, _CPU
        self._kept: dict[torch.device, _Kept] = {_CPU: _persistent(self._first)}
        if learnable:
            self._learned = "log_temperature"
            self.log_temperature = nn.Parameter(torch.full((1,), math.log(self._first)))

    @property
    def learnable_tau(self) -> bool:
        """Whether the temperature is a parameter."""
        return self._learned is not None

    @property
    def tau(self) -> Tensor:
        """The temperature, a tensor with one value, float64 if it is not a parameter.

        Assign a number, a tensor with one value, or a schedule to change it, or a
        :class:`torch.nn.Parameter` with one value > 0 to learn it. It must not change between a
        call and its backward.
        """
        return self.temperature if self._learned == "temperature" else self._tau_on(self._device)

    @tau.setter
    def tau(self, value: float | Tensor | TemperatureSchedule) -> None:
        if isinstance(value, nn.Parameter):
            self._learn(value)
        elif isinstance(value, TemperatureSchedule):
            schedule, number = self._schedule_of(value, self.learnable_tau), value.value
            self._assign(self._checked(number))
            self.schedule = schedule
        else:
            self._assign(self._checked(value))

    def __setattr__(self, name: str, value: Any) -> None:
        if (
            name == "tau"
        ):  # nn.Module would register parameters and modules instead of calling the property
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def step(self) -> float:
        """Advances the schedule by one training step and assigns its temperature.

        Raises:
            ValueError: ``tau`` was given as a number; the next temperature of the schedule is not
                > 0 and finite (the step is not counted then).
        """
        if self.schedule is None:
            raise ValueError(f"{type(self).__name__}: step() needs a TemperatureSchedule as tau")
        self.tau = self.schedule.step()
        return self.schedule.value

    def reset_parameters(self) -> None:
        """Restores the initial temperature; restarts the schedule."""
        if self._learned is not None:
            first = math.log(self._first) if self._learned == "log_temperature" else self._first
            nn.init.constant_(getattr(self, self._learned), first)
            return
        if self.schedule is not None:
            self.schedule.reset_parameters()
        self._assign(self._first if self.schedule is None else self.schedule.value)

    def get_extra_state(self) -> Tensor:
        """The number in the form of the state dict: a 0-d float64 tensor."""
        return torch.tensor(self._number, dtype=torch.float64, device=_CPU)

    def set_extra_state(self, state: Tensor) -> None:
        """Loads the number of a state dict.

        Raises:
            ValueError: the number is not > 0 and finite.
        """
        if self._learned is None and holds_values(state):
            self._assign(self._checked(state))

    def _tau_for(self, values: object) -> Tensor:
        """The temperature for a call on these values."""
        if type(values) is Tensor:
            return self._tau_on(values.device)
        if self._learned is None and _refuses_real_tensors(values):
            return self.get_extra_state()
        return self._tau_on(values.device if isinstance(values, Tensor) else _CPU)

    def _tau_on(self, device: torch.device) -> Tensor:
        if self._learned is not None:
            value: Tensor = getattr(self, self._learned)
            value = value.double().exp() if self._learned == "log_temperature" else value
            return value if is_dtensor(value) else value.reshape(())
        kept = self._kept.get(device) or self._keep_on(device)
        return kept[0].reshape(()) if _is_compiling() else kept[1]

    def _keep_on(self, device: torch.device) -> _Kept:
        """The tensor of the CPU, or for CUDA graphs a copy in the memory of their device."""
        home = self._kept[_CPU]
        if device.type != "cuda" or _is_traced() or torch.cuda.is_current_stream_capturing():
            return home
        with torch.inference_mode(False):
            return self._kept.setdefault(device, _with_view(home[0].to(device)))

    def _assign(self, number: float) -> None:
        with torch.no_grad():
            if self._learned == "log_temperature":
                self.log_temperature.fill_(math.log(number))
            elif self._learned == "temperature":
                self.temperature.fill_(number)
            else:
                self._number = number
                with _without_modes():
                    for flat, _ in self._kept.values():
                        flat.fill_(number)

    def _learn(self, parameter: nn.Parameter) -> None:
        if parameter.numel() != 1:
            raise ValueError(
                f"{type(self).__name__}: tau must be one value, got a parameter of shape "
                f"{list(parameter.shape)}"
            )
        if not parameter.is_meta:
            self._first = self._checked(parameter)
        self._parameters.pop("log_temperature", None)
        self.temperature = parameter
        self._learned, self.schedule = "temperature", None

    def _schedule_of(self, tau: object, learnable: bool) -> TemperatureSchedule | None:
        if not isinstance(tau, TemperatureSchedule):
            return None
        if learnable:
            raise ValueError(f"{type(self).__name__}: a tau that is learned has no schedule")
        return tau

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

    def _shown(self) -> str:
        """The temperature in ``repr``, which reads no tensor."""
        return "learned" if self.learnable_tau else f"{self._number:.4g}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Tempered:
        super()._apply(fn, recurse)
        self._device = fn(torch.empty(0, device=_CPU)).device
        self._tau_on(self._device)  # kept from now on, for captured calls
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._device, self._kept = _CPU, {_CPU: _persistent(self._number)}

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.learnable_tau:
            del destination[prefix + _NUMBER]

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *others: list[str],
    ) -> None:
        """Loads older state dicts too: a buffer ``temperature``, or another shape."""
        number, name = prefix + _NUMBER, prefix + (self._learned or "temperature")
        value = state_dict.get(name)
        if self._learned is None and value is not None and number not in state_dict:
            state_dict[number] = state_dict.pop(name)
        elif self._learned is not None and isinstance(value, Tensor) and value.numel() == 1:
            state_dict[name] = value.reshape(getattr(self, self._learned).shape)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, *others
        )
        if self.learnable_tau and number in missing_keys:
            missing_keys.remove(number)


def _persistent(number: float) -> _Kept:
    """Tensors that do not depend on the active mode or default device."""
    with torch.inference_mode(False), _without_modes():
        return _with_view(torch.tensor([number], dtype=torch.float64, device=_CPU))


def _with_view(flat: Tensor) -> _Kept:
    return flat, flat.view(())


def _without_modes() -> AbstractContextManager[object]:
    inside = not _is_compiling() and torch._C._len_torch_dispatch_stack() > 0
    return _disable_current_modes() if inside else nullcontext()


def _refuses_real_tensors(values: object) -> bool:
    return isinstance(values, FakeTensor) and not values.fake_mode.allow_non_fake_inputs


def _is_traced() -> bool:
    """Whether new tensors would belong to a trace, a mode, or a transform."""
    return (
        _is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )
