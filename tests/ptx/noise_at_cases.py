# SPDX-License-Identifier: Apache-2.0
"""The noise of single positions on the PTX interpreter."""

import ctypes
from functools import partial

import torch
from device import memory
from inputs import SMALL_WORD_KEY, SMALL_WORDS, keys
from interpreter import ORDERS
from reference import OPS, same_bits

CLASSES = 10**8


def check(device, index, key, dtype):
    """`key`: a (seed, offset), or a tensor [*batch, 2]."""
    on_device = torch.is_tensor(key)
    given = key if on_device else torch.tensor(key, dtype=torch.uint64)
    wanted = OPS._gumbel_at(index, CLASSES, given, dtype)
    keys_count = given.numel() // 2
    for order in ORDERS:
        out = torch.zeros(index.shape, dtype=dtype)
        buffers = {"index": memory(index), "out": memory(out)}
        if on_device:
            buffers["keys"] = memory(key)
        words = [index.data_ptr(), key.data_ptr() if on_device else 0, out.data_ptr(),
                 *((0, 0) if on_device else key), index.numel(), index.numel() // keys_count,
                 index.shape[-1], CLASSES]  # fmt: skip
        device._call(buffers, order, device._library.run_noise_at, (ctypes.c_uint64 * 9)(*words),
                     ctypes.c_bool(dtype == torch.float64))  # fmt: skip
        same_bits(out, wanted, "noise_at")


def cases(device):
    """(name, run, size)"""
    index = torch.arange(600).reshape(3, 2, 100) * 7919 - 1  # the first is no class
    index[0, 0, 1:4] = torch.tensor(SMALL_WORDS)
    for dtype in [torch.float32, torch.float64]:
        for name, key in {"host": SMALL_WORD_KEY, "device": keys(3)}.items():
            run = partial(check, device, index, key, dtype)
            yield f"noise_at, {name} key {dtype}", run, index.numel()
