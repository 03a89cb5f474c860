# SPDX-License-Identifier: Apache-2.0
"""The cases of the benchmark: tasks, the implementations timed on each, and their processes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SOFT, HARD, INDEX = "soft", "hard", "index"
SOFT_TRAINING, HARD_TRAINING = "soft, forward + backward", "hard, forward + backward"
BACKWARD = "backward from y"
KINDS = (SOFT, HARD, INDEX, SOFT_TRAINING, HARD_TRAINING)

OURS = "torch_gumbel"
LABELS = {
    "ours": OURS,
    "host key": f"{OURS}, host key",
    "eager": "F.gumbel_softmax",
    "compiled": "F.gumbel_softmax, compiled",
    "jax": "JAX jit",
    "paddle": "Paddle",
    "multinomial": "softmax + multinomial",
    "softmax": "softmax",
    "argmax": "argmax",
    "copy": "copy",
    "arithmetic": "arithmetic",
}
SAMPLERS = ("ours", "eager", "compiled", "jax", "paddle")
IMPLEMENTATIONS = {
    SOFT: (*SAMPLERS, "softmax", "copy"),
    HARD: (*SAMPLERS, "copy"),
    INDEX: ("ours", "multinomial", "argmax", "jax", "paddle", "copy"),
    SOFT_TRAINING: SAMPLERS,
    HARD_TRAINING: SAMPLERS,
    BACKWARD: ("ours", "copy"),
}

CLASSES = (2, 10, 32, 320, 1024, 8192, 32000, 128256)
ODD_CLASSES = (3, 5, 31, 33, 100)
PARTIAL_CLASSES = (777, 1001, 1100, 1500, 1999, 2047, 3000)  # rows that end within cache lines
MAIN_CLASSES = (1024, 32000)
TRAINING_CLASSES = (10, 32, *MAIN_CLASSES)
OTHER_DTYPES = ("bfloat16", "float16", "float64")
SMALL = (4, 10)
IMAGES, IMAGES_LAST = (32, 1024, 16, 16), (32, 16, 16, 1024)
ELEMENTS, QUICK_ELEMENTS = 2**22, 2**18
FULL_GAIN = 1.9  # speed-up of arithmetic with a second thread, if it has a core of its own
COLD_SETS = 6  # inputs and outputs in rotation: more than any cache holds


@dataclass(frozen=True)
class Task:
    """One computation on random logits. `sets` buffers are used in turn."""

    kind: str
    shape: tuple[int, ...]
    dim: int = -1
    dtype: str = "float32"
    tau: float = 0.7
    threads: int = 1
    sets: int = 1

    @property
    def hard(self) -> bool:
        return self.kind in (HARD, HARD_TRAINING)

    @property
    def training(self) -> bool:
        return self.kind in (SOFT_TRAINING, HARD_TRAINING)

    @property
    def classes(self) -> int:
        return self.shape[self.dim]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


Call = Callable[[], object]  # what is timed
Maker = Callable[[Task, "Tensor", "Tensor"], Call]  # of a task, its logits, and its gradient


class Absent(Exception):
    """An implementation does not support a task or is not installed; the message says why."""


@dataclass(frozen=True)
class Entry:
    label: str
    who: str
    task: Task


@dataclass(frozen=True)
class Case:
    """Entries that are timed in turn; the others are compared with the first."""

    section: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Setting:
    """The settings of one process."""

    name: str
    threads: int
    environment: dict[str, str] = field(default_factory=dict)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settings(threads: int, builds: Iterable[str]) -> list[Setting]:
    """The processes of a run; `builds`: the instruction sets that this machine supports."""
    found = [Setting("one thread", 1)]
    if threads > 1:
        found += [Setting("many threads", threads), Setting("scaling", threads)]
    if "avx2" in builds:
        forced = {"TORCH_GUMBEL_CPU": "avx2", "ATEN_CPU_CAPABILITY": "avx2"}
        found.append(Setting("avx2", 1, forced))
    return [*found, Setting("noise", threads)]


def side_by_side(section: str, task: Task, who: Iterable[str] | None = None) -> Case:
    names = IMPLEMENTATIONS[task.kind] if who is None else who
    return Case(section, tuple(Entry(LABELS[name], name, task) for name in names))


def ours_varied(section: str, tasks: dict[str, Task]) -> Case:
    """A case of torch_gumbel with several tasks."""
    return Case(section, tuple(Entry(f"{OURS}, {what}", "ours", t) for what, t in tasks.items()))


class Grid:
    """All cases, by setting. A quick one has fewer, smaller ones."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.elements = QUICK_ELEMENTS if quick else ELEMENTS

    def pick(self, full: tuple[int, ...], quick: tuple[int, ...]) -> tuple[int, ...]:
        return quick if self.quick else full

    def shape(self, classes: int) -> tuple[int, int]:
        return max(1, self.elements // classes), classes

    def images(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        batch = 2 if self.quick else IMAGES[0]
        return (batch, *IMAGES[1:]), (batch, *IMAGES_LAST[1:])

    def cases(self, setting: Setting) -> list[Case]:
        if setting.name == "one thread":
            return [
                *self.by_classes(),
                *self.tau_one(),
                *self.odd(),
                *self.partial(),
                *self.bfloat16(),
                *self.dtypes(),
                *self.layouts(),
                *self.small(),
                *self.memory(1),
            ]
        if setting.name == "many threads":
            return self.many(setting.threads)
        if setting.name == "scaling":
            return self.scaling()
        return self.avx2() if setting.name == "avx2" else []

    def by_classes(self) -> list[Case]:
        return [
            side_by_side("classes", Task(kind, self.shape(k)), self.implementations(kind, k))
            for kind in KINDS
            for k in self.pick(CLASSES, (1024,) if "backward" in kind else (10, 1024, 32000))
        ]

    def implementations(self, kind: str, classes: int = 0) -> tuple[str, ...]:
        """The implementations timed on a kind; a quick run compiles only two cases."""
        compiled = not self.quick or (kind in (SOFT, SOFT_TRAINING) and classes == 1024)
        return tuple(name for name in IMPLEMENTATIONS[kind] if compiled or name != "compiled")

    def tau_one(self) -> list[Case]:
        return [
            side_by_side("tau 1", Task(SOFT, self.shape(k), tau=1.0), ("ours", "eager", "copy"))
            for k in MAIN_CLASSES
        ]

    def odd(self) -> list[Case]:
        return [
            side_by_side("odd classes", Task(SOFT, self.shape(k)), ("ours", "eager", "copy"))
            for k in self.pick(ODD_CLASSES, (3, 33))
        ]

    def partial(self) -> list[Case]:
        found = []
        whole = Entry(f"{OURS}, K 1024", "ours", Task(SOFT, self.shape(1024)))
        for k in self.pick(PARTIAL_CLASSES, (1001,)):
            ours, *rest = side_by_side(
                "partial lines", Task(SOFT, self.shape(k)), ("ours", "eager", "copy")
            ).entries
            found.append(Case("partial lines", (ours, whole, *rest)))
        return found

    def bfloat16(self) -> list[Case]:
        every = tuple(sorted({2, 10, 32, *ODD_CLASSES, *MAIN_CLASSES}))
        tasks = [Task(SOFT, self.shape(k)) for k in self.pick(every, (2, 33, 1024))]
        tasks += [Task(HARD_TRAINING, self.shape(k)) for k in self.pick(TRAINING_CLASSES, (1024,))]
        return [
            ours_varied("bfloat16", {"float32": t, "bfloat16": replace(t, dtype="bfloat16")})
            for t in tasks
        ]

    def dtypes(self) -> list[Case]:
        return [
            side_by_side("dtypes", Task(kind, self.shape(k), dtype=dtype))
            for dtype in OTHER_DTYPES
            for kind in (KINDS if not self.quick else (HARD, INDEX))
            for k in ((10, 1024, 32000) if kind == SOFT else (1024,))
            if not self.quick or dtype != "float16" or kind == INDEX
        ]

    def layouts(self) -> list[Case]:
        images, last = self.images()
        found = []
        for kind in (SOFT,) if self.quick else KINDS:
            found.append(
                side_by_side("one row", Task(kind, (1, self.elements)), self.implementations(kind))
            )
            task = Task(kind, images, dim=1)
            beside = Entry(f"{OURS}, last dim", "ours", Task(kind, last))
            ours, *rest = side_by_side("dim=1", task, self.implementations(kind)).entries
            found.append(Case("dim=1", (ours, beside, *rest)))
        return found

    def small(self) -> list[Case]:
        return [
            side_by_side("small", Task(kind, SMALL), self.implementations(kind)) for kind in KINDS
        ]

    def memory(self, threads: int) -> list[Case]:
        """Cases that exceed the caches, full size even in a quick run."""
        shapes = [(ELEMENTS // k, k) for k in self.pick((32, *MAIN_CLASSES), (1024,))]
        tasks = [Task(BACKWARD, shape, threads=threads, sets=COLD_SETS) for shape in shapes]
        return [side_by_side("memory", task) for task in tasks]

    def many(self, threads: int) -> list[Case]:
        found = []
        for kind in (SOFT,) if self.quick else (SOFT, HARD, INDEX, SOFT_TRAINING):
            shapes = [self.shape(k) for k in self.pick((32, *MAIN_CLASSES), (1024,))]
            for shape in shapes if self.quick else (*shapes, (1, self.elements)):
                task = Task(kind, shape, threads=threads)
                found.append(side_by_side("many threads", task, self.implementations(kind)))
        return found

    def scaling(self) -> list[Case]:
        """Two threads against one: torch_gumbel, a copy, and arithmetic, in the same rounds."""
        found = []
        for kind in (SOFT, HARD, INDEX, BACKWARD):
            sets = COLD_SETS if kind == BACKWARD else 1
            for k in self.pick((32, *MAIN_CLASSES, ELEMENTS), (1024,)):
                one = Task(kind, (max(1, ELEMENTS // k), k), sets=sets)
                entries = [
                    Entry(f"{LABELS[who]}, {threads} threads", who, replace(one, threads=threads))
                    for who in ("ours", "copy", "arithmetic")
                    for threads in (1, 2)
                ]
                found.append(Case("scaling", tuple(entries)))
        return found

    def avx2(self) -> list[Case]:
        tasks = [
            Task(kind, self.shape(k))
            for kind in ((SOFT,) if self.quick else (SOFT, HARD, INDEX))
            for k in self.pick((10, *MAIN_CLASSES), MAIN_CLASSES)
        ]
        sampler = {INDEX: "multinomial"}
        return [
            side_by_side("avx2", t, ("ours", sampler.get(t.kind, "eager"), "copy")) for t in tasks
        ]
