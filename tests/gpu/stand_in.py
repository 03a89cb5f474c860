# SPDX-License-Identifier: Apache-2.0
"""Runs a program with the CPU in place of a GPU, for a rehearsal: no kernel is launched.

    python stand_in.py SCRIPT [arguments]      a script with a function main()
    python stand_in.py -m pytest [arguments]

Tensors asked for on a GPU lie in memory, events read the clock, and a graph replays nothing, so
that the figures mean nothing. Tests of what the CPU does not have are skipped.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

WITHOUT_A_GPU = {
    "test_a_generator_decides_and_moves_on": "a generator of the GPU",
    "test_autocast_gives_float32_with_the_same_noise": "autocast of the GPU",
    "test_a_python_graph_draws_anew_at_every_replay": "a graph that replays",
    "test_compiled_calls_draw_anew_and_keep_the_bits_of_a_key": "a compiler for the GPU",
    "test_more_than_two_to_the_31_elements": "the GPU's memory",
}


def here(value: Any) -> Any:
    """A device of a GPU -> the CPU."""
    named = isinstance(value, (str, torch.device)) and str(value).startswith("cuda")
    return "cpu" if named else value


def on_cpu(function: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        return function(*map(here, arguments), **{k: here(v) for k, v in options.items()})

    return call


class Event:
    def __init__(self, **_: Any) -> None:
        self.time = 0.0

    def record(self) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, later: Event) -> float:
        return 1e3 * (later.time - self.time)


class Stream:
    def wait_stream(self, _: Stream) -> None:
        pass


class Graph:
    def replay(self) -> None:
        pass


def nothing(*_: Any, **__: Any) -> None:
    pass


def properties(_: int = 0) -> SimpleNamespace:
    return SimpleNamespace(name="the CPU", multi_processor_count=132, L2_cache_size=2**16)


def install() -> None:
    """Replaces what tests and benchmark use of torch.cuda."""
    for name in ("empty", "ones", "rand", "randint", "randn", "tensor", "zeros"):
        setattr(torch, name, on_cpu(getattr(torch, name)))
    torch.Tensor.to = on_cpu(torch.Tensor.to)  # type: ignore[method-assign]
    torch.Tensor.cuda = torch.Tensor.clone  # type: ignore[method-assign, assignment]
    cuda: Any = torch.cuda
    cuda.is_available, cuda.device_count = lambda: True, lambda: 1
    cuda.get_device_name, cuda.get_device_properties = lambda _=0: "the CPU", properties
    cuda.Event, cuda.Stream, cuda.CUDAGraph = Event, Stream, Graph
    cuda.current_stream = Stream
    cuda.stream = cuda.graph = lambda _: contextlib.nullcontext()
    cuda.memory_allocated = cuda.max_memory_allocated = lambda: 0
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", "set_sync_debug_mode"):
        setattr(cuda, name, nothing)
    with contextlib.suppress(ImportError):  # then the script says so
        import torch_gumbel

        torch_gumbel.new_key = on_cpu(torch_gumbel.new_key)


class Skips:
    """A plugin of pytest."""

    @staticmethod
    def pytest_collection_modifyitems(items: list[Any]) -> None:
        import pytest

        for item in items:
            if reason := WITHOUT_A_GPU.get(item.originalname):
                item.add_marker(pytest.mark.skip(reason=f"the CPU stands in: needs {reason}"))


def small(module: ModuleType) -> None:
    """A benchmark that a CPU ends soon."""
    if module.__name__ != "gpu":
        return
    timing: Any = importlib.import_module("gpu_timing")
    timing.ROUNDS, timing.LEAST_MS, timing.MOST_BUFFERS = 1, 0.05, 2
    module.ELEMENTS, module.WAVES = 2**17, (3, 128256)  # type: ignore[attr-defined]
    torch.compile = lambda function, **_: function  # type: ignore[assignment]


def main() -> int:
    install()
    script, *arguments = sys.argv[1:]
    if script == "-m":
        import pytest

        return pytest.main(arguments[1:], plugins=[Skips()])
    path = Path(script)
    sys.path.insert(0, str(path.parent))
    sys.argv = [script, *arguments]
    module = importlib.import_module(path.stem)
    small(module)
    return module.main() or 0


if __name__ == "__main__":
    sys.exit(main())
