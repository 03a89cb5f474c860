# SPDX-License-Identifier: Apache-2.0
"""setp and selp."""

from collections.abc import Callable

import numpy as np

from ..data_types import FLOATS, Array
from ..errors import PtxError
from ..operation import Operation, elementwise, flushed, opcode
from ..parser import Instruction

Comparison = Callable[[Array, Array], Array]

# Ordered comparisons: false where an operand is NaN.
_ORDERED: dict[str, Comparison] = {
    "eq": np.equal,
    "ne": lambda a, b: (a != b) & ~_unordered(a, b),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "num": lambda a, b: ~_unordered(a, b),
}
# For unsigned integers, another word for lt, le, gt, ge.
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_COMBINED = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _unordered(a: Array, b: Array) -> Array:
    return (a != a) | (b != b)


def _comparison(name: str, is_float: bool) -> Comparison:
    """The function of a comparison's name; `equ` and the like are true where one is NaN."""
    if name in _ORDERED:
        return _ORDERED[name]
    if name in _UNSIGNED and not is_float:
        return _ORDERED[_UNSIGNED[name]]
    if name == "nan" and is_float:
        return _unordered
    if name[:-1] in _ORDERED and name.endswith("u") and is_float:
        ordered = _ORDERED[name[:-1]]
        return lambda a, b: ordered(a, b) | _unordered(a, b)
    raise PtxError(f"unknown comparison .{name}")


@opcode("setp")
def _set_predicate(i: Instruction) -> Operation:
    """setp.comparison{.and|or|xor} p{|q}, a, b{, c}: q is of the opposite comparison."""
    name, *modifiers = i.modifiers
    Instruction(i.opcode, tuple(modifiers), ()).allow("ftz", *_COMBINED)
    compare = _comparison(name, i.type in FLOATS)
    combine = next((_COMBINED[m] for m in modifiers if m in _COMBINED), None)
    flush = "ftz" in modifiers
    destinations = tuple((name, "pred") for name in i.operands[0].split("|"))

    def predicate(a: Array, b: Array, c: Array | None = None) -> Array | tuple[Array, ...]:
        if flush:
            a, b = flushed(a), flushed(b)
        true = compare(a, b)
        results = (true, ~true)
        if combine is not None and c is not None:
            results = (combine(true, c), combine(~true, c))
        return results[0] if len(destinations) == 1 else results

    types = [i.type, i.type] + ["pred"] * (combine is not None)
    if len(types) != len(i.operands) - 1:
        raise PtxError(f"{len(i.operands) - 1} operands after the first, not {len(types)}")
    return Operation(destinations, tuple(zip(i.operands[1:], types, strict=True)), predicate)


@opcode("selp")
def _select(i: Instruction) -> Operation:
    i.allow()
    return elementwise(i, i.type, [i.type, i.type, "pred"], lambda a, b, p: np.where(p, a, b))
