# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels' PTX on the interpreter of tests/ptx, a case per kernel and type of elements.

`make ptx` runs all cases, this file one variant (keys, elements per thread) of each kernel.
"""

import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "ptx"))
import device
from interpreter import Module
from runner import Runner

OPS = [
    *(kernel.__name__ for kernel in Runner.KERNELS),
    "gates",
    "fold_in",
    "noise_at",
    "one_hot_backward",
    "gumbel_rao",
    "log_prob",
    "filtered",
    "subset",
    "write_key",
]


@pytest.fixture(scope="module")
def runner():
    if reason := device.missing():
        pytest.skip(reason)
    return Runner()


@pytest.fixture(scope="module")
def jobs(runner):
    return runner.one_per_family()


@pytest.mark.parametrize("op", OPS)
def test_ptx_gives_the_right_values_in_every_order_of_warps(op, jobs):
    failures = []
    for job in jobs:
        if job.name.startswith(f"{op}, "):
            try:
                job.run()
            except AssertionError as error:
                failures.append(f"{job.name}: {error}")
    assert not failures


def test_a_case_was_chosen_for_every_kernel(runner, jobs):
    families = runner.device.families()
    chosen = {families[kernel] for job in jobs for kernel in runner.device.kernels_of(job.run)}
    assert chosen == set(families.values())


@pytest.mark.parametrize("job, right, wrong, message", [
    ("noise, K=33", "xor.b32", "or.b32", "noise: "),
    ("soft_forward, tile torch.float16 104x5", "ex2.approx", "lg2.approx", "soft: "),
    ("soft_forward, registers torch.float32 3001", "bar.sync", "//", "output depends on the order"),
    ("argmax, registers torch.float32 3001", "bar.sync", "//", "row_value depends on the order"),
])  # fmt: skip
def test_a_fault_in_the_ptx_is_found(runner, monkeypatch, job, right, wrong, message):
    faulty = Module(device.kernels_ptx().replace(right, wrong))
    monkeypatch.setattr(runner.device, "_module", faulty)
    (found,) = [one for one in runner.jobs() if one.name == job]
    with pytest.raises(AssertionError, match=message):
        found.run()
