# SPDX-License-Identifier: Apache-2.0
"""Wheels of the supported versions of torch (torch_versions.txt), unpacked side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "torches"


def versions() -> list[str]:
    """Oldest first, one of each minor version."""
    lines = (ROOT / ".ci" / "torch_versions.txt").read_text().split()
    return [line.removeprefix("torch==") for line in lines]


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def unpacked(version: str, machine: str = os.uname().machine, python: str = "") -> Path:
    """A folder that holds this version's package `torch`, downloaded without what it depends on;
    for this Python, or for another one ("3.12")."""
    foreign = machine != os.uname().machine
    other = f"-cp{python.replace('.', '')}" if python else ""
    folder = FOLDER / (f"{version}-{machine}" if foreign else version + other)
    done = folder / "complete"
    if not done.exists():
        print(f"downloading torch {version}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-cache-dir", "--no-deps", "--only-binary=:all:"]
        options += ["--platform", f"manylinux_2_28_{machine}"] if foreign or python else []
        options += ["--python-version", python, "--implementation", "cp"] if python else []
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder]
        subprocess.run([*command, f"torch=={version}"], check=True)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            wheel.unlink()
        done.touch()
    return folder
