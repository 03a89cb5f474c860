# SPDX-License-Identifier: Apache-2.0
"""Without a GPU, GPU tests are skipped; with REQUIRE_CUDA=1 that is a failure."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch

FILE = pathlib.Path(__file__).with_name("test_cuda.py")
TEST = f"{FILE}::test_keys_are_the_same_on_every_device"

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def run(**environment):
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", TEST]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_gpu_test_is_skipped_with_a_reason():
    done = run(REQUIRE_CUDA="")
    assert done.returncode == 0
    assert "SKIPPED [1]" in done.stdout
    assert "this machine has no GPU" in done.stdout or "built without CUDA" in done.stdout


def test_if_a_gpu_is_required_it_fails():
    done = run(REQUIRE_CUDA="1")
    assert done.returncode == 1
    assert "REQUIRE_CUDA is set, but the test was skipped: " in done.stdout
