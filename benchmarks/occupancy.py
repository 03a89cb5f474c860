# SPDX-License-Identifier: Apache-2.0
"""Blocks and warps that a multiprocessor of compute capability 9.0 holds of a kernel."""

import re

# Threads of a block, by the first pattern that a symbol matches; else 256.
THREADS = (
    ("BlockThreadGroup", 256),
    ("WarpThreadGroup", 128),
    ("sum_multi_block", 32),
    ("hard_backward_looped.*Lb1", 256),
    ("hard_backward_looped", 320),
    ("hard_soft_looped", 384),
    ("soft_looped.*Lb1", 320),
    ("hard_looped|argmax", 256),
    ("hard_backward_spatial.*Float16|hard_soft_spatial.*Float16.*Lb1", 192),
    ("_looped_", 512),
)


def threads_of(symbol):
    return next((threads for part, threads in THREADS if re.search(part, symbol)), 256)


def blocks_of(kernel):
    """Blocks that a multiprocessor of compute capability 9.0 holds."""
    warps = threads_of(kernel.symbol) // 32
    registers = warps * -(-kernel.registers * 32 // 256) * 256
    return min(65536 // registers, 64 // warps, 32, 228 * 1024 // max(kernel.shared, 1))


def occupancy(kernel):
    """Warps that it holds, of 64."""
    return blocks_of(kernel) * threads_of(kernel.symbol) // 32
