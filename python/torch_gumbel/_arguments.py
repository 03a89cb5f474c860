# SPDX-License-Identifier: Apache-2.0
"""What every function asks of its arguments before C++ checks them, and how ``torch.compile`` gets
them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Generator, Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

REAL = (Real, torch.SymFloat, torch.SymInt)
_is_compiling = torch.compiler.is_compiling


def check_types(
    who: str,
    values: object,
    temperature: object,
    name: str,
    generator: object,
    key: object,
    what: str = "logits",
) -> None:
    check_tensor(who, what, values)
    if not isinstance(temperature, (float, int, Tensor)) and not isinstance(temperature, REAL):
        raise TypeError(f"{who}: {name} must be a number, got {type(temperature).__name__}")
    check_source_types(who, generator, key)


def check_tensor(who: str, what: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{who}: {what} must be a tensor, got {type(value).__name__}")


def check_integer(who: str, name: str, value: object) -> None:
    if not isinstance(value, (Integral, torch.SymInt)) or isinstance(value, bool):
        raise TypeError(f"{who}: {name} must be an integer, got {type(value).__name__}")


def check_source_types(who: str, generator: object, key: object) -> None:
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(
            f"{who}: generator must be a torch.Generator, got {type(generator).__name__}"
        )
    if key is not None and not isinstance(key, Tensor):
        raise TypeError(f"{who}: key must be a tensor, got {type(key).__name__}")


def is_dtensor(value: object) -> TypeGuard[DTensor]:
    """Without importing torch.distributed.tensor, which a DTensor's owner has imported."""
    return hasattr(value, "device_mesh")


def refuse_dtensor(who: str, value: object) -> None:
    """Of a function that knows nothing of parts."""
    if is_dtensor(value):
        raise TypeError(f"{who}: wanted a plain tensor, got a DTensor: call full_tensor() first")


def refuse_traced_generator(who: str, generator: Generator | None) -> None:
    """torch.compile cannot put a Generator into a graph, for any op; a key it can."""
    if generator is not None:
        raise ValueError(
            f"{who}: torch.compile cannot trace generator=; draw the key outside and pass "
            "key=torch_gumbel.new_key(generator)"
        )


def traced_temperature(
    who: str, name: str, values: Tensor, value: float | Tensor, zero: bool = False
) -> Tensor:
    """A number as a tensor of the graph, so that another value does not mean another graph.

    ``zero``: whether 0 is a temperature.
    """
    if isinstance(value, Tensor):
        return value
    # Of a number that only the compiled graph will know (tau.item()), nothing is asked here.
    from torch.fx.experimental.symbolic_shapes import guard_or_true

    above = value >= 0 if zero else value > 0
    if not (guard_or_true(above) and guard_or_true(value < float("inf"))):
        # float: Dynamo before torch 2.12 cannot print a symbol.
        sign = ">=" if zero else ">"
        raise ValueError(f"{who}: {name} must be {sign} 0 and finite, got {float(value)}")
    return values.new_ones((), dtype=torch.float64) * value


def checked_call(
    who: str,
    values: Tensor,
    temperature: float | Tensor,
    name: str,
    generator: Generator | None,
    key: Tensor | None,
    *,
    what: str = "logits",
    zero: bool = False,
) -> float | Tensor:
    """The checks of a function that has one way for eager and compiled calls.

    Returns the temperature as its op takes it.
    """
    if _is_compiling():
        refuse_traced_generator(who, generator)
        refuse_dtensor(who, values)
        return traced_temperature(who, name, values, temperature, zero)
    check_types(who, values, temperature, name, generator, key, what)
    refuse_dtensor(who, values)
    return temperature
