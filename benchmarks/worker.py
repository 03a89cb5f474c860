# SPDX-License-Identifier: Apache-2.0
"""One process of the benchmark: runs the jobs of a setting and writes a line of JSON for each.

Every setting has its own process, because thread counts and instruction sets are read once.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import random
import re
import statistics
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import noise
import torch
from cases import FULL_GAIN, Call, Case, Entry, Grid, Setting
from checks import Wrong, check
from implementations import Inputs, call_of

import torch_gumbel

Record = dict[str, object]
Job = Callable[[], Record]
Round = list[tuple[float, float]]  # seconds of each entry, by the clock and of processors
PAUSE = 0.01  # seconds, in which spinning OpenMP threads fall asleep
ATTEMPTS = 8  # at a case of several threads, until each has a core


@dataclass(frozen=True)
class Effort:
    """The length of a run: `rounds` timings of each entry, each of at least `seconds`."""

    rounds: int
    seconds: float
    draws: int  # for the noise caps

    @staticmethod
    def of(quick: bool) -> Effort:
        return Effort(3, 0.002, 2**24) if quick else Effort(7, 0.02, 2**27)


def jobs(setting: Setting, quick: bool) -> list[Job]:
    effort = Effort.of(quick)
    if setting.name == "noise":
        return [functools.partial(noise.measure, who, effort.draws) for who in noise.LIBRARIES]
    cases = Grid(quick).cases(setting)
    return [functools.partial(run_case, setting.name, case, effort) for case in cases]


def reason(error: Exception) -> str:
    """The first sentences of an error, without paths."""
    text = str(error).strip().splitlines()
    first = re.sub(r"\S*/\S+/\S*", "...", text[0] if text else "")
    return textwrap.shorten(first, 240, placeholder=" ...") or type(error).__name__


@dataclass
class Runner:
    """The call of an entry, and the number of repetitions in a timing."""

    entry: Entry
    call: Call
    repeat: int = 1
    note: str = ""

    def time(self) -> tuple[float, float]:
        """Seconds per call, by the clock and of processors."""
        if torch.get_num_threads() > 1:
            time.sleep(PAUSE)
        torch.set_num_threads(self.entry.task.threads)
        used, start = time.process_time(), time.perf_counter()
        for _ in range(self.repeat):
            self.call()
        elapsed = time.perf_counter() - start
        return elapsed / self.repeat, (time.process_time() - used) / self.repeat

    def warm_up(self, seconds: float) -> None:
        for _ in range(2 + self.entry.task.sets):
            once, _ = self.time()
        self.repeat = max(1, min(5000, round(seconds / once)))


def prepare(entry: Entry, inputs: Inputs) -> Runner:
    """Makes the call and checks its result; raises if a result of torch_gumbel is wrong."""
    torch.set_num_threads(entry.task.threads)
    runner = Runner(entry, call_of(entry.who, entry.task, inputs))
    try:
        check(entry, inputs, runner.call)
    except Wrong as error:
        if entry.who == "ours":
            raise
        runner.note = str(error)
    return runner


def run_case(setting: str, case: Case, effort: Effort) -> Record:
    inputs: dict[object, Inputs] = {}
    runners: list[Runner] = []
    absent: dict[str, str] = {}
    for entry in case.entries:
        task = entry.task
        shared = (task.shape, task.dtype)
        try:
            if shared not in inputs:
                inputs[shared] = Inputs.of(task)
            runner = prepare(entry, inputs[shared])
            runner.warm_up(effort.seconds)
            runners.append(runner)
        except Exception as error:
            if entry.who == "ours":
                raise
            absent[entry.label] = reason(error)
    for _ in range(ATTEMPTS):
        rounds = [one_round(runners, number) for number in range(effort.rounds)]
        if had_its_cores(runners, rounds):
            break
    clear()
    timed = [
        {
            "label": runner.entry.label,
            "who": runner.entry.who,
            **asdict(runner.entry.task),
            "seconds": [float(f"{r[i][0]:.4g}") for r in rounds],
            "cores": round(sum(r[i][1] for r in rounds) / sum(r[i][0] for r in rounds), 2),
            **({"note": runner.note} if runner.note else {}),
        }
        for i, runner in enumerate(runners)
    ]
    return {"setting": setting, "section": case.section, "entries": timed, "absent": absent}


def had_its_cores(runners: list[Runner], rounds: list[Round]) -> bool:
    """Whether arithmetic, if it is in the case, gained from a second thread. If not, the second
    core was busy with other processes, or both threads shared one core."""
    control = [i for i, runner in enumerate(runners) if runner.entry.who == "arithmetic"]
    gains = [r[control[0]][0] / r[control[1]][0] for r in rounds if control]
    return not gains or statistics.median(gains) >= FULL_GAIN


def one_round(runners: list[Runner], number: int) -> Round:
    """Times each entry once, in an order that changes with the round."""
    order = list(range(len(runners)))
    random.Random(number).shuffle(order)
    times = {i: runners[i].time() for i in order}
    return [times[i] for i in range(len(runners))]


def clear() -> None:
    """Clears compiled code, so that cases do not affect each other."""
    torch._dynamo.reset()
    gc.collect()


def main() -> None:
    """worker.py SETTING(JSON) QUICK(0 or 1) FIRST_JOB"""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries goes to stderr
    warnings.simplefilter("ignore")
    setting = Setting(**json.loads(sys.argv[1]))
    torch.set_num_threads(setting.threads)
    forced = setting.environment.get("TORCH_GUMBEL_CPU")
    if forced and torch_gumbel.build_info()["cpu_selected"] != forced:
        raise RuntimeError(f"{forced} was requested, but is not used")
    for job in jobs(setting, sys.argv[2] == "1")[int(sys.argv[3]) :]:
        channel.write(json.dumps(job()) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
