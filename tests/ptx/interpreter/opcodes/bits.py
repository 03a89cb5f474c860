# SPDX-License-Identifier: Apache-2.0
"""Logic, shifts, bit fields, byte permutation, and bit counts."""

import numpy as np

from ..data_types import Array, dtype_of, integer_of, size_of
from ..errors import PtxError
from ..operation import Operation, elementwise, opcode
from ..parser import Instruction

_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@opcode(*_LOGIC)
def _logic(i: Instruction) -> Operation:
    i.allow()
    return elementwise(i, i.type, [i.type] * 2, _LOGIC[i.opcode])


@opcode("not")
def _not(i: Instruction) -> Operation:
    i.allow()
    return elementwise(i, i.type, [i.type], np.invert)


@opcode("shl", "shr")
def _shift(i: Instruction) -> Operation:
    """A shift by the width or more leaves zeros, or copies of the sign for shr.s."""
    i.allow()
    width, type_, left = 8 * size_of(i.type), dtype_of(i.type), i.opcode == "shl"

    def shifted(value: Array, count: Array) -> Array:
        near = np.minimum(count, width - 1).astype(type_)
        if not left and type_.kind == "i":
            return value >> near
        result = value << near if left else value >> near
        return np.where(count >= width, type_.type(0), result)

    return elementwise(i, i.type, [i.type, "u32"], shifted)


def _field(position: Array, length: Array, type_: "np.dtype[np.unsignedinteger]") -> Array:
    """A mask of `length` bits from `position` on; each operand's low byte counts."""
    width = 8 * type_.itemsize
    position, length = position & 255, length & 255
    ones = np.where(length >= width, ~type_.type(0), _one(length, type_) - type_.type(1))
    return _moved_up(ones, position)


def _one(position: Array, type_: "np.dtype[np.unsignedinteger]") -> Array:
    """The bit at a position, none if it is not below the width."""
    return _moved_up(np.ones(1, type_), position)


def _moved_up(value: Array, count: Array) -> Array:
    width = 8 * value.dtype.itemsize
    near = np.minimum(count, width - 1).astype(value.dtype)
    return np.where(count >= width, value.dtype.type(0), value << near)


@opcode("bfi")
def _bit_field_insert(i: Instruction) -> Operation:
    """bfi d, a, b, position, length: b with its field replaced by the low bits of a."""
    i.allow()
    type_ = integer_of(size_of(i.type))

    def inserted(a: Array, b: Array, position: Array, length: Array) -> Array:
        mask = _field(position, length, type_)
        return (b & ~mask) | (_moved_up(a, position & 255) & mask)

    return elementwise(i, i.type, [i.type, i.type, "u32", "u32"], inserted)


@opcode("bfe")
def _bit_field_extract(i: Instruction) -> Operation:
    """bfe d, a, position, length: the field in the low bits, for .s filled up with its sign."""
    i.allow()
    type_, bits = dtype_of(i.type), integer_of(size_of(i.type))
    last = 8 * bits.itemsize - 1

    def extracted(a: Array, position: Array, length: Array) -> Array:
        position, length = position & np.uint32(255), length & np.uint32(255)
        mask = _field(np.zeros(1, np.uint32), length, bits)
        low = np.minimum(position, last).astype(bits)
        value = np.where(position > last, bits.type(0), a.view(bits) >> low) & mask
        if type_.kind == "u":
            return value
        top = np.minimum(position + length - np.uint32(1), last).astype(bits)
        negative = ((a.view(bits) >> top) & bits.type(1) == 1) & (length > 0)
        return np.where(negative, value | ~(mask & _below(position, bits)), value).view(type_)

    return elementwise(i, i.type, [i.type, "u32", "u32"], extracted)


def _below(position: Array, type_: "np.dtype[np.unsignedinteger]") -> Array:
    """The low bits that a value moved down by `position` can still have."""
    width = 8 * type_.itemsize
    return _field(np.zeros(1, np.uint32), np.maximum(width - position.astype(np.int64), 0), type_)


@opcode("prmt")
def _permute(i: Instruction) -> Operation:
    """prmt.b32: each nibble of c picks a byte of b:a; its top bit asks for that byte's sign."""
    if i.modifiers != ("b32",):
        raise PtxError("prmt is known without a mode only")

    def permuted(a: Array, b: Array, c: Array) -> Array:
        pair = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
        result = np.zeros(1, np.uint32)
        for byte in range(4):
            selector = (c >> np.uint32(4 * byte)) & np.uint32(15)
            picked = pair >> ((selector & 7) * 8).astype(np.uint64) & np.uint64(255)
            sign = np.where(picked & np.uint64(128), np.uint64(255), np.uint64(0))
            value = np.where(selector & 8, sign, picked).astype(np.uint32)
            result = result | value << np.uint32(8 * byte)
        return result

    return elementwise(i, "b32", ["b32"] * 3, permuted)


def _highest_bit(value: Array) -> Array:
    """Position of the highest set bit, -1 of zero: exact up to 32 bits."""
    return np.where(value == 0, -1, np.frexp(value.astype(np.float64))[1] - 1)


def _require_32_bits(i: Instruction) -> None:
    if size_of(i.type) != 4:
        raise PtxError(f"{i.opcode} is known for 32 bits only")


@opcode("bfind")
def _find_bit(i: Instruction) -> Operation:
    """Position of the highest set bit, or with .shiftamt the shift that moves it to the top."""
    i.allow("shiftamt")
    if i.type != "u32":
        raise PtxError("bfind is known for .u32 only")

    def found(value: Array) -> Array:
        highest = _highest_bit(value)
        shift = np.where(highest < 0, -1, 31 - highest)
        return (shift if "shiftamt" in i.modifiers else highest).astype(np.int32).view(np.uint32)

    return elementwise(i, "u32", ["u32"], found)


@opcode("clz")
def _leading_zeros(i: Instruction) -> Operation:
    i.allow()
    _require_32_bits(i)
    return elementwise(i, "u32", ["u32"], lambda x: (31 - _highest_bit(x)).astype(np.uint32))


@opcode("popc")
def _count_bits(i: Instruction) -> Operation:
    i.allow()
    bits = integer_of(size_of(i.type))
    return elementwise(
        i, "u32", [i.type], lambda x: np.bitwise_count(x.view(bits)).astype(np.uint32)
    )


@opcode("brev")
def _reverse_bits(i: Instruction) -> Operation:
    i.allow()
    _require_32_bits(i)

    def reversed_bits(value: Array) -> Array:
        bits = np.unpackbits(value.astype(">u4").view(np.uint8)).reshape(-1, 32)
        return np.packbits(bits[:, ::-1]).view(">u4").astype(np.uint32)

    return elementwise(i, "b32", ["b32"], reversed_bits)
