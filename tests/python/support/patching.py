# SPDX-License-Identifier: Apache-2.0
"""Shared helpers of the tests of patch(): which function ran, and a check of undo()."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from torch_gumbel import _patch

ORIGINAL = F.gumbel_softmax
FUSED = [f"torch_gumbel._gumbel_softmax{kind}" for kind in ("", "_hard", "_hard_soft")]
SAMPLES = {"aten.exponential_": "torch", **dict.fromkeys(FUSED, "fused")}


class Ops(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(str(func).removesuffix(".default"))
        return func(*args, **(kwargs or {}))


def way(call, *args, **options):
    """Which sampler a call ran; it must be exactly one."""
    with Ops() as ops:
        call(*args, **options)
    ran = {SAMPLES.get(op) for op in ops.seen} - {None}
    (one,) = ran
    return one


def is_on():
    return way(F.gumbel_softmax, torch.randn(3, 4)) == "fused"


@pytest.fixture(autouse=True)
def every_test_leaves_the_original():
    yield
    clean = F.gumbel_softmax is ORIGINAL and not _patch._replaced and not _patch._devices
    F.gumbel_softmax = ORIGINAL
    assert clean
