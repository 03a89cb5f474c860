# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the device: runs what the launching code launches on the PTX interpreter.

The launching code lies in a library built by tests/ptx/CMakeLists.txt, whose CUDA runtime is
recorder.cpp: it hands every launch over. The same library holds the kernels' PTX.
"""

import ctypes
import functools
import re
import subprocess
import sys

import interpreter
import numpy as np
import torch
from params import (
    DTYPES,
    OPERANDS,
    OPS,
    ROOT,
    FilterParams,
    GateParams,
    KernelParams,
    LogProbParams,
    make_rows,
    memory,
    word_strides,
)
from row_ops import RowOps

import torch_gumbel

sys.path.append(str(ROOT / "benchmarks"))
import machine_code

RECORDER = ROOT / "build" / "cmake" / "tests" / "ptx" / "libptx_recorder.so"
MAX_BLOCKS = 3  # of kernels whose blocks take as many rows as they must


class Addresses:
    """What a pointer of this process is on the device."""

    def __init__(self, buffers):
        at = interpreter.addresses(buffers)
        self._ranges = [(a.ctypes.data, a.nbytes, at[name]) for name, a in buffers.items()]

    def of(self, pointer):
        for begin, size, at in self._ranges:
            if begin <= pointer < begin + max(size, 1):
                return at + pointer - begin
        assert pointer == 0, "a pointer into no tensor"
        return 0


def missing():
    """Why there is nothing to run, as a sentence; None if there is."""
    if not torch_gumbel.build_info()["cuda"]:
        return "torch_gumbel was built without CUDA"
    if not RECORDER.exists():
        return f"no {RECORDER.relative_to(ROOT)}: the build has no C++ tests"
    if machine_code.tool("cuobjdump") is None:
        return "cuobjdump is not installed"
    if not kernels_ptx():
        return "the build has no PTX: TORCH_CUDA_ARCH_LIST needs an architecture with +PTX"
    return None


@functools.cache
def kernels_ptx():
    """The kernels' PTX for the newest of the architectures that have it, "" if none has."""
    listing = machine_code.run("cuobjdump", "-ptx", RECORDER)
    parts = re.split(r"(?m)^Fatbin ptx code:\n=+\narch = sm_(\d+)", listing)[1:]
    texts = {}
    for architecture, text in zip(map(int, parts[::2]), parts[1::2], strict=True):
        texts[architecture] = texts.get(architecture, "") + text  # of each source
    return texts[max(texts)] if texts else ""


ON_LAUNCH = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, *[ctypes.c_uint] * 4, ctypes.POINTER(ctypes.c_void_p)
)


class Recorded(Exception):
    """Instead of a launch's results, where launches are recorded only."""


class Device(RowOps):
    """Runs ops by name."""

    def __init__(self):
        self._module = interpreter.Module(kernels_ptx())
        self._library = ctypes.CDLL(str(RECORDER))
        self._on_launch = ON_LAUNCH(self._launch)
        self._library.set_on_launch(self._on_launch)
        self._library.workspace_bytes.restype = ctypes.c_int64
        self._library.problem_bytes.restype = ctypes.c_int64
        self._library.workspace_offset.restype = ctypes.c_int64
        for sizes in (
            "gate_problem_bytes",
            "log_prob_problem_bytes",
            "log_prob_rows_offset",
            "subset_problem_bytes",
            "subset_workspace_bytes",
        ):
            getattr(self._library, sizes).restype = ctypes.c_int64
        self.ran = set()
        self._recorded = None  # kernels, while they are recorded instead of run

    def kernels_of(self, job):
        """The kernels that job() launches with its first op, none of which runs."""
        self._recorded = set()
        try:
            job()
        except Recorded:
            return self._recorded
        finally:
            self._recorded = None

    @staticmethod
    def labels(symbols):
        """Kernels' names without namespaces and parameters, in the symbols' order."""
        text = subprocess.run(["c++filt"], input="\n".join(symbols), text=True,
                              capture_output=True, check=True).stdout  # fmt: skip
        plain = re.sub(r"torch_gumbel::cuda::|^void |\(torch_gumbel::cuda::Problem\)", "", text,
                       flags=re.M)  # fmt: skip
        return [re.sub(r"\(.*|<\)", "", line.replace("(Stage)", "")) if "<" not in line else
                re.sub(r">\(.*", ">", line) for line in plain.splitlines()]  # fmt: skip

    def families(self):
        """{kernel: its name and first template argument, which is the type of the elements}."""
        symbols = sorted(self.names())
        return {symbol: re.match(r"\w+(<\w+)?", label)[0]
                for symbol, label in zip(symbols, self.labels(symbols), strict=True)}  # fmt: skip

    def names(self):
        return set(self._module.kernels)

    def _launch(self, symbol, blocks, threads, shared, cluster, arguments):
        try:
            symbol = symbol.decode()
            if self._recorded is not None:
                self._recorded.add(symbol)
                return
            self.ran.add(symbol)
            if "_generic_kernel" in symbol or "fold_in" in symbol or "noise_at" in symbol:
                blocks = min(blocks, MAX_BLOCKS)
            given = self._arguments(symbol, arguments)
            self._module.launch(symbol, (blocks,), (threads,), given, self._buffers,
                                order=self._order, dynamic_shared=shared,
                                cluster=cluster)  # fmt: skip
        except Exception as error:  # ctypes would swallow it
            self._error = error

    def _arguments(self, symbol, arguments):
        addresses = Addresses(self._buffers)
        if "fold_in" in symbol:
            words = [ctypes.c_uint64.from_address(arguments[i]).value for i in range(6)]
            return [addresses.of(w) if i in (0, 3, 5) else w for i, w in enumerate(words)]
        if "write_key" in symbol:
            words = list((ctypes.c_uint64 * 4).from_address(arguments[0]))
            words[2:] = map(addresses.of, words[2:])
            key = addresses.of(ctypes.c_uint64.from_address(arguments[1]).value)
            return [[("u64", word) for word in words], key]
        gates, library = "gate" in symbol, self._library
        pointers = [getattr(KernelParams, name).offset for name in KernelParams.POINTERS]
        if gates:
            size = library.gate_problem_bytes()
        elif "filter" in symbol:
            size = ctypes.sizeof(FilterParams)
            pointers += [getattr(FilterParams, name).offset for name in FilterParams.ROWS]
        elif "noise_at" in symbol:
            size, pointers = 72, [0, 8, 16]  # NoiseAtParams
        elif "log_prob" in symbol:
            size, first = library.log_prob_problem_bytes(), library.log_prob_rows_offset()
            pointers += [first + 8 * i for i in range(len(LogProbParams.ROWS))]
        else:
            size = library.problem_bytes()
            if "subset" in symbol:
                size = library.subset_problem_bytes()
            pointers.append(library.workspace_offset())
        words = list((ctypes.c_uint64 * (size // 8)).from_address(arguments[0]))
        for offset in pointers:
            words[offset // 8] = addresses.of(words[offset // 8])
        problem = [("u64", word) for word in words]
        if "gate_generic" not in symbol:  # of others there is no second argument to read
            return [problem]
        return [problem, [("u32", ctypes.c_uint32.from_address(arguments[1]).value)]]

    def _call(self, buffers, order, function, *arguments):
        self._buffers, self._order, self._error = buffers, order, None
        function(*arguments)
        if self._recorded is not None:
            raise Recorded
        if self._error is not None:
            raise self._error

    def fold_in(self, keys, first, per_key, number, out, order):
        buffers = {"keys": memory(keys), "out": memory(out)}
        buffers |= {} if number is None else {"number": memory(number)}
        self._call(buffers, order, self._library.run_fold_in, ctypes.c_void_p(keys.data_ptr()),
                   ctypes.c_int64(keys.numel() // 2), ctypes.c_uint64(first % 2**64),
                   ctypes.c_int64(per_key),
                   ctypes.c_void_p(None if number is None else number.data_ptr()),
                   ctypes.c_void_p(out.data_ptr()))  # fmt: skip

    def write_key(self, seed, offset, out, order):
        """`seed` and `offset` are numbers or, as while a graph is captured, tensors."""
        buffers, words = {"out": memory(out)}, []
        if torch.is_tensor(seed):
            buffers |= {"seed": memory(seed), "offset": memory(offset)}
            words = [0, 0, seed.data_ptr(), offset.data_ptr()]
        reservation = (ctypes.c_uint64 * 4)(*(words or [seed, offset, 0, 0]))
        self._call(buffers, order, self._library.run_write_key, ctypes.byref(reservation),
                   ctypes.c_void_p(out.data_ptr()))  # fmt: skip

    def run(self, name, dim, order, *, output=None, key=None, tau=None, batch_dims=0,
            full_shape=None, start=None, multiprocessors=0, clusters=False, settings=None,
            **tensors):  # fmt: skip
        """One op as its launcher would run it. Writes `output`, `one_hot`, `row_value`, `index`.

        `tau` is a float or a tensor like the logits with 1 at `dim`, `key` a (seed, offset) or a
        tensor [*batch, 2]; tensors: input, grad, one_hot (which lies as output), row_value, index.
        Without multiprocessors there is no workspace. `clusters`: whether the device has them.
        `settings`: numbers of KernelParams.
        """
        like = tensors.get("input", output)
        shape = list(like.shape)
        a = KernelParams(host_tau=tau if isinstance(tau, float) else 1.0)
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
        for operand, tensor in tensors.items():
            setattr(a, operand, tensor.data_ptr())
        for setting, value in (settings or {}).items():
            setattr(a, setting, value)
        buffers = {name: memory(tensor) for name, tensor in tensors.items()}
        op = -1 if name == "one_hot_backward" else OPS.index(name)
        self._run(op, a, buffers, order, multiprocessors, clusters)

    def gates(self, op, order, *, output, key=None, tau=1.0, hard=False, threshold=0.0, lower=0.0,
              upper=1.0, **tensors):  # fmt: skip
        """Gates of one dimension: 0 samples, 1 and 2 the backwards. Writes `output`, `one_hot`,
        `row_value`; `tau` and `key` as for `run`, a tensor with one or as many values."""
        g, tensors = GateParams(hard=hard, threshold=threshold, lower=lower, upper=upper), {
            "output": output, **tensors}  # fmt: skip
        a, size = g.a, output.numel()
        if isinstance(key, torch.Tensor):
            tensors["key"] = key
        elif key is not None:
            a.host_key[:] = key
        a.host_tau = 1.0 if isinstance(tau, torch.Tensor) else tau
        if isinstance(tau, torch.Tensor):
            tensors["tau"] = tau
        strides = {o: t.stride() for o, t in tensors.items() if o in OPERANDS and o != "key"}
        if isinstance(tau, torch.Tensor):
            strides["tau"] = tau.expand(size).stride()
        rows = {o: [*s, 1] for o, s in strides.items()} | {"word": [1, 1]}
        a.rows = make_rows([size, 1], 1, rows, 0)
        for operand, tensor in tensors.items():
            setattr(a, operand, tensor.data_ptr())
            if operand in ("input", "grad", "output", "tau"):
                setattr(a, f"{operand}_type", DTYPES.index(tensor.dtype))
        buffers = {name: memory(tensor) for name, tensor in tensors.items()}
        self._call(buffers, order, self._library.run_gates, op, ctypes.byref(g))

    def _run(self, op, a, buffers, order, multiprocessors, clusters):
        size, workspace = 0, ctypes.c_void_p()
        if multiprocessors:
            size = self._library.workspace_bytes(op, ctypes.byref(a), multiprocessors, clusters)
        if size:
            buffers["workspace"] = np.full(size, 0xCB, np.uint8)
            workspace.value = buffers["workspace"].ctypes.data
        self._call(buffers, order, self._library.run_op, op, ctypes.byref(a), workspace,
                   multiprocessors, clusters)  # fmt: skip
