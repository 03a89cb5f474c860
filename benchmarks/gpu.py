# SPDX-License-Identifier: Apache-2.0
"""torch_gumbel against PyTorch on a GPU.

    python benchmarks/gpu.py [--quick] [--out DIR]

Every implementation works on the same buffers in turn, more of them than the L2 cache holds; in
separate calls, and replayed as a CUDA graph. A share of a copy compares bytes a second with
`out.copy_(logits)` of the same size in the same run. Prints a table; writes gpu.json and GPU.md to
DIR.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from cases import BACKWARD, HARD, HARD_TRAINING, INDEX, LABELS, SOFT, SOFT_TRAINING, Task
from gpu_timing import buffers_for, bytes_moved, inputs_on_gpu, time_of
from tables import table
from tqdm import tqdm

import torch_gumbel

ELEMENTS = 2**26
CLASSES = (2, 3, 5, 8, 10, 16, 31, 32, 33, 64, 100, 320, 1024, 2048, 4096, 8192, 32000, 128256)
MAIN_CLASSES = (10, 32, 1024, 8192, 32000, 128256)
FEW_ROWS = ((1, 32000), (1, 128256), (8, 128256), (4, 10))
IMAGES = (32, 1024, 32, 32)
DTYPES = ("float32", "bfloat16")

SAMPLERS = ("ours", "eager", "compiled", "softmax", "copy")
IMPLEMENTATIONS = {
    INDEX: ("ours", "multinomial", "argmax", "copy"),
    BACKWARD: ("ours", "copy"),
    HARD_TRAINING: ("ours", "eager", "compiled", "copy"),
    SOFT_TRAINING: ("ours", "eager", "compiled", "copy"),
}
Record = dict[str, Any]


def tasks(quick: bool) -> Iterator[Task]:
    some = (10, 1024, 32000)
    for dtype in DTYPES:
        for kind in (SOFT, HARD, INDEX, BACKWARD, HARD_TRAINING, SOFT_TRAINING):
            for classes in some if quick else CLASSES if kind == SOFT else MAIN_CLASSES:
                yield Task(kind, (ELEMENTS // classes, classes), dtype=dtype)
        for kind in (SOFT, HARD, INDEX):
            for shape in FEW_ROWS[1:2] if quick else FEW_ROWS:
                yield Task(kind, shape, dtype=dtype)
        if not quick:
            yield Task(SOFT, IMAGES, dim=1, dtype=dtype)
            yield Task(INDEX, IMAGES, dim=1, dtype=dtype)


def measure(task: Task, cache: int) -> Record:
    """Microseconds of every implementation; a baseline that fails is recorded as absent."""
    sets = buffers_for(task, cache)
    inputs = inputs_on_gpu(task, sets)
    times: Record = {}
    for who in IMPLEMENTATIONS.get(task.kind, SAMPLERS):
        try:
            times[who] = asdict(time_of(who, task, inputs))
        except Exception as error:
            if who == "ours":
                raise
            times[who] = {"absent": f"{type(error).__name__}: {error}".splitlines()[0]}
    torch._dynamo.reset()
    moved = {who: bytes_moved(task, who) for who in times}
    return {**asdict(task), "sets": sets, "times": times, "bytes": moved}


def microseconds(record: Record, who: str, how: str) -> float | None:
    return record["times"].get(who, {}).get(how)


def ratio(record: Record, who: str, how: str = "graph") -> float | None:
    """Time relative to torch_gumbel."""
    ours, other = microseconds(record, "ours", how), microseconds(record, who, how)
    return other / ours if ours and other else None


def share_of_copy(record: Record, how: str = "graph") -> float | None:
    """Bytes per second in percent of a copy."""
    as_long = ratio(record, "copy", how)
    if as_long is None:
        return None
    return 100 * as_long * record["bytes"]["ours"] / record["bytes"]["copy"]


def shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def result_table(records: list[Record]) -> list[str]:
    header = ["what", "shape", "dtype", "us, graph", "us, plain", "GB/s", "of a copy"]
    baselines = ("eager", "compiled", "softmax", "multinomial", "argmax")
    rows = []
    for record in records:
        ours = microseconds(record, "ours", "graph")
        rate = record["bytes"]["ours"] / ours / 1e3 if ours else None
        training = "backward" in record["kind"] and record["kind"] != BACKWARD
        rows.append(
            [
                record["kind"],
                " x ".join(map(str, record["shape"])),
                record["dtype"],
                shown(ours, "{:.1f}"),
                shown(microseconds(record, "ours", "plain"), "{:.1f}"),
                "" if training else shown(rate, "{:.0f}"),
                "" if training else shown(share_of_copy(record), "{:.0f} %"),
                *(shown(ratio(record, who), "{:.1f}x") for who in baselines),
            ]
        )
    return table([*header, *(LABELS[who] for who in baselines)], rows)


def goals(records: list[Record]) -> list[list[str]]:
    """[goal, wanted, worst measured, met]."""

    def worst(values: Iterator[float | None], least: float, form: str, goal: str) -> list[str]:
        known = [value for value in values if value is not None]
        if not known:
            return [goal, form.format(least), "not measured", ""]
        return [goal, form.format(least), form.format(min(known)), met(min(known) >= least)]

    def met(yes: bool) -> str:
        return "yes" if yes else "**no**"

    def pick(kind: str, dtype: str, low: int, high: int = 2**31) -> list[Record]:
        return [
            r
            for r in records
            if (r["kind"], r["dtype"], r["dim"]) == (kind, dtype, -1)
            and low <= r["shape"][-1] <= high
            and r["shape"][0] * r["shape"][-1] > ELEMENTS // 2
        ]

    wide, half = pick(SOFT, "float32", 1000), pick(SOFT, "bfloat16", 1000)
    small = [r for dtype in DTYPES for r in pick(SOFT, dtype, 1, 32)]
    percent, times = "{:.0f} %", "{:.1f}x"
    rows = [
        worst(map(share_of_copy, wide), 90, percent, "float32 soft, K >= 1000: of a copy"),
        worst((ratio(r, "eager") for r in wide), 5.5, times, "float32 soft, K >= 1000: eager"),
        worst(map(share_of_copy, half), 80, percent, "bfloat16 soft, K >= 1000: of a copy"),
        worst(
            (ratio(r, "eager") for r in pick(HARD, "float32", 1000)),
            8.5,
            times,
            "float32 hard, K >= 1000: eager",
        ),
        worst(map(share_of_copy, small), 80, percent, "soft, K <= 32: of a copy"),
    ]
    for record in records:
        ours = microseconds(record, "ours", "graph")
        if (record["kind"], tuple(record["shape"])) == (SOFT, (1, 128256)) and ours:
            goal = f"{record['dtype']} soft, 1 row of 128256"
            rows.append([goal, "8.0 us", f"{ours:.1f} us", met(ours <= 8)])
    return rows


def absences(records: list[Record]) -> list[str]:
    found = {
        f"- {LABELS[who]}, {r['kind']}: {times.get('absent') or times['reason']}"
        for r in records
        for who, times in r["times"].items()
        if times.get("absent") or times.get("reason")
    }
    return ["", "Left out:", "", *sorted(found)] if found else []


def markdown(results: Record) -> str:
    machine = [f"- {name}: {value}" for name, value in results["machine"].items()]
    notes = (__doc__ or "").split("\n\n")[2]
    header = ["goal", "wanted", "worst measured", "met"]
    lines = ["# On a GPU", "", notes, "", *machine, "", "## Goals"]
    lines += [*table(header, goals(results["cases"])), "", "## All", ""]
    lines += [*result_table(results["cases"]), *absences(results["cases"])]
    return "\n".join(lines) + "\n"


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases, a minute or two")
    parser.add_argument("--out", type=Path, help="folder to write gpu.json and GPU.md to")
    options = parser.parse_args()
    if not torch.cuda.is_available() or not torch_gumbel.build_info()["cuda"]:
        sys.exit("gpu.py: this needs a GPU, and torch_gumbel built with CUDA")
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    wanted = list(tasks(options.quick))
    results = {
        "machine": machine(),
        "cases": [measure(task, cache) for task in tqdm(wanted, desc="cases")],
    }
    print(markdown(results))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        (options.out / "GPU.md").write_text(markdown(results))


if __name__ == "__main__":
    main()
