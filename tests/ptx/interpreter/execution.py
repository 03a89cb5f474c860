# SPDX-License-Identifier: Apache-2.0
"""Runs a program: which threads run next, guards, branches, barriers."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from .data_types import Array
from .errors import PtxError
from .memory import Memory
from .program import BARRIER, BRANCH, CLUSTER_BARRIER, Program, Step
from .registers import Registers
from .threads import Grid, Threads

ORDERS = ("all", "forward", "reverse")
MOST_STEPS = 10**7

# Threads by the position of their next instruction.
Groups = dict[int, Threads]


class Launch:
    """One launch. Threads that are at the same instruction run together; the lowest goes next."""

    def __init__(self, program: Program, grid: Grid, memory: Memory, order: str):
        self.grid, self.memory = grid, memory
        self._program = program
        self._registers = Registers(program, grid)
        self._views = self._registers.views
        self._sets = {
            "all": [slice(0, grid.count)],
            "forward": grid.warp_ranges,
            "reverse": grid.warp_ranges[::-1],
        }[order]
        self._steps_left = MOST_STEPS

    def run(self) -> None:
        """Every set of warps to its next barrier, one set after the other, until all are done."""
        ready: list[Groups] = [{0: threads} for threads in self._sets]
        with np.errstate(all="ignore"):
            while any(ready):
                ready = [self._run_to_barrier(groups) for groups in ready]
                self._check_barrier(group for groups in ready for group in groups.items())

    def _run_to_barrier(self, groups: Groups) -> Groups:
        """Runs all threads; gives those that wait, by where they go on."""
        waiting: Groups = {}
        while groups:
            at = min(groups)
            threads = groups.pop(at)
            until = min(groups, default=-1)
            step = self._step(at)
            while not step.control:
                self._execute(step, threads)
                at += 1
                if at == until:
                    self._join(groups, at, threads)
                    break
                step = self._step(at)
            else:
                self._control(step, at, threads, groups, waiting)
        return waiting

    def _step(self, at: int) -> Step:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise PtxError(f"{self._program.kernel.name}: more than {MOST_STEPS} steps")
        step = self._program.step(at)
        if len(self._views) < len(self._program.views):
            self._registers.add_views()
        return step

    def _control(
        self, step: Step, at: int, threads: Threads, groups: Groups, waiting: Groups
    ) -> None:
        """A branch, a return, or a barrier, taken by the threads whose guard holds."""
        if step.guard >= 0:
            taken = self._guarded(step, threads)
            self._join(groups, at + 1, self.grid.index[threads][~taken])
            threads = self.grid.index[threads][taken]
        if step.control == BRANCH:
            self._join(groups, step.target, threads)
        elif step.control in (BARRIER, CLUSTER_BARRIER):
            self._join(waiting, at + 1, threads)

    def _join(self, groups: Groups, at: int, threads: Threads) -> None:
        """Adds threads to those at an instruction; sorted, and as a range where they are one."""
        numbers = self.grid.index[threads]
        if at in groups:
            numbers = np.sort(np.concatenate([self.grid.index[groups[at]], numbers]))
        if not len(numbers):
            return
        first, last = int(numbers[0]), int(numbers[-1])
        groups[at] = slice(first, last + 1) if last - first + 1 == len(numbers) else numbers

    def _check_barrier(self, waiting: Iterable[tuple[int, Threads]]) -> None:
        """Threads that have returned count as arrived."""
        barrier_of_block = np.full(self.grid.block_count, -1)
        for at, threads in waiting:
            blocks = np.unique(self.grid.block[threads])
            other = barrier_of_block[blocks]
            if ((other >= 0) & (other != at)).any():
                raise PtxError(f"{self._program.kernel.name}: threads of a block wait at "
                               "different barriers")  # fmt: skip
            barrier_of_block[blocks] = at
        if self.grid.cluster > 1:
            self._check_clusters(barrier_of_block.reshape(-1, self.grid.cluster))

    def _check_clusters(self, barriers: Array) -> None:
        for of_blocks in barriers:
            found = set(map(int, of_blocks))
            if len(found) > 1 and any(map(self._of_cluster, found)):
                name = self._program.kernel.name
                raise PtxError(f"{name}: a block of a cluster does not come to its barrier")

    def _of_cluster(self, at: int) -> bool:
        """Whether the instruction before is a wait for the cluster."""
        return at > 0 and self._program.step(at - 1).control == CLUSTER_BARRIER

    def _guarded(self, step: Step, threads: Threads) -> Array:
        predicate = self._views[step.guard][threads]
        return ~predicate if step.instruction.negated else predicate

    def _execute(self, step: Step, threads: Threads) -> None:
        if step.guard >= 0:
            active = self._guarded(step, threads)
            if not active.any():
                return
            if not active.all():
                threads = self.grid.index[threads][active]
        try:
            self._evaluate(step, threads)
        except (PtxError, ValueError, IndexError) as error:
            raise PtxError(f"{self._program.kernel.name}: {step.instruction}: {error}") from error

    def _evaluate(self, step: Step, threads: Threads) -> None:
        views = self._views
        values: list[Any] = [views[view][threads] if view >= 0 else constant
                  for view, constant in step.sources]  # fmt: skip
        for k in step.inverted:
            values[k] = ~values[k]
        if step.needs_launch:
            results = step.evaluate(self, threads, *values)
        else:
            results = step.evaluate(*values)
        if len(step.destinations) == 1:
            results = (results,)
        for (view, type_), result in zip(step.destinations, results, strict=True):
            if result.dtype != type_:
                raise PtxError(f"a result of {result.dtype}, not {type_}")
            if view >= 0:
                views[view][threads] = result
