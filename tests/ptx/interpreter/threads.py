# SPDX-License-Identifier: Apache-2.0
"""The threads of a launch: where they lie in blocks and warps, and what lanes see of each other."""

import itertools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from .data_types import Array
from .errors import PtxError

WARP = 32
# Some threads of a launch: a range, or their sorted numbers.
Threads: TypeAlias = "slice | Array"
SPECIAL_REGISTERS = ("%laneid", "%warpid", "%cluster_ctarank", "%cluster_nctarank",
                     *(f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid")
                       for axis in "xyz"))  # fmt: skip


class Grid:
    """All threads, numbered warp by warp: warp 0 of every block, then warp 1 of every block.

    So the threads that run together in the orders "forward" and "reverse" are a range.
    """

    def __init__(self, blocks: Sequence[int], threads: Sequence[int], cluster: int = 1):
        self.blocks, self.threads = _three(blocks), _three(threads)
        self.block_count = int(np.prod(self.blocks))
        self.cluster = cluster  # blocks, consecutive in x
        if self.blocks[0] % cluster:
            raise PtxError(f"clusters of {cluster} blocks in a grid of {self.blocks[0]}")
        per_block = int(np.prod(self.threads))
        block, thread = np.divmod(np.arange(self.block_count * per_block), per_block)
        order = np.lexsort((thread, block, thread // WARP))
        self.block, self.thread = block[order], thread[order]
        self.count = len(order)
        self.index = np.arange(self.count)
        self.lane = self.thread % WARP
        warp_of_block = self.thread // WARP
        self.warp = warp_of_block * self.block_count + self.block
        self._warp_count = int(self.warp[-1]) + 1
        starts = np.searchsorted(warp_of_block, np.arange(warp_of_block[-1] + 2))
        self.warp_ranges = [slice(int(a), int(b)) for a, b in itertools.pairwise(starts)]
        self._place = self.warp * WARP + self.lane
        self._lane_bit = np.ldexp(1.0, self.lane)

    def special_register(self, name: str) -> Array:
        """Its value in every thread, as u32."""
        if name == "%laneid":
            return self.lane.astype(np.uint32)
        if name == "%warpid":
            return (self.thread // WARP).astype(np.uint32)
        if name == "%cluster_ctarank":
            return (self.block % self.cluster).astype(np.uint32)
        if name == "%cluster_nctarank":
            return np.full(self.count, self.cluster, np.uint32)
        kind, axis = name.split(".")
        a = "xyz".index(axis)
        extent = self.threads if kind in ("%tid", "%ntid") else self.blocks
        if kind in ("%ntid", "%nctaid"):
            return np.full(self.count, extent[a], np.uint32)
        number = self.thread if kind == "%tid" else self.block
        return (number // int(np.prod(extent[:a])) % extent[a]).astype(np.uint32)

    def describe(self, thread: int) -> str:
        return f"thread {self.thread[thread]} of block {self.block[thread]}"

    def ballot(self, threads: Threads, predicate: Array) -> Array:
        """For each of the threads, the lanes of its warp among them for which it is true."""
        warp = self.warp[threads]
        bits = np.bincount(warp, self._lane_bit[threads] * predicate, self._warp_count)
        return bits.astype(np.uint32)[warp]

    def require_members(self, threads: Threads, members: Array) -> None:
        """Raises unless every lane that a thread's member mask names is among the threads."""
        if (members & ~self.ballot(threads, np.ones(1, bool))).any():
            raise PtxError("a lane named in the member mask is not here")

    def position_of_lane(self, threads: Threads, lane: Array) -> Array:
        """Where in `threads` each one's warp has that lane."""
        place = self._place[threads]
        positions = np.full(self._warp_count * WARP, -1)
        positions[place] = np.arange(len(place))
        found = positions[place - self.lane[threads] + (lane & (WARP - 1))]
        if (found < 0).any():
            raise PtxError("it reads a lane that is not here")
        return found


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*sizes, 1, 1)[:3]
    return int(x), int(y), int(z)
