# SPDX-License-Identifier: Apache-2.0
"""Kernels decoded for execution: operands become views of registers, and constants."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import opcodes  # noqa: F401  (fills OPCODES)
from .data_types import FLOATS, Array, DType, dtype_of, integer_of, size_of
from .errors import PtxError
from .operation import OPCODES
from .parser import Instruction, Kernel
from .threads import SPECIAL_REGISTERS, WARP

_FLOAT32 = re.compile(r"0[fF]([0-9a-fA-F]{8})")
_FLOAT64 = re.compile(r"0[dD]([0-9a-fA-F]{16})")
_INTEGER = re.compile(r"-?(?:0x[0-9a-fA-F]+|\d+)U?")
BRANCH, RETURN, BARRIER, CLUSTER_BARRIER = "branch", "return", "barrier", "barrier of the cluster"
_CONTROL = ("bra", "ret", "exit")  # and bar.sync, barrier.sync, barrier.cluster.wait


class View(NamedTuple):
    """A register read or written as a type."""

    register: str
    type: DType


class Source(NamedTuple):
    """An operand: a view (its number), or if that is -1 a constant array of one."""

    view: int
    constant: Array | None = None


class Destination(NamedTuple):
    """A view (its number) and the type of what is written; -1: `_`, written nowhere."""

    view: int
    type: DType


@dataclass(slots=True)
class Step:
    """One decoded instruction: control flow, or an evaluation (see Operation)."""

    instruction: Instruction
    guard: int  # view of the predicate; -1: none
    control: str = ""  # BRANCH, RETURN, BARRIER, CLUSTER_BARRIER, or none of them
    target: int = 0  # of a branch
    sources: tuple[Source, ...] = ()
    inverted: tuple[int, ...] = ()  # sources that are written !p
    destinations: tuple[Destination, ...] = ()
    evaluate: Callable[..., Any] = tuple
    needs_launch: bool = False


class Program:
    """A kernel's steps, and the views of registers that they use by number."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.views: list[View] = []
        self._numbers: dict[tuple[str, DType], int] = {}
        self._constants: dict[tuple[str, str], Array] = {}
        self._types = {**kernel.registers, **dict.fromkeys(SPECIAL_REGISTERS, "u32")}
        self._symbols = {p.name: p.offset for p in kernel.parameters} | kernel.shared
        self._symbols["WARP_SZ"] = WARP
        self._steps: list[Step | None] = [None] * len(kernel.instructions)
        for instruction in kernel.instructions:
            if instruction.opcode not in OPCODES and instruction.opcode not in _CONTROL:
                raise PtxError(f"{kernel.name}: {instruction}: unknown opcode {instruction.opcode}")

    def step(self, at: int) -> Step:
        """The instruction at a position, decoded when it is first reached."""
        step = self._steps[at]
        if step is None:
            instruction = self.kernel.instructions[at]
            try:
                step = self._steps[at] = self._decode(instruction)
            except (PtxError, ValueError, IndexError, KeyError) as error:
                raise PtxError(f"{self.kernel.name}: {instruction}: {error}") from error
        return step

    def _decode(self, i: Instruction) -> Step:
        guard = self._view(i.guard, dtype_of("pred")) if i.guard else -1
        if i.opcode == "bra":
            if i.operands[0] not in self.kernel.labels:
                raise PtxError(f"no label {i.operands[0]}")
            return Step(i, guard, BRANCH, self.kernel.labels[i.operands[0]])
        if i.opcode in ("ret", "exit"):
            return Step(i, guard, RETURN)
        if i.opcode in ("bar", "barrier") and i.modifiers == ("sync",):
            if len(i.operands) != 1:
                raise PtxError("a barrier for some of the block's threads is not known")
            return Step(i, guard, BARRIER)
        if i.opcode == "barrier" and i.modifiers[:2] == ("cluster", "wait"):
            return Step(i, guard, CLUSTER_BARRIER)
        operation = OPCODES[i.opcode](i)
        sources = tuple(self._source(text, type_) for text, type_ in operation.sources)
        destinations = tuple(self._destination(*pair) for pair in operation.destinations)
        inverted = [k for k, (text, _) in enumerate(operation.sources) if text.startswith("!")]
        return Step(i, guard, sources=sources, inverted=tuple(inverted), destinations=destinations,
                    evaluate=operation.evaluate, needs_launch=operation.needs_launch)  # fmt: skip

    def _view(self, register: str, type_: DType) -> int:
        """The number of the view of the register's low bytes as a type."""
        if (register, type_) in self._numbers:
            return self._numbers[register, type_]
        if register not in self._types:
            raise PtxError(f"unknown register {register}")
        of_register = dtype_of(self._types[register])
        both_or_none = (of_register.kind == "b") == (type_.kind == "b")
        if not both_or_none or of_register.itemsize < type_.itemsize:
            raise PtxError(f"register {register} of type .{self._types[register]} as {type_}")
        self._numbers[register, type_] = len(self.views)
        self.views.append(View(register, type_))
        return self._numbers[register, type_]

    def _source(self, text: str, type_: str) -> Source:
        register = text.lstrip("!")
        if register in self._types:
            dtype = dtype_of(self._types[register] if type_ == "address" else type_)
            return Source(self._view(register, dtype))
        constant = (text, "s64" if type_ == "address" else type_)
        if constant not in self._constants:
            self._constants[constant] = self._constant(*constant)
        return Source(-1, self._constants[constant])

    def _destination(self, register: str, type_: str) -> Destination:
        """A narrower result is extended to the register: by its sign if the type has one."""
        result = dtype_of(type_)
        if register == "_":
            return Destination(-1, result)
        size = size_of(self._types.get(register, type_))
        if register in SPECIAL_REGISTERS:
            raise PtxError(f"{register} cannot be written")
        if size > result.itemsize:
            return Destination(self._view(register, integer_of(size, result.kind == "i")), result)
        return Destination(self._view(register, result), result)

    def _constant(self, text: str, type_: str) -> Array:
        """An immediate or a symbol's address, as an array of one."""
        dtype = dtype_of(type_)
        if match := _FLOAT32.fullmatch(text):
            single = np.array([int(match[1], 16)], np.uint32)
            return single if type_ in ("b32", "u32") else single.view("f4").astype(dtype)
        if match := _FLOAT64.fullmatch(text):
            double = np.array([int(match[1], 16)], np.uint64)
            return double if type_ in ("b64", "u64") else double.view("f8").astype(dtype)
        if text in self._symbols:
            return np.array([self._symbols[text]]).astype(dtype)
        if not _INTEGER.fullmatch(text) or type_ in FLOATS:
            raise PtxError(f"unknown operand {text} of type .{type_}")
        number = int(text.rstrip("U"), 0)
        if dtype.kind == "b":
            return np.array([number != 0])
        bits = number & (1 << 8 * dtype.itemsize) - 1
        return np.array([bits], integer_of(dtype.itemsize)).view(dtype)
