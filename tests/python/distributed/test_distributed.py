# SPDX-License-Identifier: Apache-2.0
"""Two processes: every check of the modules below, run by both ranks at once."""

import json
import os
import subprocess
import sys

import dtensor_checks
import dtensor_ops_checks
import log_prob_checks
import module_checks
import process_group_checks
import pytest
import two_ranks
import vocab_parallel_checks

MODULES = [
    dtensor_checks,
    dtensor_ops_checks,
    vocab_parallel_checks,
    process_group_checks,
    log_prob_checks,
    module_checks,
]
CHECKS = [f"{m.__name__}.{name}" for m in MODULES for name in two_ranks.checks_of(m)]


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """The failures of each rank, by check."""
    results = tmp_path_factory.mktemp("two_ranks") / "failures"
    folder = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run(
        [sys.executable, two_ranks.__file__, str(results), *[m.__name__ for m in MODULES]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, *[p for p in sys.path if p]])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    files = [results.with_suffix(f".{rank}") for rank in range(two_ranks.RANKS)]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.parametrize("check", CHECKS)
def test_two_processes(failures, check):
    for rank, results in enumerate(failures):
        assert results[check] is None, f"rank {rank}: {results[check]}"
