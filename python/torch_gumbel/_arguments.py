# SPDX-License-Identifier: Apache-2.0
"""Checks of types in the public functions, and conversion of arguments under ``torch.compile``.

Shapes and values are checked in C++.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Generator, Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import handle_torch_function

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

REAL = (Real, torch.SymFloat, torch.SymInt)
_KEPT = (float, torch.SymFloat, torch.SymInt)
_is_compiling = torch.compiler.is_compiling


def overridden(
    function: Callable[..., Any], tensors: tuple[object, ...], arguments: Mapping[str, Any]
) -> Any:
    """Calls ``__torch_function__`` of the tensors for a public function and its arguments by name
    (its ``locals()``); those without a default are passed by position, where that is possible."""
    required, optional = _parameters(function)
    named = {name: arguments[name] for name in optional}
    return handle_torch_function(function, tensors, *(arguments[n] for n in required), **named)


@functools.cache
def _parameters(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Names of the parameters that are passed by position, and by name."""
    required: list[str] = []
    named: list[str] = []
    for p in inspect.signature(function).parameters.values():
        by_position = p.default is p.empty and p.kind is not p.KEYWORD_ONLY
        (required if by_position else named).append(p.name)
    return required, named


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
        raise _not_a_number(who, name, temperature)
    check_source_types(who, generator, key)


def _not_a_number(who: str, name: str, value: object) -> TypeError:
    return TypeError(f"{who}: {name} must be a number, got {type(value).__name__}")


def real_number(value: Any) -> float:
    """A number of any real type (Fraction, numpy's) as a float; symbolic numbers are kept."""
    if isinstance(value, _KEPT):
        return value  # type: ignore[return-value]
    try:
        return float(value)
    except OverflowError:  # out of range: refused by the check of values
        return math.copysign(math.inf, 1 if value > 0 else -1)


def number(who: str, name: str, value: Any) -> float:
    """A number of any real type as a float."""
    if type(value) is float:
        return value
    if isinstance(value, Tensor) or not isinstance(value, (float, int, *REAL)):
        raise _not_a_number(who, name, value)
    return real_number(value)


def check_tensor(who: str, what: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{who}: {what} must be a tensor, got {type(value).__name__}")


def check_string(who: str, name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{who}: {name} must be a string, got {type(value).__name__}")


def check_number(who: str, name: str, value: object) -> None:
    if not isinstance(value, (float, int)) and not isinstance(value, REAL):
        raise _not_a_number(who, name, value)


def check_integer(who: str, name: str, value: object) -> None:
    if not isinstance(value, (Integral, torch.SymInt)) or isinstance(value, bool):
        raise TypeError(f"{who}: {name} must be an integer, got {type(value).__name__}")


def integer(who: str, name: str, value: Any) -> int:
    """An integer of any type as an int; symbolic integers are kept, since operator.index would
    specialize a graph to their value."""
    if type(value) is int or isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{who}: {name} must be an integer, got {type(value).__name__}")


def listed(values: Any) -> list[Any]:
    """One value or a sequence of them, as a list."""
    several = values.dim() > 0 if isinstance(values, Tensor) else isinstance(values, Iterable)
    return list(values) if several else [values]


def flag(who: str, name: str, value: Any) -> bool:
    """A bool, number, tensor with one value, or None as a bool."""
    if value is None or hasattr(type(value), "__bool__"):
        return bool(value)
    raise TypeError(f"{who}: {name} must be a bool, got {type(value).__name__}")


def check_dtype(who: str, value: object) -> None:
    if value is not None and not isinstance(value, torch.dtype):
        raise TypeError(f"{who}: dtype must be a torch.dtype, got {type(value).__name__}")


def check_source_types(who: str, generator: object, key: object) -> None:
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(
            f"{who}: generator must be a torch.Generator, got {type(generator).__name__}"
        )
    if key is not None and not isinstance(key, Tensor):
        raise TypeError(f"{who}: key must be a tensor, got {type(key).__name__}")


def holds_values(value: object) -> bool:
    """Whether a value can be read: false for meta and fake tensors."""
    return not (isinstance(value, Tensor) and (value.is_meta or isinstance(value, FakeTensor)))


def is_dtensor(value: object) -> TypeGuard[DTensor]:
    """Whether a value is a DTensor; does not import torch.distributed.tensor."""
    return hasattr(value, "device_mesh")


def refuse_dtensor(who: str, value: object) -> None:
    """Raises for a DTensor, in functions that do not support sharding."""
    if is_dtensor(value):
        raise TypeError(f"{who}: wanted a plain tensor, got a DTensor: call full_tensor() first")


def refuse_traced_generator(who: str, generator: Generator | None) -> None:
    """Raises for a Generator, which torch.compile cannot trace; it can trace a key."""
    if generator is not None:
        raise ValueError(
            f"{who}: torch.compile cannot trace generator=; draw the key outside and pass "
            "key=torch_gumbel.new_key(generator)"
        )


def traced_temperature(
    who: str, name: str, values: Tensor, value: float | Tensor, zero: bool = False
) -> Tensor:
    """A number as a tensor of the graph, so that a new value does not recompile.

    ``zero``: whether 0 is allowed.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (str, bytes)):  # float() would read it
        raise _not_a_number(who, name, value)
    if not isinstance(value, (*_KEPT, int)):
        # Dynamo of torch 2.11 converts no Fraction; of numpy numbers it has a form of its own.
        fraction = isinstance(value, Fraction)
        value = value.numerator / value.denominator if fraction else float(value)
    # A number that is unknown while tracing (tau.item()) is not checked.
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
    """The checks of a function with one code path for eager and compiled calls.

    Returns the temperature in the form of its op.
    """
    if _is_compiling():
        refuse_traced_generator(who, generator)
        refuse_dtensor(who, values)
        return traced_temperature(who, name, values, temperature, zero)
    check_types(who, values, temperature, name, generator, key, what)
    refuse_dtensor(who, values)
    return temperature if isinstance(temperature, Tensor) else real_number(temperature)
