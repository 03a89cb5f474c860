# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the device: compiles the CUDA kernels to PTX and runs them on an interpreter.

The interpreter is a Python module, named by its path in PTX_INTERPRETER, with
launch(ptx, kernel, grid, block, arguments, buffers, order=...) and kernels(ptx).
"""

import ctypes
import importlib.util
import os
import pathlib
import re
import subprocess
import tempfile
from typing import ClassVar

import torch

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "cuda" / "kernels.cu"
THREADS = 256
MAX_BLOCKS = 3  # fewer than most cases have rows, so that blocks take several
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
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


class Arguments(ctypes.Structure):
    """csrc/math/rows.h: Arguments."""

    POINTERS: ClassVar = ["input", "grad", "output", "tau", "key", "row_value", "index"]
    _fields_ = [
        ("rows", Rows),
        *[(name, ctypes.c_uint64) for name in POINTERS],
        ("host_key", ctypes.c_uint64 * 2),
        ("host_tau", ctypes.c_double),
        *[(f"{name}_type", ctypes.c_int32) for name in ["input", "grad", "output", "tau"]],
    ]

    def fields(self, present):
        """The struct as 64-bit words, with names for the pointers that are present."""
        words = list((ctypes.c_uint64 * (ctypes.sizeof(self) // 8)).from_buffer_copy(self))
        for name in present:
            words[getattr(Arguments, name).offset // 8] = name
        return [("u64", word) for word in words]


def memory(tensor):
    """The bytes from a tensor's first element to the end of its storage."""
    raw = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    return raw.numpy()[tensor.storage_offset() * tensor.element_size() :]


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
    """Rows over all dimensions but `dim`; strides: {operand: one per dimension}."""
    rows = Rows(classes=shape[dim], first_word=first_word, count=1)
    for d, size in enumerate(shape):
        if d == dim:
            continue
        rows.size[rows.dims] = size
        rows.count *= size
        for operand, steps in strides.items():
            rows.stride[OPERANDS.index(operand)][rows.dims] = steps[d]
        rows.dims += 1
    for operand, steps in strides.items():
        rows.class_stride[OPERANDS.index(operand)] = steps[dim]
    return rows


class Device:
    """Runs kernels by name."""

    def __init__(self):
        path = os.environ["PTX_INTERPRETER"]
        spec = importlib.util.spec_from_file_location("ptx_interpreter", path)
        self._interpreter = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._interpreter)
        self._kernels = {}
        head, *entries = re.split(r"(?m)^(?=(?:\.visible )?\.entry)", self._compile())
        for entry in entries:
            (symbol,) = self._interpreter.kernels(entry)
            name, compute = re.search(r"(?<=\d)([a-z_]+)_kernel(?:I([fd])E)?", symbol).groups()
            self._kernels[name, compute] = (head + entry, symbol)
        self.ran = set()

    @staticmethod
    def _compile():
        nvcc = os.environ.get("NVCC", "nvcc")
        flags = ["-std=c++20", "-O3", "--fmad=false", "-arch=compute_90", "-ptx"]
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "kernels.ptx"
            subprocess.run([nvcc, *flags, str(KERNELS), "-o", str(out)], check=True)
            return out.read_text()

    def names(self):
        return {self._label(*key) for key in self._kernels}

    @staticmethod
    def _label(name, compute):
        return name if compute is None else f"{name}<{dict(f='float', d='double')[compute]}>"

    def launch(self, name, compute, blocks, arguments, buffers, order):
        ptx, symbol = self._kernels[name, compute]
        self.ran.add(self._label(name, compute))
        grid = (min(blocks, MAX_BLOCKS),)
        self._interpreter.launch(ptx, symbol, grid, (THREADS,), arguments, buffers, order=order)

    def run(self, name, dim, order, *, output=None, key=None, tau=None, batch_dims=0,
            full_shape=None, start=None, **tensors):  # fmt: skip
        """One op as its launcher would run it. Writes `output`, `row_value`, `index`.

        `tau` is a float or a tensor like the logits with 1 at `dim`, `key` a (seed, offset) or a
        tensor [*batch, 2]; tensors: input, grad, row_value, index.
        """
        like = tensors.get("input", output)
        shape = list(like.shape)
        a = Arguments(host_tau=tau if isinstance(tau, float) else 1.0)
        strides = {}
        strides["word"], first = word_strides(shape, batch_dims, full_shape, start)
        if isinstance(key, torch.Tensor):
            tensors["key"] = key
            strides["key"] = [*key.stride()[:-1], *[0] * (len(shape) - key.dim() + 1)]
        elif key is not None:
            a.host_key[:] = key
        if isinstance(tau, torch.Tensor):
            tensors["tau"] = tau
            strides["tau"] = tau.expand(shape).stride()
        if output is not None:
            tensors["output"] = output
        for operand in ["input", "grad", "output"]:
            if operand in tensors:
                strides[operand] = tensors[operand].stride()
        for operand in ["input", "grad", "output", "tau"]:
            if operand in tensors:
                setattr(a, f"{operand}_type", DTYPES.index(tensors[operand].dtype))
        a.rows = make_rows(shape, dim, strides, first)
        buffers = {name: memory(tensor) for name, tensor in tensors.items()}
        compute = "d" if like.dtype == torch.float64 else "f"
        arguments = [a.fields(tensors)]
        self.launch(name, compute, a.rows.count, arguments, buffers, order)
