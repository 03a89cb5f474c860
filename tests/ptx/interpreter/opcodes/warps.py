# SPDX-License-Identifier: Apache-2.0
"""What threads of a warp do together: shfl, vote, activemask, bar.warp.sync; and
barrier.cluster.arrive."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..data_types import Array
from ..errors import PtxError
from ..operation import Operation, opcode
from ..parser import Instruction

if TYPE_CHECKING:
    from ..execution import Launch
    from ..threads import Threads

# The lane that is read, from the own lane, operand b, and the first lane of the segment.
_SHUFFLES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "up": lambda lane, b, first: lane - b,
    "down": lambda lane, b, first: lane + b,
    "bfly": lambda lane, b, first: lane ^ b,
    "idx": lambda lane, b, first: first | b,
}


@opcode("shfl")
def _shuffle(i: Instruction) -> Operation:
    """shfl.sync.mode.b32 d{|p}, a, b, c, members: p is false for a lane outside the segment."""
    i.allow("sync", *_SHUFFLES)
    if i.modifiers[0] != "sync" or i.type != "b32":
        raise PtxError("shfl is known as shfl.sync.mode.b32 only")
    mode = i.chosen(_SHUFFLES)
    destinations = tuple(zip(i.operands[0].split("|"), ("b32", "pred"), strict=False))

    def shuffle(
        launch: "Launch", threads: "Threads", a: Array, b: Array, c: Array, members: Array
    ) -> Array | tuple[Array, Array]:
        grid = launch.grid
        grid.require_members(threads, members)
        lane = grid.lane[threads]
        b, clamp, segment = b.astype(np.int64) & 31, c & 31, (c.astype(np.int64) >> 8) & 31
        first = lane & segment
        last = first | (clamp.astype(np.int64) & ~segment)
        source = _SHUFFLES[mode](lane, b & ~segment if mode == "idx" else b, first)
        inside = source >= last if mode == "up" else source <= last
        read = grid.position_of_lane(threads, np.where(inside, source, lane))
        value = np.broadcast_to(a, lane.shape)[read]
        return value if len(destinations) == 1 else (value, inside)

    sources = tuple((operand, "b32") for operand in i.operands[1:])
    return Operation(destinations, sources, shuffle, needs_launch=True)


@opcode("vote")
def _vote(i: Instruction) -> Operation:
    """vote.sync.all.pred, .any.pred, .ballot.b32 d, p, members."""
    modes = {("all", "pred"), ("any", "pred"), ("ballot", "b32")}
    if i.modifiers[0] != "sync" or i.modifiers[1:] not in modes:
        raise PtxError("unknown vote")
    mode = i.modifiers[1]

    def vote(launch: "Launch", threads: "Threads", predicate: Array, members: Array) -> Array:
        launch.grid.require_members(threads, members)
        ballot = launch.grid.ballot(threads, predicate) & members
        if mode == "ballot":
            return ballot
        return ballot == members if mode == "all" else ballot != 0

    destination, predicate, members = i.operands
    sources = ((predicate, "pred"), (members, "b32"))
    return Operation(((destination, i.type),), sources, vote, needs_launch=True)


@opcode("activemask")
def _active_mask(i: Instruction) -> Operation:
    i.allow()

    def active(launch: "Launch", threads: "Threads") -> Array:
        return launch.grid.ballot(threads, np.ones(1, bool))

    return Operation(((i.operands[0], "b32"),), (), active, needs_launch=True)


@opcode("bar")
def _warp_barrier(i: Instruction) -> Operation:
    """bar.warp.sync members; bar.sync is control flow, see program.py."""
    if i.modifiers != ("warp", "sync"):
        raise PtxError("unknown barrier")

    def wait(launch: "Launch", threads: "Threads", members: Array) -> tuple[()]:
        launch.grid.require_members(threads, members)
        return ()

    return Operation((), ((i.operands[0], "b32"),), wait, needs_launch=True)


@opcode("barrier")
def _cluster_arrival(i: Instruction) -> Operation:
    """barrier.cluster.arrive: nothing; the wait is control flow, see program.py."""
    if i.modifiers[:2] != ("cluster", "arrive"):
        raise PtxError("unknown barrier")
    return Operation((), (), lambda: ())


@opcode("membar", "fence")
def _fence(i: Instruction) -> Operation:
    """Nothing: every store is seen at once."""
    return Operation((), (), lambda: ())
