# SPDX-License-Identifier: Apache-2.0
"""How much two cores do together: the control of the two-thread figures.

Two processes share nothing, so no program scales better over two threads than they do. Where the
cores of a (virtual) machine are two halves of one, arithmetic that fills it gains nothing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import torch

import torch_gumbel

SHAPE = (64, 1024)  # lies in the second-level cache
SECONDS = 0.5
ROUNDS = 3


def work() -> None:
    """The child: for every line that it reads, calls per second, on a core of its own."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(sys.argv[1]) % len(cores)]})
    torch.set_num_threads(1)
    logits = torch.randn(SHAPE)
    print("ready", flush=True)
    for _ in sys.stdin:
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            for _ in range(10):
                torch_gumbel.gumbel_softmax(logits, 0.7)
            calls += 10
        print(calls / (time.perf_counter() - start), flush=True)


def calls_per_second(children: list[subprocess.Popen[str]]) -> float:
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return sum(float(child.stdout.readline()) for child in children if child.stdout)


def measure() -> dict[str, object]:
    children = [
        subprocess.Popen(
            [sys.executable, __file__, core],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for core in ("0", "1")
    ]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        gains = [calls_per_second(children) / calls_per_second(children[:1]) for _ in range(ROUNDS)]
    finally:
        for child in children:
            child.kill()
            child.wait()
    return {"two_processes": round(statistics.median(gains), 2)}


if __name__ == "__main__":
    work()
