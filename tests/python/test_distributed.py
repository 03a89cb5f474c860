# SPDX-License-Identifier: Apache-2.0
"""Two processes: every check of the modules below, run by both ranks at once."""

import json
import os
import subprocess
import sys

import dtensor_checks
import pytest
import two_ranks
import vocabulary_checks

MODULES = [dtensor_checks, vocabulary_checks]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What failed, by module, rank, and check."""
    everything = {}
    for module in MODULES:
        results = tmp_path_factory.mktemp(module.__name__) / "told"
        folder = os.path.dirname(os.path.abspath(__file__))
        command = [sys.executable, two_ranks.__file__, module.__name__, str(results)]
        path = os.pathsep.join([folder, *[p for p in sys.path if p]])
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        for rank in range(two_ranks.RANKS):
            text = results.with_suffix(f".{rank}").read_text()
            everything[module.__name__, rank] = json.loads(text)
    return everything


@pytest.mark.parametrize("rank", range(two_ranks.RANKS))
@pytest.mark.parametrize(
    ("module", "check"),
    [(module.__name__, name) for module in MODULES for name in two_ranks.checks_of(module)],
)
def test_two_processes(told, module, check, rank):
    failure = told[module, rank][check]
    assert failure is None, failure
