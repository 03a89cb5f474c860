# SPDX-License-Identifier: Apache-2.0
"""What an instruction does, and the table of opcodes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .data_types import FLOATS, Array, DType
from .errors import PtxError
from .parser import Instruction

FLOAT_MODIFIERS = ("rn", "ftz")


@dataclass(frozen=True)
class Operation:
    """results = evaluate(*sources), on arrays over the threads that run it.

    Operands are (text, type); a source that is the same for all threads comes as an array of one.
    There is one result for each destination: an array if there is one, else a tuple. What reads
    memory or other threads has `needs_launch`: evaluate(launch, threads, *sources).
    """

    destinations: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str], ...]
    evaluate: Callable[..., Any]
    needs_launch: bool = False


Decoder = Callable[[Instruction], Operation]
OPCODES: dict[str, Decoder] = {}


def opcode(*names: str) -> Callable[[Decoder], Decoder]:
    """Registers a function that makes an Operation of an instruction with one of these opcodes."""

    def register(decoder: Decoder) -> Decoder:
        OPCODES.update(dict.fromkeys(names, decoder))
        return decoder

    return register


def elementwise(
    instruction: Instruction, result: str, sources: Iterable[str], evaluate: Callable[..., Any]
) -> Operation:
    """An operation on the operands after the first, of these types, into the first."""
    types = tuple(sources)
    destination, *operands = instruction.operands
    if len(operands) != len(types):
        raise PtxError(f"{len(operands)} operands after the first, not {len(types)}")
    pairs = tuple(zip(operands, types, strict=True))
    return Operation(((destination, result),), pairs, evaluate)


def flushed(value: Array) -> Array:
    """Subnormal float32 as zeros of their sign, as .ftz asks of operands and results."""
    small = np.abs(value) < np.float32(2**-126)
    return np.where(small, np.copysign(np.float32(0), value), value)


_NAN: dict[DType, Any] = {
    np.dtype("f2"): np.uint16(0x7FFF).view(np.float16),
    np.dtype("f4"): np.uint32(0x7FFFFFFF).view(np.float32),
    np.dtype("f8"): np.float64("nan"),
}


def canonical(value: Array) -> Array:
    """One NaN for all: a CPU's has the sign of an operand, of either one."""
    nan = np.isnan(value)
    return np.where(nan, _NAN[value.dtype], value) if nan.any() else value


def float_arithmetic(
    instruction: Instruction, evaluate: Callable[..., Array]
) -> Callable[..., Array]:
    """`evaluate`, for floating-point types as GPUs do it: one NaN for all, and .ftz flushes."""
    if instruction.type not in FLOATS:
        return evaluate
    if "ftz" not in instruction.modifiers:
        return lambda *values: canonical(evaluate(*values))
    if instruction.type != "f32":
        raise PtxError("modifier .ftz is known for .f32 only")
    return lambda *values: canonical(flushed(evaluate(*map(flushed, values))))
