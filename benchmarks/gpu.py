# SPDX-License-Identifier: Apache-2.0
"""torch_gumbel against PyTorch on a GPU.

    python benchmarks/gpu.py [--quick | --clusters] [--seconds N] [--out DIR]

Every implementation works on the same buffers in turn, more of them than the L2 cache holds; in
separate calls, and replayed as a CUDA graph. A share of a copy compares bytes a second with
`out.copy_(logits)` of the same size in the same run. A graph of plain calls draws its key on the
device, in a launch of its own; "host key" are calls with a key that the host read, which launch the
kernels that separate calls do. Prints a table; writes gpu.json and GPU.md to DIR after every case,
the most important ones first, so that a run that is ended leaves them. --clusters: the long rows of
--quick alone, to be run with TORCH_GUMBEL_CUDA_CLUSTERS=1 and compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from cases import BACKWARD, HARD, HARD_TRAINING, INDEX, SOFT, SOFT_TRAINING, Task
from gpu_report import markdown, met
from gpu_timing import buffers_for, bytes_moved, inputs_on_gpu, time_of

import torch_gumbel

ELEMENTS = 2**26
CLASSES = (2, 3, 5, 8, 10, 16, 31, 32, 33, 64, 100, 320, 1024, 2048, 4096, 8192, 32000, 128256)
MAIN_CLASSES = (1024, 32000, 10, 128256, 8192, 32)
QUICK_CLASSES = (1024, 32000, 10)
FEW_ROWS = ((1, 128256), (1, 32000), (8, 128256), (4, 10))
WAVES = (1100, 128256)  # a row to a block, whose last wave does not fill 132 multiprocessors
IMAGES = (32, 1024, 32, 32)
DTYPES = ("float32", "bfloat16")

IMPLEMENTATIONS = {
    SOFT: ("ours", "host key", "copy", "eager", "softmax"),
    HARD: ("ours", "host key", "copy", "eager"),
    INDEX: ("ours", "host key", "copy", "multinomial", "argmax"),
    BACKWARD: ("ours", "copy"),
    HARD_TRAINING: ("ours", "host key", "eager", "copy"),
    SOFT_TRAINING: ("ours", "host key", "eager", "copy"),
}
COMPILED = ("ours", "compiled")
Record = dict[str, Any]
Entry = tuple[Task, tuple[str, ...]]


def of_kind(task: Task) -> Entry:
    return task, IMPLEMENTATIONS[task.kind]


def quick_entries() -> Iterator[Entry]:
    for dtype in DTYPES:
        for kind in (SOFT, HARD, INDEX, BACKWARD, HARD_TRAINING):
            for classes in QUICK_CLASSES[:1] if kind == HARD_TRAINING else QUICK_CLASSES:
                yield of_kind(Task(kind, (ELEMENTS // classes, classes), dtype=dtype))
        yield of_kind(Task(SOFT, FEW_ROWS[0], dtype=dtype))
        for shape in (WAVES, (ELEMENTS // WAVES[1], WAVES[1])):
            yield of_kind(Task(SOFT, shape, dtype=dtype))


def cluster_entries() -> Iterator[Entry]:
    """Soft rows that clusters of blocks can hold, of those above."""
    for shape in (WAVES, (ELEMENTS // 32000, 32000), (ELEMENTS // WAVES[1], WAVES[1])):
        for dtype in DTYPES:
            yield Task(SOFT, shape, dtype=dtype), ("ours", "host key", "copy")


def whole_entries() -> Iterator[Entry]:
    """The main cases first, those that take a compiler last."""
    kinds = (SOFT, HARD, INDEX, BACKWARD, HARD_TRAINING, SOFT_TRAINING)
    for dtype in DTYPES:
        for kind in kinds:
            for classes in MAIN_CLASSES:
                yield of_kind(Task(kind, (ELEMENTS // classes, classes), dtype=dtype))
    for dtype in DTYPES:
        for kind in (SOFT, HARD, INDEX):
            for shape in (*FEW_ROWS, WAVES):
                yield of_kind(Task(kind, shape, dtype=dtype))
        for kind in (SOFT, INDEX):
            yield of_kind(Task(kind, IMAGES, dim=1, dtype=dtype))
    for dtype in DTYPES:
        for kind in (SOFT, HARD_TRAINING):
            yield Task(kind, (ELEMENTS // 1024, 1024), dtype=dtype), COMPILED
        for classes in CLASSES:
            if classes not in MAIN_CLASSES:
                yield of_kind(Task(SOFT, (ELEMENTS // classes, classes), dtype=dtype))


def measure(task: Task, who: tuple[str, ...], cache: int) -> Record:
    """Microseconds of every implementation; a baseline that fails is recorded as absent."""
    sets = buffers_for(task, cache)
    inputs = inputs_on_gpu(task, sets)
    times: Record = {}
    for name in who:
        try:
            times[name] = asdict(time_of(name, task, inputs))
        except Exception as error:
            if name == "ours":
                raise
            times[name] = {"absent": f"{type(error).__name__}: {error}".splitlines()[0]}
    torch._dynamo.reset()
    moved = {name: bytes_moved(task, name) for name in times}
    return {**asdict(task), "sets": sets, "times": times, "bytes": moved}


def machine() -> dict[str, str]:
    device, info = torch.cuda.get_device_properties(0), torch_gumbel.build_info()
    return {
        "GPU": device.name,
        "multiprocessors": str(device.multi_processor_count),
        "L2 cache": f"{device.L2_cache_size / 2**20:.0f} MiB",
        "torch": torch.__version__,
        "CUDA of torch": str(torch.version.cuda),
        "torch_gumbel": f"{info['version']}, CUDA {info['cuda']} for {info['cuda_architectures']}",
    }


def page_of(results: Record) -> str:
    """What is wrong with the page must not cost the measurements."""
    try:
        return markdown(results, __doc__ or "")
    except Exception as error:
        return f"no page: {type(error).__name__}: {error}\n"


def write(results: Record, out: Path) -> None:
    """At once, so that no end of the process finds half of a file."""
    for name, text in (
        ("gpu.json", json.dumps(results, indent=1) + "\n"),
        ("GPU.md", page_of(results)),
    ):
        part = out / f"{name}.part"
        part.write_text(text)
        part.replace(out / name)


def run(entries: list[Entry], deadline: float, out: Path | None) -> Record:
    """The results of all cases that begin before the deadline. A case that fails is one."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    results: Record = {"machine": machine(), "cases": [], "failed": [], "wanted": len(entries)}
    begin = time.monotonic()
    for task, who in entries:
        if time.monotonic() > deadline:
            break
        try:
            results["cases"].append(measure(task, who, cache))
        except Exception as error:
            results["failed"].append(f"{task}: {type(error).__name__}: {error}")
        if out:
            write(results, out)
        count = len(results["cases"]) + len(results["failed"])
        print(f"{count}/{len(entries)} {task.kind} {task.shape} {task.dtype}, "
              f"{time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)  # fmt: skip
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases, about a minute")
    parser.add_argument("--clusters", action="store_true", help="rows for clusters of blocks alone")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after them")
    parser.add_argument("--out", type=Path, help="folder to write gpu.json and GPU.md to")
    options = parser.parse_args()
    begin = time.monotonic()
    if not torch.cuda.is_available() or not torch_gumbel.build_info()["cuda"]:
        sys.exit("gpu.py: this needs a GPU, and torch_gumbel built with CUDA")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    chosen = (
        cluster_entries if options.clusters else quick_entries if options.quick else whole_entries
    )
    entries = list(chosen())
    results = run(entries, begin + options.seconds, options.out)
    print(markdown(results, __doc__ or ""))
    print(f"goals: {met(results)}; {len(results['cases'])} of {len(entries)} cases in "
          f"{time.monotonic() - begin:.0f} s")  # fmt: skip
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
