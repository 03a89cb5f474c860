# SPDX-License-Identifier: Apache-2.0
"""Markers and fixtures. Tests marked `slow` and `statistics` run only with `-m`.

Tests marked `cuda` are skipped without a GPU. With REQUIRE_CUDA=1 a skip is a failure.
"""

import os
import sys
from pathlib import Path

import pytest
import torch

import torch_gumbel

sys.path.insert(0, str(Path(__file__).parent / "support"))  # common.py, oracle.py, and others

LEFT_OUT = {
    "slow": "takes long or much memory",
    "statistics": "long statistical test",
}


def pytest_configure(config):
    for name, meaning in LEFT_OUT.items():
        config.addinivalue_line("markers", f"{name}: {meaning}; runs only with -m {name}")
    config.addinivalue_line("markers", "cuda: needs a GPU; with REQUIRE_CUDA=1 it must not skip")


def pytest_collection_modifyitems(config, items):
    if config.getoption("-m"):
        return
    left_out = [item for item in items if any(item.get_closest_marker(m) for m in LEFT_OUT)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def cuda_required():
    return os.environ.get("REQUIRE_CUDA", "") not in ("", "0")


def why_without_gpu():
    """The reason to skip GPU tests, or None. With a GPU that cannot be used they run, and fail."""
    if not torch_gumbel.build_info()["cuda"]:
        return "torch_gumbel was built without CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if torch.cuda.is_available() or (Path("/dev/nvidiactl").exists() and not hidden):
        return None
    return "this machine has no GPU"


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and (reason := why_without_gpu()):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and item.get_closest_marker("cuda") and cuda_required():
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_CUDA is set, but the test was skipped: {call.excinfo.value}"
    return report


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test draws the same inputs, in any order of tests."""
    torch.manual_seed(2016)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter):
    """The number of documentation examples that ran."""
    if "test_docs" in sys.modules:
        terminalreporter.write_line(sys.modules["test_docs"].summary())
