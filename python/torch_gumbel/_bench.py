# SPDX-License-Identifier: Apache-2.0
"""The short benchmark of ``python -m torch_gumbel bench``, against PyTorch's own functions.

``benchmarks/`` in the source tree has more cases, baselines, and checks.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_gumbel._library import _C
from torch_gumbel.functional import gumbel_argmax, gumbel_softmax

Call = Callable[[Tensor], Any]
TAU = 0.7
_ELEMENTS = 4_194_304
_REPETITIONS = 3  # at least


@dataclass
class Case:
    """One line of the table: the call of torch_gumbel, and its baselines by name."""

    what: str
    classes: int
    ours: Call
    baselines: dict[str, Call]
    gradient: bool = False
    times: dict[str, float] = field(default_factory=dict)  # seconds per call, the median


def run(device: torch.device, seconds: float) -> None:
    """Measures for about ``seconds``, not counting compilation, and prints a table."""
    _check_device(device)
    cases = _cases(_compiled(device))
    number = sum(1 + len(case.baselines) for case in cases)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, float32,")
    print(f"{_ELEMENTS:,} logits, tau {TAU}: ns per element, and time relative to torch_gumbel")
    for case, name, call in _progress(_calls(cases), number):
        case.times[name] = _median_time(case, call, device, seconds / number)
    for line in _table(cases):
        print(line)


def _check_device(device: torch.device) -> None:
    """Raises if the device does not exist or has no kernels."""
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be cpu or cuda, which have kernels, got {device}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device must be a device of this machine, got {device}")
    torch.empty(0, device=device)
    if device.type == "cuda" and not _C.build_info()["cuda"]:
        raise ValueError(f"--device must be cpu: torch_gumbel was built without CUDA, got {device}")


def _cases(compiled: Call | None) -> list[Case]:
    def theirs(hard: bool) -> dict[str, Call]:
        calls: dict[str, Call] = {"eager": lambda x: F.gumbel_softmax(x, TAU, hard)}
        if compiled is not None and not hard:
            calls["compiled"] = compiled
        return calls

    def multinomial(x: Tensor) -> Tensor:
        return torch.multinomial(torch.softmax(x, -1), 1)

    def ours(hard: bool) -> Call:
        return lambda x: gumbel_softmax(x, TAU, hard)

    soft, hard = ours(False), ours(True)
    return [
        Case("soft", 16, soft, theirs(False)),
        Case("soft", 1024, soft, theirs(False)),
        Case("hard", 1024, hard, theirs(True)),
        Case("soft, forward + backward", 1024, soft, theirs(False), gradient=True),
        Case("hard, forward + backward", 1024, hard, theirs(True), gradient=True),
        Case("index", 1024, gumbel_argmax, {"multinomial": multinomial}),
        Case("index", 32768, gumbel_argmax, {"multinomial": multinomial}),
    ]


def _compiled(device: torch.device) -> Call | None:
    """F.gumbel_softmax under torch.compile; None if compilation fails on this machine."""
    call: Call = torch.compile(lambda x: F.gumbel_softmax(x, TAU))
    try:
        call(torch.zeros(8, 16, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        print(f"without torch.compile, which failed: {reason}", file=sys.stderr)
        return None
    return call


def _calls(cases: list[Case]) -> Iterator[tuple[Case, str, Call]]:
    for case in cases:
        yield case, "ours", case.ours
        for name, call in case.baselines.items():
            yield case, name, call


def _progress(items: Iterable[Any], number: int) -> Iterable[Any]:
    """A progress bar if tqdm is installed and stderr is a terminal."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return items
    bar: Iterable[Any] = tqdm(items, total=number, disable=None, leave=False)
    return bar


def _median_time(case: Case, call: Call, device: torch.device, seconds: float) -> float:
    x = torch.randn(_ELEMENTS // case.classes, case.classes, device=device)
    x.requires_grad_(case.gradient)
    gradient = torch.randn_like(x) if case.gradient else None

    def once() -> float:
        _synchronize(device)
        begin = time.perf_counter()
        y = call(x)
        if gradient is not None:
            torch.autograd.grad(y, x, gradient)
        _synchronize(device)
        return time.perf_counter() - begin

    once()
    end = time.perf_counter() + seconds
    spent = [once() for _ in range(_REPETITIONS)]
    while time.perf_counter() < end:
        spent.append(once())
    return statistics.median(spent)


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _table(cases: list[Case]) -> Iterator[str]:
    names = ["eager", "compiled", "multinomial"]
    titles = ["F.gumbel_softmax", "compiled", "softmax + multinomial"]
    yield f"{'what':<26}{'K':>6}{'torch_gumbel':>14}" + "".join(f"{t:>23}" for t in titles)
    for case in cases:
        ours = case.times["ours"]
        ratios = [f"{case.times[n] / ours:.1f}x" if n in case.times else "" for n in names]
        start = f"{case.what:<26}{case.classes:>6}{ours / _ELEMENTS * 1e9:>11.2f} ns"
        yield (start + "".join(f"{ratio:>23}" for ratio in ratios)).rstrip()
