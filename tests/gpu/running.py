# SPDX-License-Identifier: Apache-2.0
"""Runs commands in order, each in a process group of its own and under its own time limit.

What a command says goes straight to a file; after every step the summary is written anew, so that
whatever ends the run leaves the results so far.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

MOST_OF_A_LOG = 2**20  # bytes; of a longer one, begin and end are kept
MOST_OF_THE_ARCHIVE = 15 * 2**20
PATIENCE = 3.0  # seconds between the request to end and the end by force


@dataclass
class Step:
    """A command with a time limit in seconds. `telling` finds what the summary says of its log."""

    name: str
    limit: float
    command: Sequence[object]
    environment: Mapping[str, str] = field(default_factory=dict)
    telling: str = ""
    most_told: int = 1


@dataclass
class Result:
    name: str
    status: str  # "passed", "FAILED (exit code)", "time limit", or why it was left out
    seconds: float
    told: list[str]

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def end_group(process: subprocess.Popen[bytes], patience: float = PATIENCE) -> None:
    """Ends a process and all that it started, which have its process group. It waits no longer for
    one that nothing ends."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def shortened(log: Path) -> None:
    """Keeps begin and end of a long log."""
    size = log.stat().st_size
    if size <= MOST_OF_A_LOG:
        return
    half = MOST_OF_A_LOG // 2
    with log.open("r+b") as file:
        begin = file.read(half)
        file.seek(size - half)
        end = file.read()
        file.seek(0)
        file.write(begin + b"\n[...]\n" + end)
        file.truncate()


class Runner:
    """Runs steps and keeps their results in the folder `out`; `budget`: seconds for all of them."""

    def __init__(self, out: Path, budget: float, limits: Mapping[str, float] | None = None) -> None:
        self.out, self.limits = out, dict(limits or {})
        self.start = time.monotonic()
        self.deadline = self.start + budget
        self.results: list[Result] = []
        self.current: subprocess.Popen[bytes] | None = None
        self.starting, self.signalled = False, 0
        out.mkdir(parents=True, exist_ok=True)

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self, step: Step) -> Result:
        """Runs a step; whatever comes of it is a result."""
        limit = min(self.limits.get(step.name, step.limit), self.seconds_left())
        if limit <= 1:
            return self.note(Result(step.name, "left out: no time", 0, []))
        print(f"== {step.name} (at most {limit:.0f} s)", flush=True)
        log, begin = self.out / f"{step.name}.log", time.monotonic()
        try:
            status = self.wait_for(step, log, limit)
        except OSError as error:
            self.starting = False
            log.write_text(f"{error}\n")
            status = f"FAILED ({error.strerror})"
        shortened(log)
        told = tell(log.read_text(errors="replace"), step.telling, step.most_told)
        return self.note(Result(step.name, status, time.monotonic() - begin, told))

    def wait_for(self, step: Step, log: Path, limit: float) -> str:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **step.environment}
        command = [str(word) for word in step.command]
        with log.open("wb") as file:
            self.starting = True
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
            self.current, self.starting = process, False
            if self.signalled:
                self.interrupted(self.signalled, None)
            try:
                code = process.wait(limit)
                return "passed" if code == 0 else f"FAILED ({code})"
            except subprocess.TimeoutExpired:
                return "time limit"
            finally:
                end_group(process)
                self.current = None

    def leave_out(self, name: str, reason: str) -> Result:
        return self.note(Result(name, f"left out: {reason}", 0, []))

    def note(self, result: Result) -> Result:
        self.results.append(result)
        for line in (f"{result.name}: {result.status}, {result.seconds:.1f} s", *result.told):
            print(line, flush=True)
        self.write()
        return result

    def summary(self) -> str:
        """One screen: a line or a few for each step."""
        lines = [f"{time.monotonic() - self.start:.0f} s in all; results in {self.out}"]
        for result in self.results:
            first, *more = result.told or [""]
            lines.append(f"{result.name:12} {result.status:18} {result.seconds:6.1f} s  {first}")
            lines += [f"{'':41} {line}" for line in more]
        return "\n".join(line[:150].rstrip() for line in lines) + "\n"

    def write(self) -> None:
        replace(self.out / "summary.txt", self.summary())
        found = json.dumps([asdict(result) for result in self.results], indent=1)
        replace(self.out / "steps.json", found + "\n")

    def interrupted(self, number: int, _: object) -> None:
        """For signals: ends the running step, and leaves the results so far."""
        if self.starting:  # a process that is not known yet
            self.signalled = number
            return
        if self.current is not None:
            end_group(self.current, patience=0.5)
        self.leave_out("the rest", f"signal {number}")
        pack(self.out)
        os._exit(128 + number)


def replace(path: Path, text: str) -> None:
    """Writes a file at once, so that no reader and no kill finds half of it."""
    beside = path.with_suffix(path.suffix + ".part")
    beside.write_text(text)
    beside.replace(path)


def tell(log: str, pattern: str, most: int) -> list[str]:
    """The last lines of a log that fit a pattern."""
    if not pattern:
        return []
    found = [line.strip() for line in log.splitlines() if re.search(pattern, line)]
    return found[-most:]


def pack(out: Path, most: int = MOST_OF_THE_ARCHIVE) -> Path:
    """All results in one archive of at most `most` bytes; what is too large stays out."""
    archive = out / "results.tar.gz"
    wanted = [p for p in out.rglob("*") if p.is_file() and not p.name.startswith("results.tar")]
    wanted.sort(key=lambda path: path.stat().st_size)
    while True:
        beside = out / "results.tar.part"
        with tarfile.open(beside, "w:gz") as file:
            for path in wanted:
                file.add(path, Path("results") / path.relative_to(out))
        if beside.stat().st_size <= most or not wanted:
            beside.replace(archive)
            return archive
        wanted.pop()
