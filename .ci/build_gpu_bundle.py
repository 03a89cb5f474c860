# SPDX-License-Identifier: Apache-2.0
"""`make gpu-bundle`: all that a machine with a GPU needs, in build/gpu-bundle.tar.gz.

Built here for Python 3.12, torch 2.11, and sm_90 (with PTX): the package, the C++ tests on a GPU as
one program, Python tests, the benchmark, values of the CPU, and the source, for a machine on which
these libraries do not fit. There: unpack it, and `gpu-bundle/run.sh --out DIR` (tests/gpu/run.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path

from build_wheel import interpreters, run
from torches import ROOT, minor, unpacked, versions

PYTHON = (3, 12)
VERSION = next(version for version in versions() if minor(version) == "2.11")
BUILD = ROOT / "build" / "gpu-bundle-cmake"
BUNDLE = ROOT / "build" / "gpu-bundle"
SOURCES = ("CMakeLists.txt", "LICENSE", "NOTICE", "pyproject.toml", "benchmarks", "csrc", "cuda",
           "python", "tests")  # fmt: skip
MOST = 50 * 2**20  # bytes of the archive


def interpreter() -> str:
    found = interpreters().get(PYTHON)
    if found is None:
        sys.exit("gpu-bundle: wanted Python 3.12 with its headers on PATH or in pyenv, found none")
    return found


def build(python: str) -> None:
    """Kernels, libraries for one torch, and the C++ tests on a GPU, into the bundle."""
    options = [
        f"-DPython_EXECUTABLE={python}",
        f"-DTORCH_GUMBEL_LIBTORCH={unpacked(VERSION) / 'torch'}",
        "-DTORCH_GUMBEL_CUDA=1",
        "-DTORCH_GUMBEL_TESTS=gpu",
        "-DTORCH_GUMBEL_PORTABLE=ON",
    ]
    run("cmake", "-S", ROOT, "-B", BUILD, "-GNinja", *options, TORCH_CUDA_ARCH_LIST="9.0+PTX")
    run("cmake", "--build", BUILD, "--target", "libraries", "gpu_tests")
    package = BUNDLE / "python" / "torch_gumbel"
    for part in ("kernels", "library", "python"):
        run("cmake", "--install", BUILD, "--prefix", package, "--component", part)
    shutil.copy2(BUILD / "tests" / "cpp" / "gpu_tests", BUNDLE)


def copy_sources() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *SOURCES]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists() and not name.endswith(".png"):
            (BUNDLE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, BUNDLE / name)
    googletest = Path(os.environ.get("GOOGLETEST_SOURCE_DIR", "/usr/src/googletest"))
    if not (googletest / "googletest" / "CMakeLists.txt").exists():
        sys.exit(f"gpu-bundle: wanted GoogleTest's source in {googletest}, found none")
    shutil.copytree(googletest / "googletest", BUNDLE / "googletest" / "googletest",
                    ignore=shutil.ignore_patterns("test", "samples", "docs"))  # fmt: skip
    shutil.copy2(googletest / "CMakeLists.txt", BUNDLE / "googletest")
    script = BUNDLE / "run.sh"
    script.write_text('#!/bin/sh\nexec "$(dirname "$0")/tests/gpu/run.sh" "$@"\n')
    script.chmod(0o755)


def write_values() -> None:
    """Values of the CPU, by this interpreter with that torch; calls take torch.ops if no Python
    module is built for it."""
    libraries = sorted(Path(sysconfig.get_path("platlib")).glob("nvidia/*/lib"))
    run(
        sys.executable,
        BUNDLE / "tests" / "gpu" / "first_values.py",
        "--write",
        PYTHONPATH=f"{unpacked(VERSION)}:{BUNDLE / 'python'}",
        LD_LIBRARY_PATH=":".join(map(str, libraries)),
        PYTHONDONTWRITEBYTECODE="1",
    )


def pack() -> Path:
    archive = BUNDLE.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz", compresslevel=6) as file:
        file.add(BUNDLE, BUNDLE.name)
    return archive


def main() -> None:
    start = time.monotonic()
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir(parents=True)
    build(interpreter())
    copy_sources()
    write_values()
    archive = pack()
    size = archive.stat().st_size
    unpacked_size = sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file())
    print(f"{archive.relative_to(ROOT)}: {size / 2**20:.1f} MiB, unpacked "
          f"{unpacked_size / 2**20:.0f} MiB, in {time.monotonic() - start:.0f} s")  # fmt: skip
    if size > MOST:
        sys.exit(f"gpu-bundle: wanted at most {MOST // 2**20} MiB")


if __name__ == "__main__":
    main()
