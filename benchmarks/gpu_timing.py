# SPDX-License-Identifier: Apache-2.0
"""Timing on a GPU: calls on buffers in turn, more of them than the L2 cache holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from cases import BACKWARD, INDEX, Call, Task
from implementations import Inputs, call_of

ROUNDS = 5
LEAST_MS = 10.0  # of a round
BEYOND_CACHE = 4  # times the L2 cache, of all buffers together
MOST_BUFFERS = 512


def bytes_moved(task: Task, who: str) -> int:
    """The bytes that a fused op must read and write."""
    size = torch.finfo(getattr(torch, task.dtype)).bits // 8
    passes = 2 if who == "copy" else {INDEX: 1, BACKWARD: 3}.get(task.kind, 2)
    return passes * size * task.elements


def buffers_for(task: Task, cache: int) -> int:
    """The number of buffers whose inputs exceed the cache."""
    size = torch.finfo(getattr(torch, task.dtype)).bits // 8 * task.elements
    return max(2, min(MOST_BUFFERS, -(-BEYOND_CACHE * cache // max(size, 1))))


def inputs_on_gpu(task: Task, sets: int) -> Inputs:
    dtype = getattr(torch, task.dtype)

    def draw() -> torch.Tensor:
        return torch.randn(task.shape, device="cuda").to(dtype)

    logits = [draw() for _ in range(sets)]
    if task.kind == BACKWARD:  # its logits are the samples
        logits = [torch.softmax(x, task.dim) for x in logits]
    wanted = sets if task.training or task.kind == BACKWARD else 0
    return Inputs(logits, [draw() for _ in range(wanted)] or logits)


@dataclass
class Times:
    """Microseconds per call; for the graph None, with a reason, if capture failed."""

    plain: float
    graph: float | None
    reason: str = ""


def calls_of(who: str, task: Task, inputs: Inputs) -> list[Call]:
    return [
        call_of(who, task, Inputs([logits], [grad]))
        for logits, grad in zip(inputs.logits, inputs.grads, strict=True)
    ]


def time_of(who: str, task: Task, inputs: Inputs) -> Times:
    calls = calls_of(who, task, inputs)
    for call in calls:  # compiles, loads kernels, fills the allocator
        call()
    plain = per_call(plain_runner(calls), len(calls))
    try:
        graph = per_call(graph_runner(calls), len(calls))
    except RuntimeError as error:  # an op that synchronizes cannot be captured
        torch.cuda.synchronize()
        return Times(plain, None, str(error).splitlines()[0])
    return Times(plain, graph)


def plain_runner(calls: Sequence[Call]) -> Callable[[], None]:
    """Runs every call once. Results live until the next round, so that no buffer is in a cache."""
    results: list[object] = [None] * len(calls)

    def run() -> None:
        for turn, call in enumerate(calls):
            results[turn] = call()

    return run


def graph_runner(calls: Sequence[Call]) -> Callable[[], None]:
    """Replays every call once, as one graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = [call() for call in calls]

    def run(held: object = results) -> None:
        graph.replay()

    return run


def elapsed_ms(run: Callable[[], None], times: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def per_call(run: Callable[[], None], calls: int) -> float:
    """Median over rounds, in microseconds."""
    times = 1
    while elapsed_ms(run, times) < LEAST_MS:
        times *= 2
    rounds = [elapsed_ms(run, times) for _ in range(ROUNDS)]
    return 1e3 * statistics.median(rounds) / (times * calls)
