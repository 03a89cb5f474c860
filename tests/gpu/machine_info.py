# SPDX-License-Identifier: Apache-2.0
"""What this machine has, without importing torch."""

import importlib.metadata
import os
import platform
import shutil
import subprocess

PROGRAMS = {
    "nvidia-smi": [
        "--query-gpu=name,memory.total,driver_version,clocks.sm",
        "--format=csv,noheader",
    ],
    "nvcc": ["--version"],
    "g++": ["--version"],
    "cmake": ["--version"],
    "compute-sanitizer": ["--version"],
}


def version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"


def main() -> None:
    for program, options in PROGRAMS.items():
        path = shutil.which(program)
        if path is None:
            print(f"no {program}")
            continue
        done = subprocess.run([path, *options], capture_output=True, text=True, timeout=15)
        print(f"{program}: {' '.join(done.stdout.split())[:200]}")
    print(f"{os.cpu_count()} processors, {' '.join(platform.libc_ver())}")
    packages = ("torch", "triton", "pytest", "numpy")
    print(f"Python {platform.python_version()}: {', '.join(map(version, packages))}")


if __name__ == "__main__":
    main()
