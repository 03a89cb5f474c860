# SPDX-License-Identifier: Apache-2.0
"""The parameters of the launching code, as ctypes structures, and rows made of strides."""

import ctypes
import pathlib
import re
from typing import ClassVar

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
OPS = re.findall(
    r"\bk\w+",
    re.search(r"enum class Op {(.*?)}", (ROOT / "csrc/math/rows.h").read_text(), re.DOTALL)[1],
)
OPERANDS = ["input", "grad", "output", "tau", "key", "word"]
MAX_ROW_DIMS = 12


class Rows(ctypes.Structure):
    """csrc/math/rows.h: Rows."""

    _fields_ = [
        ("count", ctypes.c_int64),
        ("classes", ctypes.c_int64),
        ("dims", ctypes.c_int32),
        ("size", ctypes.c_int64 * MAX_ROW_DIMS),
        ("stride", ctypes.c_int64 * MAX_ROW_DIMS * len(OPERANDS)),
        ("class_stride", ctypes.c_int64 * len(OPERANDS)),
        ("first_word", ctypes.c_uint64),
    ]


class KernelParams(ctypes.Structure):
    """csrc/math/rows.h: KernelParams."""

    POINTERS: ClassVar = ["input", "grad", "output", "one_hot", "tau", "key", "row_value", "index"]
    _fields_ = [
        ("rows", Rows),
        *[(name, ctypes.c_uint64) for name in POINTERS],
        ("host_key", ctypes.c_uint64 * 2),
        ("host_tau", ctypes.c_double),
        *[(f"{name}_type", ctypes.c_int32) for name in ["input", "grad", "output", "tau"]],
        ("estimator", ctypes.c_int32),
        ("draws", ctypes.c_int32),
        ("gap", ctypes.c_double),
    ]


class GateParams(ctypes.Structure):
    """csrc/math/gate.h: GateParams."""

    _fields_: ClassVar = [
        ("a", KernelParams),
        ("hard", ctypes.c_bool),
        *[(name, ctypes.c_double) for name in ["threshold", "lower", "upper"]],
        ("nontemporal", ctypes.c_bool),
    ]


class LogProbParams(ctypes.Structure):
    """csrc/math/log_prob.h: LogProbParams."""

    ROWS: ClassVar = ["log_prob", "entropy", "max", "sum", "mean", "grad_log_prob", "grad_entropy"]
    _fields_: ClassVar = [("a", KernelParams), *[(name, ctypes.c_uint64) for name in ROWS]]

    def point(self, name, pointer):
        setattr(self, name, pointer)


class SubsetParams(ctypes.Structure):
    """csrc/math/subset.h: SubsetParams."""

    ROWS: ClassVar = []
    _fields_: ClassVar = [("a", KernelParams), ("k", ctypes.c_int64)]


def per_row(number):
    """csrc/math/filter.h: PerRow of a type of numbers."""
    fields = [("values", ctypes.c_uint64), ("step", ctypes.c_int64), ("number", number)]
    return type("PerRow", (ctypes.Structure,), {"_fields_": fields})


class FilterParams(ctypes.Structure):
    """csrc/math/filter.h: FilterParams."""

    ROWS: ClassVar = ["top_k", "top_p", "min_p", "entropy"]
    _fields_: ClassVar = [
        ("a", KernelParams),
        ("top_k", per_row(ctypes.c_int64)),
        ("top_p", per_row(ctypes.c_double)),
        ("min_p", per_row(ctypes.c_double)),
        ("entropy", ctypes.c_uint64),
    ]

    def point(self, name, pointer):
        if name == "entropy":
            self.entropy = pointer
        else:
            getattr(self, name).values, getattr(self, name).step = pointer, 1


def memory(tensor):
    """The bytes of a tensor's storage."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()


def word_strides(shape, batch_dims, full_shape, start):
    """Strides in words of every dimension, and the position of the first element."""
    full = list(full_shape or shape[batch_dims:])
    strides, step = [0] * len(shape), 1
    for d in reversed(range(len(full))):
        strides[batch_dims + d] = step
        step *= full[d]
    first = sum(s * strides[batch_dims + d] for d, s in enumerate(start or [0] * len(full)))
    return strides, first


def make_rows(shape, dim, strides, first_word):
    """Rows over all dimensions but `dim`, merged where all operands allow it.

    strides: {operand: one per dimension}.
    """
    rows = Rows(classes=shape[dim], first_word=first_word, count=1)
    merged = []  # innermost first: [size, {operand: stride}]
    for d in reversed(range(len(shape))):
        if d == dim or shape[d] == 1:
            continue
        rows.count *= shape[d]
        steps = {operand: given[d] for operand, given in strides.items()}
        if merged and all(merged[-1][1][o] * merged[-1][0] == step for o, step in steps.items()):
            merged[-1][0] *= shape[d]
        else:
            merged.append([shape[d], steps])
    rows.dims = len(merged)
    for d, (size, steps) in enumerate(reversed(merged)):
        rows.size[d] = size
        for operand, step in steps.items():
            rows.stride[OPERANDS.index(operand)][d] = step
    for operand, steps in strides.items():
        rows.class_stride[OPERANDS.index(operand)] = steps[dim]
    return rows
