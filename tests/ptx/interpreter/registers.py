# SPDX-License-Identifier: Apache-2.0
"""The registers of a launch: for each name an array over all threads."""

import numpy as np

from .data_types import Array, size_of
from .program import Program
from .threads import SPECIAL_REGISTERS, Grid


class Registers:
    """`views`: the program's views of registers, by number. Registers are zeros at first."""

    def __init__(self, program: Program, grid: Grid):
        self._program, self._grid = program, grid
        self._arrays: dict[str, Array] = {}
        names: dict[int, list[str]] = {}
        for name, type_ in program.kernel.registers.items():
            names.setdefault(size_of(type_), []).append(name)
        for size, group in names.items():
            rows = np.zeros((len(group), grid.count), f"u{size}")
            self._arrays.update(zip(group, rows, strict=True))
        self.views: list[Array] = []
        self.add_views()

    def add_views(self) -> None:
        """Those that the program has got since, as it decodes what it reaches."""
        for name, type_ in self._program.views[len(self.views) :]:
            if name not in self._arrays and name in SPECIAL_REGISTERS:
                self._arrays[name] = self._grid.special_register(name)
            array = self._arrays[name]
            low_bytes = array.itemsize // type_.itemsize
            self.views.append(array.view(type_)[::low_bytes])
