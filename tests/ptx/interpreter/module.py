# SPDX-License-Identifier: Apache-2.0
"""A PTX module, from whose text kernels are parsed when they are first launched."""

from collections.abc import Mapping, Sequence

from .data_types import Array
from .errors import PtxError
from .execution import ORDERS, Launch
from .memory import Argument, Memory, addresses, pack
from .parser import parse_kernel, split_module
from .program import Program
from .threads import Grid


class Module:
    """Kernels of a PTX text."""

    def __init__(self, text: str):
        self._text = split_module(text)
        self._programs: dict[str, Program] = {}

    @property
    def kernels(self) -> list[str]:
        return list(self._text.entries)

    def program(self, kernel: str) -> Program:
        """The kernel, decoded. Raises for an unknown opcode, even if it never runs."""
        if kernel not in self._programs:
            if kernel not in self._text.entries:
                raise PtxError(f"no kernel {kernel}")
            self._programs[kernel] = Program(parse_kernel(self._text, kernel))
        return self._programs[kernel]

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Argument],
        buffers: Mapping[str, Array],
        *,
        order: str = "all",
        dynamic_shared: int = 0,
        cluster: int = 1,
    ) -> None:
        """Runs a kernel to its end; see the package for arguments, buffers, order, and errors."""
        if order not in ORDERS:
            raise ValueError(f"launch: order must be one of {', '.join(ORDERS)}, got {order!r}")
        program = self.program(kernel)
        threads = Grid(grid, block, cluster)
        per_block = threads.count // threads.block_count
        if per_block > program.kernel.most_threads:
            raise PtxError(f"{kernel}: {per_block} threads in a block, at most "
                           f"{program.kernel.most_threads}")  # fmt: skip
        parameters = pack(program.kernel, arguments, addresses(buffers))
        memory = Memory(threads, parameters, program.kernel.shared_bytes + dynamic_shared, buffers)
        Launch(program, threads, memory, order).run()
