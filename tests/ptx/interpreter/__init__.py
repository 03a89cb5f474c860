# SPDX-License-Identifier: Apache-2.0
"""An interpreter of PTX on the CPU, in which a register is a numpy array over all threads.

    module = Module(ptx)
    module.launch(kernel, grid, block, arguments, buffers, order="all", dynamic_shared=0, cluster=1)

`module.kernels` names the kernels. Arguments: one per kernel parameter, each a number, the name of
a buffer (its device address is passed), or for a struct a list of fields (type, number or buffer's
name), laid out as C does. Buffers: {name: contiguous numpy array}, read and written in place.

A PtxError stops a launch: an access out of bounds or misaligned, a shuffle or vote that a lane
named in its member mask does not reach, threads of a block at different barriers, blocks of a
cluster (of `cluster` blocks) at different ones where one is the cluster's, more threads than
.maxntid, and every opcode, modifier, or operand that the interpreter does not know.

Order: "all" runs all warps in lockstep, "forward" and "reverse" each warp to its next barrier
before the next warp. A missing barrier shows as a difference between the three.

What it does not model: ptxas, races finer than a barrier, the error of the GPU's approximate
functions (here they are rounded from float64), that a block of a cluster may end before others have
read its shared memory, generic addresses of other memory than global and shared, local memory, and
atomics but atom.shared.add.u32.
"""

from .errors import PtxError
from .execution import ORDERS
from .memory import addresses
from .module import Module

__all__ = ["ORDERS", "Module", "PtxError", "addresses"]
