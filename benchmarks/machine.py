# SPDX-License-Identifier: Apache-2.0
"""The machine of a measurement: processor, caches, and versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import torch
from cases import cores

import torch_gumbel

BASELINES = {"jax": "JAX", "jaxlib": "jaxlib", "paddlepaddle": "Paddle"}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def caches() -> str:
    """The caches of the first core, from sysfs."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "unknown"


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def compiler() -> str:
    """The version of the C++ compiler of torch.compile."""
    path = shutil.which("g++")
    if path is None:
        return "not installed"
    done = subprocess.run([path, "-dumpfullversion"], capture_output=True, text=True)
    return done.stdout.strip()


def describe(threads: int) -> dict[str, str]:
    info = torch_gumbel.build_info()
    return {
        "processor": processor(),
        "cores": str(cores()),
        "caches": caches(),
        "load before the run": f"{os.getloadavg()[0]:.2f}",
        "threads": "1" if threads == 1 else f"1 and {threads}",
        "instruction set": info["cpu_selected"],
        "torch_gumbel": info["version"],
        "torch": torch.__version__,
        "torch's instruction set": torch.backends.cpu.get_cpu_capability(),
        "g++ (torch.compile)": compiler(),
        **{name: version(package) for package, name in BASELINES.items()},
        "Python": platform.python_version(),
        "NumPy": version("numpy"),
    }
