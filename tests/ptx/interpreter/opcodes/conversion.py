# SPDX-License-Identifier: Apache-2.0
"""cvt."""

from collections.abc import Callable

import numpy as np

from ..data_types import FLOATS, Array, dtype_of, size_of
from ..errors import PtxError
from ..operation import Operation, elementwise, flushed, opcode
from ..parser import Instruction
from ..rounding import from_bfloat16, to_bfloat16

Conversion = Callable[[Array], Array]
_TO_INTEGER: dict[str, Conversion] = {
    "rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil,
}  # fmt: skip


def _half_bits(x: Array) -> Array:
    return x.astype(np.float16).view(np.uint16)


_PACKED: dict[str, Conversion] = {"f16x2": _half_bits, "bf16x2": to_bfloat16}


@opcode("cvt")
def _convert(i: Instruction) -> Operation:
    """cvt{.rounding}.to.from d, a."""
    i.allow("rn", "ftz", "sat", *_TO_INTEGER)
    to, given = i.modifiers[-2:]
    modifiers = i.modifiers[:-2]
    if to in _PACKED:
        return _convert_pair(i, _PACKED[to])
    if "sat" in modifiers and (to in FLOATS or given in FLOATS):
        raise PtxError("modifier .sat is known between integers only")
    conversion = _conversion(to, given, modifiers)
    if "ftz" in modifiers:
        conversion = _flushing(conversion)
    return elementwise(i, to, [given], conversion)


def _convert_pair(i: Instruction, bits: Conversion) -> Operation:
    """cvt.rn.f16x2.f32 d, a, b: a in the upper half, b in the lower."""
    to, given = i.modifiers[-2:]
    if i.modifiers != ("rn", to, "f32"):
        raise PtxError(f"{to} is known as cvt.rn.{to}.f32 only")

    def pair(upper: Array, lower: Array) -> Array:
        return bits(upper).astype(np.uint32) << np.uint32(16) | bits(lower)

    return elementwise(i, to, [given, given], pair)


def _conversion(to: str, given: str, modifiers: tuple[str, ...]) -> Conversion:
    rounding = next((m for m in modifiers if m in _TO_INTEGER), None)
    if to == "bf16" or given == "bf16":
        return _bfloat16(to, given)
    target = dtype_of(to)
    if given in FLOATS and to not in FLOATS:
        if rounding is None:
            raise PtxError("a conversion to integers needs a rounding")
        return _to_integer(_TO_INTEGER[rounding], target)
    if rounding is not None and given in FLOATS:
        to_integer = _TO_INTEGER[rounding]
        return lambda x: to_integer(x).astype(target)
    if "sat" in modifiers:
        return _saturated(dtype_of(given), target)
    if given not in FLOATS and to in FLOATS and size_of(to) == 2:
        return _integer_to_half
    return lambda x: x.astype(target)


def _flushing(conversion: Conversion) -> Conversion:
    def flush(x: Array) -> Array:
        return flushed(x) if x.dtype == np.float32 else x

    return lambda x: flush(conversion(flush(x)))


def _bfloat16(to: str, given: str) -> Conversion:
    if (to, given) == ("bf16", "f32"):
        return to_bfloat16
    if (to, given) == ("f32", "bf16"):
        return from_bfloat16
    raise PtxError(f"unknown conversion of .{given} to .{to}")


def _to_integer(rounding: Conversion, target: "np.dtype[np.integer]") -> Conversion:
    """What does not fit becomes the nearest that does, NaN zero."""
    limits = np.iinfo(target)

    def converted(x: Array) -> Array:
        whole = rounding(x.astype(np.float64))
        too_large = whole >= float(limits.max)
        inside = np.where(np.isnan(whole) | too_large, 0, np.maximum(whole, float(limits.min)))
        return np.where(too_large, target.type(limits.max), inside.astype(target))

    return converted


def _saturated(given: "np.dtype[np.integer]", target: "np.dtype[np.integer]") -> Conversion:
    low = max(np.iinfo(given).min, np.iinfo(target).min)
    high = min(np.iinfo(given).max, np.iinfo(target).max)
    return lambda x: np.clip(x, given.type(low), given.type(high)).astype(target)


def _integer_to_half(x: Array) -> Array:
    """By float64, which holds every integer that is not infinite as a half."""
    return x.astype(np.float64).astype(np.float16)
