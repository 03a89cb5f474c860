# SPDX-License-Identifier: Apache-2.0
"""The example trains: a few epochs beat the per-pixel mean, and the picture is drawn."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "categorical_vae.py"


@pytest.mark.parametrize("mode", [[], ["--hard"]], ids=["soft", "hard"])
def test_categorical_vae_beats_the_pixel_means(mode, tmp_path):
    picture = tmp_path / "vae.png"
    command = [sys.executable, EXAMPLE, "--epochs", "25", "--seed", "1", "--out", picture, *mode]
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    negative_elbo = float(re.search(r"test negative ELBO +([0-9.]+)", run.stdout)[1])
    baseline = float(re.search(r"per-pixel baseline +([0-9.]+)", run.stdout)[1])
    assert 24 < baseline < 25.5
    assert negative_elbo < baseline - 2
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 20_000
