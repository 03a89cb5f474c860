# SPDX-License-Identifier: Apache-2.0
"""What the instruction counts predict of a GPU: gpu_model.json, which `make sass` writes.

For kernels whose key the host read, and for those whose key lies on the device. The model knows the
limits of a multiprocessor's units, memory, and the waves of blocks of long rows. It knows neither
latencies nor caches: a long row's second read counts as memory traffic.
"""

from __future__ import annotations

import functools
import json
import math
import os
from pathlib import Path

from cases import BACKWARD, HARD, INDEX, SOFT, Task

FILE = Path(__file__).with_name("gpu_model.json")
NAMES = {SOFT: "soft", HARD: "hard", INDEX: "argmax", BACKWARD: "backward"}
CLOCK = 1.98e9  # of a multiprocessor
TILE, WARP, REGISTERS, SOFT_REGISTERS = 128, 1024, 8192, 16384  # classes, as in cuda/plan.h
ROWS_OF_ONE_BLOCK = 8  # for each multiprocessor: of fewer long rows no share is predicted
CLUSTER = 262144  # classes that clusters of blocks hold
# Of PyTorch's unfused sampler: noise 3 tensors read or written, sum 3, temperature 2, softmax 2;
# of a hard one also its maximum, zeros, difference, and sum.
EAGER_PASSES = {SOFT: 10, HARD: 18}


@functools.cache
def model() -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = json.loads(FILE.read_text())
    return found


def clusters() -> bool:
    """Whether this process runs the kernels whose rows are given to clusters of blocks."""
    return os.environ.get("TORCH_GUMBEL_CUDA_CLUSTERS") == "1"


def parts_of(task: Task, known: dict[str, list[float]]) -> list[str]:
    """The hot paths of a task; none if the counts say nothing of it."""
    name, classes, rows = NAMES.get(task.kind), task.classes, task.elements // task.classes
    if name is None or task.dim != -1 or classes < 8:
        return []
    if classes <= TILE:
        whats = ["rows of 8"]
    elif classes <= WARP:
        whats = ["all of a row of 1024"]
    elif classes <= (SOFT_REGISTERS if task.kind == SOFT else REGISTERS):
        block = f"{name}, row in a block's registers, {task.dtype}"
        whats = ["row in a block's registers" if block in known else "row in a warp's registers"]
    elif clusters() and task.kind == SOFT and classes <= CLUSTER and 8 * rows >= 132:
        whats = ["row in a cluster's registers"]
    elif rows < ROWS_OF_ONE_BLOCK * 132:  # several blocks to a row
        return []
    else:
        whats = {
            HARD: ["long row, read", "long row, write"],
            INDEX: ["long row, read"],
        }.get(task.kind, ["long row, first read", "long row, second read"])
    return [f"{name}, {what}, {task.dtype}" for what in whats]


def waves(task: Task, blocks: float, multiprocessors: int) -> float:
    """The share of the time in which the GPU is full: the last wave of long rows is not."""
    at_once = multiprocessors * blocks
    number = task.elements // task.classes / at_once
    return number / math.ceil(number)


def predicted_share(
    task: Task, key: str, copy_rate: float, least_bytes: int, multiprocessors: int = 132
) -> float | None:
    """Percent of a copy's bytes a second. `key`: "host" or "device"; `copy_rate`: bytes a second;
    `least_bytes`: what the task must move."""
    known = model()[key]
    parts = parts_of(task, known)
    if not parts:
        return None
    memory_clocks = multiprocessors * CLOCK / copy_rate  # for a byte
    clocks = sum(max(known[p][0] * memory_clocks, known[p][1]) for p in parts)
    share = least_bytes / task.elements * memory_clocks / clocks
    if "long row" in parts[0]:
        share *= waves(task, min(known[p][2] for p in parts), multiprocessors)
    return 100 * share
