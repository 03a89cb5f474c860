# SPDX-License-Identifier: Apache-2.0
"""Runs a program: which threads run next, guards, branches, barriers."""

from collections.abc import Iterable

import numpy as np

from .data_types import Array, dtype_of
from .errors import PtxError
from .memory import Memory
from .program import BARRIER, BRANCH, Program, Step
from .threads import SPECIAL_REGISTERS, Grid, Threads

ORDERS = ("all", "forward", "reverse")
MOST_STEPS = 10**7

# Threads by the position of their next instruction.
Groups = dict[int, Threads]


class Launch:
    """One launch. Threads that are at the same instruction run together; the lowest goes next."""

    def __init__(self, program: Program, grid: Grid, memory: Memory, order: str):
        self.grid, self.memory = grid, memory
        self._program = program
        self._views = _allocate(program, grid)
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
            until = min(groups, default=len(self._program.steps))
            step = self._program.steps[at]
            while not step.control and at < until:
                self._execute(step, threads)
                at += 1
                step = self._program.steps[at]
            if at >= until:
                self._join(groups, at, threads)
            else:
                self._control(step, at, threads, groups, waiting)
        return waiting

    def _control(
        self, step: Step, at: int, threads: Threads, groups: Groups, waiting: Groups
    ) -> None:
        """A branch, a return, or a barrier, taken by the threads whose guard holds."""
        self._count_step()
        if step.guard >= 0:
            taken = self._guarded(step, threads)
            self._join(groups, at + 1, self.grid.index[threads][~taken])
            threads = self.grid.index[threads][taken]
        if step.control == BRANCH:
            self._join(groups, step.target, threads)
        elif step.control == BARRIER:
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

    def _count_step(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise PtxError(f"{self._program.kernel.name}: more than {MOST_STEPS} steps")

    def _guarded(self, step: Step, threads: Threads) -> Array:
        predicate = self._views[step.guard][threads]
        return ~predicate if step.instruction.negated else predicate

    def _execute(self, step: Step, threads: Threads) -> None:
        self._count_step()
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
        values = [
            views[source.view][threads] if source.constant is None else source.constant
            for source in step.sources
        ]
        for k, source in enumerate(step.sources):
            if source.inverted:
                values[k] = ~values[k]
        context = (self, threads) if step.needs_launch else ()
        results = step.evaluate(*context, *values)
        if len(step.destinations) == 1:
            results = (results,)
        for destination, result in zip(step.destinations, results, strict=True):
            if result.dtype != destination.type:
                raise PtxError(f"a result of {result.dtype}, not {destination.type}")
            if destination.view >= 0:
                views[destination.view][threads] = result


def _allocate(program: Program, grid: Grid) -> list[Array]:
    """Every register as zeros, and the program's views of them."""
    kernel = program.kernel
    names: dict[int, list[str]] = {}
    for name, type_ in kernel.registers.items():
        names.setdefault(dtype_of(type_).itemsize, []).append(name)
    registers: dict[str, Array] = {}
    for size, group in names.items():
        rows = np.zeros((len(group), grid.count), f"u{size}")
        registers.update(zip(group, rows, strict=True))
    views = []
    for view in program.views:
        if view.register in SPECIAL_REGISTERS and view.register not in registers:
            registers[view.register] = grid.special_register(view.register)
        register = registers[view.register]
        low_bytes = register.itemsize // view.type.itemsize
        views.append(register.view(view.type)[::low_bytes])
    return views
