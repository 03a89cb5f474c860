# SPDX-License-Identifier: Apache-2.0
"""Markers and fixtures. `-m slow` and `-m statistics` run what a plain run leaves out."""

import sys

import pytest
import torch

LEFT_OUT = {
    "slow": "takes long or much memory",
    "statistics": "long statistical test",
}


def pytest_configure(config):
    for name, meaning in LEFT_OUT.items():
        config.addinivalue_line("markers", f"{name}: {meaning}; runs only with -m {name}")


def pytest_collection_modifyitems(config, items):
    if config.getoption("-m"):
        return
    left_out = [item for item in items if any(item.get_closest_marker(m) for m in LEFT_OUT)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test draws its inputs from the same place, in any order and alone."""
    torch.manual_seed(2016)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter):
    """How many examples of the documentation ran, where they did."""
    if "test_docs" in sys.modules:
        terminalreporter.write_line(sys.modules["test_docs"].summary())
