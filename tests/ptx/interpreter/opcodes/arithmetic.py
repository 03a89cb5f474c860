# SPDX-License-Identifier: Apache-2.0
"""add, sub, mul, mad, fma, div, rem, min, max, and functions of one operand."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data_types import FLOATS, Array, dtype_of, size_of, twice
from ..errors import PtxError
from ..operation import FLOAT_MODIFIERS, Operation, elementwise, float_arithmetic, opcode
from ..parser import Instruction
from ..rounding import fma32, fma64


def _allow_by_type(i: Instruction, floats: tuple[str, ...], integers: tuple[str, ...]) -> None:
    i.allow(*(floats if i.type in FLOATS else integers))


@opcode("add", "sub")
def _add(i: Instruction) -> Operation:
    _allow_by_type(i, FLOAT_MODIFIERS, ())
    function = {"add": np.add, "sub": np.subtract}[i.opcode]
    return elementwise(i, i.type, [i.type] * 2, float_arithmetic(i, function))


def _integer_product(i: Instruction) -> tuple[str, Callable[[Array, Array], Array]]:
    """The type of mul's or mad's product, and the function."""
    i.allow("lo", "hi", "wide")
    half = i.chosen(("lo", "hi", "wide"))
    if half == "lo":
        return i.type, np.multiply
    if size_of(i.type) > 4:
        raise PtxError(f"modifier .{half} is known up to 32 bits only")
    wide, narrow = dtype_of(twice(i.type)), dtype_of(i.type)
    if half == "wide":
        return twice(i.type), lambda a, b: a.astype(wide) * b.astype(wide)
    shift = wide.type(8 * narrow.itemsize)
    return i.type, lambda a, b: ((a.astype(wide) * b.astype(wide)) >> shift).astype(narrow)


@opcode("mul")
def _mul(i: Instruction) -> Operation:
    if i.type in FLOATS:
        i.allow(*FLOAT_MODIFIERS)
        return elementwise(i, i.type, [i.type] * 2, float_arithmetic(i, np.multiply))
    result, product = _integer_product(i)
    return elementwise(i, result, [i.type] * 2, product)


@opcode("mad")
def _mad(i: Instruction) -> Operation:
    result, product = _integer_product(i)
    return elementwise(i, result, [i.type, i.type, result], lambda a, b, c: product(a, b) + c)


@opcode("fma")
def _fma(i: Instruction) -> Operation:
    i.allow(*FLOAT_MODIFIERS)
    functions: dict[str, Callable[..., Array]] = {"f32": fma32, "f64": fma64}
    function = functions[i.chosen(tuple(functions))]
    return elementwise(i, i.type, [i.type] * 3, float_arithmetic(i, function))


def _quotient(a: Array, b: Array) -> Array:
    """a / b truncated to an integer; all bits set where b is 0, as GPUs give."""
    divisor = np.where(b == 0, b.dtype.type(1), b)
    quotient = a // divisor
    if a.dtype.kind == "i":
        rounded_down = (a % divisor != 0) & ((a < 0) != (divisor < 0))
        quotient = quotient + rounded_down.astype(a.dtype)
    return np.where(b == 0, ~b.dtype.type(0), quotient)


def _remainder(a: Array, b: Array) -> Array:
    return a - _quotient(a, b) * b


@opcode("div")
def _div(i: Instruction) -> Operation:
    _allow_by_type(i, FLOAT_MODIFIERS, ())
    if i.type in FLOATS:
        return elementwise(i, i.type, [i.type] * 2, float_arithmetic(i, np.divide))
    return elementwise(i, i.type, [i.type] * 2, _quotient)


@opcode("rem")
def _rem(i: Instruction) -> Operation:
    i.allow()
    return elementwise(i, i.type, [i.type] * 2, _remainder)


def _max(function: Callable[..., Array]) -> Callable[[Array, Array], Array]:
    """Of two zeros +0 is the larger, which numpy leaves open."""
    return lambda a, b: np.where((a == 0) & (b == 0), a + b, function(a, b))


def _min(function: Callable[..., Array]) -> Callable[[Array, Array], Array]:
    return lambda a, b: np.where((a == 0) & (b == 0), -(-a + -b), function(a, b))


@opcode("max", "min")
def _extremum(i: Instruction) -> Operation:
    """A NaN loses against a number; with .NaN it wins."""
    _allow_by_type(i, ("ftz", "NaN"), ())
    larger, nan = i.opcode == "max", "NaN" in i.modifiers
    if i.type not in FLOATS:
        integers = np.maximum if larger else np.minimum
        return elementwise(i, i.type, [i.type] * 2, integers)
    ignoring, keeping = (np.fmax, np.maximum) if larger else (np.fmin, np.minimum)
    function = (_max if larger else _min)(keeping if nan else ignoring)
    return elementwise(i, i.type, [i.type] * 2, float_arithmetic(i, function))


def _reciprocal(x: Array) -> Array:
    return x.dtype.type(1) / x


def _from_float64(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """An approximate function of the GPU: here rounded from float64."""
    return lambda x: function(x.astype(np.float64)).astype(x.dtype)


_ONE_OPERAND: dict[str, tuple[Callable[[Array], Any], tuple[str, ...]]] = {
    "neg": (np.negative, ("ftz",)),
    "abs": (np.abs, ("ftz",)),
    "rcp": (_reciprocal, (*FLOAT_MODIFIERS, "approx", "ftz")),
    "sqrt": (np.sqrt, FLOAT_MODIFIERS),
    "ex2": (_from_float64(np.exp2), ("approx", "ftz")),
    "lg2": (_from_float64(np.log2), ("approx", "ftz")),
}


@opcode(*_ONE_OPERAND)
def _one_operand(i: Instruction) -> Operation:
    function, modifiers = _ONE_OPERAND[i.opcode]
    i.allow(*modifiers)
    return elementwise(i, i.type, [i.type], float_arithmetic(i, function))
