# SPDX-License-Identifier: Apache-2.0
"""mov, cvta, mapa, ld, st, atom."""

import re
from typing import TYPE_CHECKING

import numpy as np

from ..data_types import Array, dtype_of, integer_of, size_of
from ..errors import PtxError
from ..memory import SHARED_WINDOW, WINDOW_BITS
from ..operation import Operation, elementwise, opcode
from ..parser import Instruction

if TYPE_CHECKING:
    from ..execution import Launch
    from ..threads import Threads

_SPACES = ("param", "global", "shared")
_CACHING = ("nc", "ca", "cg", "cs", "cv", "lu", "wb", "wt", "L1::no_allocate")
_VECTORS = {"v2": 2, "v4": 4}
_ADDRESS = re.compile(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]")


def _names(operand: str) -> list[str]:
    """{a, b} -> a, b."""
    return [name.strip() for name in operand.strip("{}").split(",")]


@opcode("mov")
def _move(i: Instruction) -> Operation:
    i.allow()
    destination, source = i.operands
    if "{" in source:
        return _join(i, destination, _names(source))
    if "{" in destination:
        return _cut(i, _names(destination), source)
    return elementwise(i, i.type, [i.type], lambda x: x)


def _join(i: Instruction, destination: str, parts: list[str]) -> Operation:
    """mov.b64 d, {low, high}."""
    whole, size = integer_of(size_of(i.type)), size_of(i.type) // len(parts)
    part = f"b{8 * size}"

    def joined(*values: Array) -> Array:
        result = values[0].astype(whole)
        for k, value in enumerate(values[1:], 1):
            result = result | value.astype(whole) << whole.type(8 * size * k)
        return result

    sources = tuple((name, part) for name in parts)
    return Operation(((destination, f"b{8 * whole.itemsize}"),), sources, joined)


def _cut(i: Instruction, parts: list[str], source: str) -> Operation:
    """mov.b64 {low, high}, s."""
    size = size_of(i.type) // len(parts)
    part = integer_of(size)

    def cut(value: Array) -> tuple[Array, ...]:
        shift = value.dtype.type
        return tuple((value >> shift(8 * size * k)).astype(part) for k in range(len(parts)))

    destinations = tuple((name, f"b{8 * size}") for name in parts)
    return Operation(destinations, ((source, f"b{8 * size_of(i.type)}"),), cut)


@opcode("cvta")
def _convert_address(i: Instruction) -> Operation:
    """Generic addresses of global memory are its addresses; those of the block's shared memory
    lie in a window."""
    if i.modifiers == ("shared", "u64"):
        return elementwise(i, "u64", ["u64"], lambda x: x + np.uint64(SHARED_WINDOW))
    if i.modifiers not in (("to", "global", "u64"), ("global", "u64")):
        raise PtxError("generic addresses are known of global and shared memory only")
    return elementwise(i, "u64", ["u64"], lambda x: x)


@opcode("mapa")
def _map_address(i: Instruction) -> Operation:
    """The generic address of what lies there in another block of the cluster."""
    if i.modifiers != ("u64",):
        raise PtxError("mapa is known as mapa.u64 only")

    def mapped(address: Array, rank: Array) -> Array:
        own = address - np.uint64(SHARED_WINDOW)
        if (own >> np.uint64(WINDOW_BITS)).any():
            raise PtxError("an address of another block's shared memory, or of none")
        return address + ((rank.astype(np.uint64) + np.uint64(1)) << np.uint64(WINDOW_BITS))

    return elementwise(i, "u64", ["u64", "u32"], mapped)


def _access(i: Instruction, operand: str) -> tuple[str, int, str, int]:
    """Space, vector length, base, and offset of a load's or store's address."""
    i.allow(*_SPACES, *_CACHING, *_VECTORS)
    match = _ADDRESS.fullmatch(operand)
    if not match:
        raise PtxError(f"unknown address {operand}")
    length = next((_VECTORS[m] for m in i.modifiers if m in _VECTORS), 1)
    space = next((m for m in i.modifiers if m in _SPACES), "generic")
    return space, length, match[1], int(match[2] or "0", 0)


@opcode("ld")
def _load(i: Instruction) -> Operation:
    space, length, base, offset = _access(i, i.operands[1])
    names, type_ = _names(i.operands[0]), dtype_of(i.type)
    if len(names) != length:
        raise PtxError(f"{len(names)} destinations, not {length}")

    def load(launch: "Launch", threads: "Threads", address: Array) -> Array | tuple[Array, ...]:
        where = address.astype(np.int64) + offset
        values = launch.memory.load(space, where, type_, length, launch.grid.index[threads])
        return values[0] if length == 1 else tuple(values)

    destinations = tuple((name, i.type) for name in names)
    return Operation(destinations, ((base, "address"),), load, needs_launch=True)


@opcode("st")
def _store(i: Instruction) -> Operation:
    space, length, base, offset = _access(i, i.operands[0])
    names = _names(i.operands[1])
    if len(names) != length:
        raise PtxError(f"{len(names)} sources, not {length}")
    if space == "param":
        raise PtxError("a store to parameters")

    def store(launch: "Launch", threads: "Threads", address: Array, *values: Array) -> tuple[()]:
        where = address.astype(np.int64) + offset
        launch.memory.store(space, where, values, launch.grid.index[threads])
        return ()

    sources = ((base, "address"), *((name, i.type) for name in names))
    return Operation((), sources, store, needs_launch=True)


@opcode("atom")
def _atomic(i: Instruction) -> Operation:
    """atom.shared.add.u32 d, [a], b."""
    match = _ADDRESS.fullmatch(i.operands[1])
    if not match or i.modifiers != ("shared", "add", "u32"):
        raise PtxError("atom is known as atom.shared.add.u32 only")
    offset = int(match[2] or "0", 0)

    def add(launch: "Launch", threads: "Threads", address: Array, value: Array) -> Array:
        where = address.astype(np.int64) + offset
        return launch.memory.add("shared", where, value, launch.grid.index[threads])

    sources = ((match[1], "address"), (i.operands[2], i.type))
    return Operation(((i.operands[0], i.type),), sources, add, needs_launch=True)
