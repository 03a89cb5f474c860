# SPDX-License-Identifier: Apache-2.0
"""PTX's types as numpy's."""

from typing import Any

import numpy as np

from .errors import PtxError

Array = np.ndarray[Any, Any]
DType = np.dtype[Any]

_NAMES = {
    "u8": "u1", "s8": "i1", "b8": "u1",
    "u16": "u2", "s16": "i2", "b16": "u2", "f16": "f2", "bf16": "u2",
    "u32": "u4", "s32": "i4", "b32": "u4", "f32": "f4", "f16x2": "u4", "bf16x2": "u4",
    "u64": "u8", "s64": "i8", "b64": "u8", "f64": "f8",
    "pred": "?",
}  # fmt: skip
DTYPES: dict[str, DType] = {name: np.dtype(code) for name, code in _NAMES.items()}
FLOATS = ("f16", "f32", "f64")


def dtype_of(name: str) -> DType:
    """numpy's type for PTX's; bf16 and packed halves are their bits."""
    if name not in DTYPES:
        raise PtxError(f"unknown type .{name}")
    return DTYPES[name]


def size_of(name: str) -> int:
    """Bytes of a PTX type."""
    return dtype_of(name).itemsize


def integer_of(size: int, signed: bool = False) -> DType:
    """The integer type of so many bytes."""
    return np.dtype(f"{'i' if signed else 'u'}{size}")


def twice(name: str) -> str:
    """The integer type of double width: u32 -> u64."""
    return f"{name[0]}{2 * int(name[1:])}"


def align(offset: int, to: int) -> int:
    """The first multiple of `to` that is not below `offset`."""
    return -(-offset // to) * to
