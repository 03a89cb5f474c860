# SPDX-License-Identifier: Apache-2.0
"""Shared helpers of tests: dtypes, keys, layouts, and bitwise equality."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

import torch_gumbel  # noqa: F401  (registers the ops)

ops = torch.ops.torch_gumbel

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
HALVES = [torch.float16, torch.bfloat16]
# A hard sample saves the soft one for its backward, or recomputes it from logits and key.
FORMS = {"soft": {}, "hard": {"hard": True}, "hard again": {"hard": True, "recompute": True}}

_AS_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


# The first versions with functions of torch's own stateless generator that work on a CPU.
STATELESS = {"key": (2, 12), "split": (2, 14), "fold_in": (2, 14), "bits": (2, 15)}


@functools.cache
def stateless(name: str):
    """That function of ``torch.func._random``, or None if this torch lacks it on a CPU."""
    example = {"key": (5,), "split": (make_key(5), 2), "fold_in": (make_key(5), 1)}
    example["bits"] = (make_key(5), (3,))
    try:
        function = getattr(importlib.import_module("torch.func._random"), name)
        function(*example[name])
    except (ImportError, AttributeError, NotImplementedError):
        assert tuple(int(p) for p in torch.__version__.split(".")[:2]) < STATELESS[name]
        return None
    return function


def make_key(seed: int, offset: int = 0) -> torch.Tensor:
    return torch.tensor([seed, offset], dtype=torch.uint64)


def tau_of(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def noise(like: torch.Tensor, key: torch.Tensor, **where) -> torch.Tensor:
    return ops._gumbel_noise(like, key, **where)


def compute_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def bits_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().view(_AS_INTEGER[tensor.element_size()])


def assert_same_bits(got: torch.Tensor, wanted: torch.Tensor, what: str = "") -> None:
    assert got.dtype == wanted.dtype and got.shape == wanted.shape, what
    differ = bits_of(got) != bits_of(wanted)
    assert not differ.any(), (
        f"{what}: {int(differ.sum())} of {differ.numel()} elements differ in bits"
    )


def assert_same_results(got: Any, wanted: Any, what: str = "") -> None:
    """Bitwise equality of one result, or of several."""
    for pair in zip(tree_leaves(got), tree_leaves(wanted), strict=True):
        assert_same_bits(*pair, what)


def _time_on_processors() -> dict[str, int]:
    """Nanoseconds that each thread of this process has run."""
    times = {}
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has ended
            times[thread.name] = int((thread / "schedstat").read_text().split()[0])
    return times


def _wait_for_idle_threads() -> None:
    """Those of an earlier, wider region first spin for a while; longer on a busy machine."""
    for _ in range(100):
        before = sum(_time_on_processors().values())
        time.sleep(0.02)
        if sum(_time_on_processors().values()) - before < 5e6:  # ns
            return


def busy_threads(work, seconds: float = 0.05) -> int:
    """The number of threads that do a tenth or more of the work, for any number of processors."""
    work()
    _wait_for_idle_threads()
    before, end = _time_on_processors(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        work()
    spent = [ran - before.get(thread, 0) for thread, ran in _time_on_processors().items()]
    return sum(each >= sum(spent) / 10 for each in spent)


def _stepped(x: torch.Tensor) -> torch.Tensor:
    holder = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7.0, dtype=x.dtype)
    view = holder[..., 1::2]
    view.copy_(x)
    return view


def _cut_out(x: torch.Tensor) -> torch.Tensor:
    holder = torch.full([n + 2 for n in x.shape], 7.0, dtype=x.dtype)
    view = holder[tuple(slice(1, n + 1) for n in x.shape)]
    view.copy_(x)
    return view


def layouts(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same values in several memory layouts."""
    views = {
        "contiguous": x.contiguous(),
        "transposed": x.transpose(0, -1).contiguous().transpose(0, -1),
        "stepped": _stepped(x),
        "cut out": _cut_out(x),
        "negated view": torch._neg_view(-x),
    }
    if x.dim() == 4:
        views["channels last"] = x.contiguous(memory_format=torch.channels_last)
    for view in views.values():
        assert torch.equal(view, x)
    return views


def run_python(
    code: str, timeout: float = 300, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess:
    """Runs code in a new interpreter, with its own environment."""
    folder = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join([folder, *[p for p in sys.path if p]])
    return subprocess.run(
        [sys.executable, "-c", code],
        input=stdin,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
