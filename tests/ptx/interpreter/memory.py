# SPDX-License-Identifier: Apache-2.0
"""Parameter, shared, and global memory, with every access checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .data_types import Array, DType, align, dtype_of
from .errors import PtxError
from .parser import Kernel
from .threads import Grid

FIRST_ADDRESS, PAGE = 0x1234_0000_0000, 4096
WIDEST = 16  # bytes of one access
# Generic addresses of shared memory: of the own block, then of each block of the cluster.
SHARED_WINDOW, WINDOW_BITS = 0x7000_0000_0000, 32
UNWRITTEN = 0xCB  # every byte of shared memory at first
Value: TypeAlias = "float | int | str"  # a str is a buffer's name
Argument: TypeAlias = "Value | Sequence[tuple[str, Value]]"


def addresses(buffers: Mapping[str, Array]) -> dict[str, int]:
    """Device addresses of buffers: each on a page of its own, with at least a page between two."""
    result, at = {}, FIRST_ADDRESS
    for name, array in buffers.items():
        result[name] = at
        at = align(at + array.nbytes + PAGE, PAGE)
    return result


def pack(kernel: Kernel, arguments: Sequence[Argument], at: Mapping[str, int]) -> Array:
    """The bytes of parameter space."""
    if len(arguments) != len(kernel.parameters):
        raise PtxError(f"{kernel.name}: {len(kernel.parameters)} parameters, "
                       f"got {len(arguments)} arguments")  # fmt: skip
    packed = np.zeros(kernel.parameter_bytes, np.uint8)
    for parameter, argument in zip(kernel.parameters, arguments, strict=True):
        fields: Any = argument
        if isinstance(argument, (int, float, str)):
            fields = [("u64" if isinstance(argument, str) else parameter.type, argument)]
        used = 0
        for type_, value in fields:
            number = np.array([at[value] if isinstance(value, str) else value])
            data = number.astype(dtype_of(type_)).view(np.uint8)
            used = align(used, len(data))
            begin = parameter.offset + used
            used += len(data)
            if used > parameter.size:
                break
            packed[begin : begin + len(data)] = data
        if not parameter.size - 8 < used <= parameter.size:
            raise PtxError(f"{kernel.name}: an argument of {used} bytes for {parameter.name}, "
                           f"which has {parameter.size}")  # fmt: skip
    return packed


class _Bytes:
    """Bytes seen as arrays of any type."""

    def __init__(self, data: Array):
        self.data = data
        self._views: dict[DType, Array] = {}

    def of(self, type_: DType) -> Array:
        if type_ not in self._views:
            whole = len(self.data) // type_.itemsize * type_.itemsize
            self._views[type_] = self.data[:whole].view(type_)
        return self._views[type_]


@dataclass(frozen=True)
class _Part:
    """The accesses that lie in the same bytes."""

    bytes: _Bytes
    offsets: Array
    which: "slice | Array"  # of the accesses


class Memory:
    """What a launch reads and writes. Addresses are int64 arrays, one per thread or one for all."""

    def __init__(
        self, grid: Grid, parameters: Array, shared_bytes: int, buffers: Mapping[str, Array]
    ):
        self._grid = grid
        self._parameters = _Bytes(parameters)
        self._shared_bytes = shared_bytes
        self._shared_step = align(shared_bytes, WIDEST)
        self._shared = _Bytes(np.full(grid.block_count * self._shared_step, UNWRITTEN, np.uint8))
        self._buffers = [_Bytes(array.reshape(-1).view(np.uint8)) for array in buffers.values()]
        self._begins = np.array(list(addresses(buffers).values()), np.int64)
        self._ends = self._begins + [len(buffer.data) for buffer in self._buffers]

    def load(
        self, space: str, address: Array, type_: DType, length: int, threads: Array
    ) -> list[Array]:
        """`length` values in a row at each address."""
        parts = self._locate(space, address, type_.itemsize * length, threads)
        if len(parts) == 1:
            first, values = parts[0].offsets // type_.itemsize, parts[0].bytes.of(type_)
            return [values[first + k] for k in range(length)]
        results = [np.empty(len(threads), type_) for _ in range(length)]
        for part in parts:
            first, values = part.offsets // type_.itemsize, part.bytes.of(type_)
            for k, result in enumerate(results):
                result[part.which] = values[first + k]
        return results

    def store(self, space: str, address: Array, values: Sequence[Array], threads: Array) -> None:
        """Values in a row at each address."""
        type_ = values[0].dtype
        for part in self._locate(space, address, type_.itemsize * len(values), threads):
            first, array = part.offsets // type_.itemsize, part.bytes.of(type_)
            for k, value in enumerate(values):
                array[first + k] = np.broadcast_to(value, threads.shape)[part.which]

    def add(self, space: str, address: Array, value: Array, threads: Array) -> Array:
        """Adds at each address, one thread after another; what each found there."""
        found = np.empty(len(threads), value.dtype)
        terms = np.broadcast_to(value, threads.shape)
        for part in self._locate(space, address, value.dtype.itemsize, threads):
            array, which = part.bytes.of(value.dtype), np.arange(len(threads))[part.which]
            for k, at in zip(which, part.offsets // value.dtype.itemsize, strict=True):
                found[k] = array[at]
                array[at : at + 1] += terms[k : k + 1]  # arrays wrap silently
        return found

    def _locate(self, space: str, address: Array, size: int, threads: Array) -> list[_Part]:
        if (address % size).any():
            raise PtxError(f"misaligned access of {size} bytes")
        if space == "param":
            self._check(address, size, len(self._parameters.data), space, threads)
            return [_Part(self._parameters, address, slice(None))]
        address = np.broadcast_to(address, threads.shape)
        if space == "shared":
            self._check(address, size, self._shared_bytes, space, threads)
            offsets = self._grid.block[threads] * self._shared_step + address
            return [_Part(self._shared, offsets, slice(None))]
        if space == "generic" and (address >= SHARED_WINDOW).any():
            return [_Part(self._shared, self._generic_shared(address, size, threads), slice(None))]
        return self._locate_global(address, size, threads)

    def _generic_shared(self, address: Array, size: int, threads: Array) -> Array:
        """Where generic addresses of shared memory lie in that of all blocks."""
        window, offset = np.divmod(address - SHARED_WINDOW, 1 << WINDOW_BITS)
        if (window < 0).any() or (window > self._grid.cluster).any():
            raise PtxError("generic addresses of shared memory and others, or of no block")
        self._check(offset, size, self._shared_bytes, "shared", threads)
        own = self._grid.block[threads]
        first = own - own % self._grid.cluster
        block = np.where(window == 0, own, first + window - 1)
        return block * self._shared_step + offset

    def _check(self, address: Array, size: int, end: int, space: str, threads: Array) -> None:
        outside = (address < 0) | (address + size > end)
        if outside.any():
            raise self._out_of_bounds(space, address, outside, threads)

    def _out_of_bounds(
        self, space: str, address: Array, outside: Array, threads: Array
    ) -> PtxError:
        first = int(np.argmax(outside))
        thread = self._grid.describe(int(threads[first]))
        where = int(np.broadcast_to(address, threads.shape)[first])
        return PtxError(f"{space} memory out of bounds, {thread}, address {where:#x}")

    def _locate_global(self, address: Array, size: int, threads: Array) -> list[_Part]:
        buffer = np.searchsorted(self._begins, address, "right") - 1
        outside = (buffer < 0) | (address + size > self._ends[buffer])
        if outside.any():
            raise self._out_of_bounds("global", address, outside, threads)
        first = int(buffer[0])
        if (buffer == first).all():
            return [_Part(self._buffers[first], address - self._begins[first], slice(None))]
        parts = []
        for k in np.unique(buffer):
            (which,) = np.nonzero(buffer == k)
            parts.append(_Part(self._buffers[k], address[which] - self._begins[k], which))
        return parts
