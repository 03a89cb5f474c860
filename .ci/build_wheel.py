# SPDX-License-Identifier: Apache-2.0
"""`make wheel`: one wheel for every supported torch and Python, in dist/.

Kernels are built once, with the newest torch; for each minor version of torch (torch_versions.txt),
its libraries, and a Python module for every interpreter found (python3.10 and later on PATH and in
pyenv). TORCH_GUMBEL_CUDA=1 adds the CUDA kernels for TORCH_CUDA_ARCH_LIST. ARCH=aarch64 compiles
for another machine (aarch64-linux-gnu-g++), without Python modules: calls take torch.ops there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from torches import ROOT, minor, unpacked, versions

ARCH = os.environ.get("ARCH", os.uname().machine)
FOREIGN = os.uname().machine != ARCH
BUILD = ROOT / "build" / f"wheel-{ARCH}"
STAGE = BUILD / "stage"
# Libraries that torch brings, or the driver.
EXCLUDED = ("libtorch*.so", "libc10*.so", "libgomp*", "libcuda.so*", "libcudart.so*")


def interpreters() -> dict[tuple[int, int], str]:
    """One of each version of Python from 3.10 to 3.13, this one first."""
    found = {sys.version_info[:2]: sys.executable}
    for number in range(10, 14):
        name = f"python3.{number}"
        pyenv = sorted(Path.home().glob(f".pyenv/versions/3.{number}.*/bin/python"))
        candidates = [shutil.which(name), *map(str, pyenv)]
        for path in filter(None, candidates):
            header = "import os, sysconfig as s; os.stat(s.get_paths()['include'] + '/Python.h')"
            if subprocess.run([path, "-c", header], capture_output=True).returncode == 0:
                found.setdefault((3, number), path)
    return found


def run(*command: object, **environment: str) -> None:
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT, env=os.environ | environment)


def build(version: str, kernels: Path | None, pythons: list[str]) -> Path:
    """Builds and installs what depends on one torch; without `kernels`, the kernels too."""
    folder = BUILD / f"torch-{minor(version)}"
    first, *more = pythons
    options = [
        f"-DPython_EXECUTABLE={first}",
        f"-DTORCH_GUMBEL_PYTHONS={';'.join(more)}",
        f"-DTORCH_GUMBEL_LIBTORCH={unpacked(version, ARCH) / 'torch'}",
        f"-DTORCH_GUMBEL_KERNELS={kernels or ''}",
        f"-DTORCH_GUMBEL_CUDA={os.environ.get('TORCH_GUMBEL_CUDA', '0')}",
        "-DTORCH_GUMBEL_PORTABLE=ON",
    ]
    if FOREIGN:
        options += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={ARCH}"]
        options += [f"-DCMAKE_CXX_COMPILER={ARCH}-linux-gnu-g++", "-DTORCH_GUMBEL_PYTHON=OFF"]
    run("cmake", "-S", ROOT, "-B", folder, "-GNinja", *options)
    run("cmake", "--build", folder, "--target", "libraries")
    parts = [*([] if kernels else ["kernels"]), "library", *([] if FOREIGN else ["python"])]
    for part in parts:
        run("cmake", "--install", folder, "--prefix", STAGE, "--component", part)
    return STAGE / "lib"


def main() -> None:
    start = time.monotonic()
    shutil.rmtree(STAGE, ignore_errors=True)
    pythons = list(interpreters().values())
    *older, newest = versions()
    kernels = build(newest, None, pythons)
    for version in reversed(older):
        build(version, kernels, pythons)
    shutil.rmtree(BUILD / "dist", ignore_errors=True)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", BUILD / "dist"]
    prebuilt = {"TORCH_GUMBEL_PREBUILT": str(STAGE), "TORCH_GUMBEL_PLATFORM": f"linux_{ARCH}"}
    run(sys.executable, "-m", "pip", "wheel", *options, ".", **prebuilt)
    (wheel,) = (BUILD / "dist").glob("*.whl")
    excludes = [word for name in EXCLUDED for word in ("--exclude", name)]
    platform = f"manylinux_2_28_{ARCH}"
    dist = ROOT / "dist"
    for old in dist.glob(f"*{ARCH}.whl"):
        old.unlink()
    auditwheel = [sys.executable, "-m", "auditwheel"]
    run(*auditwheel, "repair", "--only-plat", "--plat", platform, *excludes, wheel, "-w", dist)
    (wheel,) = dist.glob(f"*{ARCH}.whl")
    run(*auditwheel, "show", wheel)
    size = wheel.stat().st_size / 2**20
    print(f"{wheel.relative_to(ROOT)}: {size:.1f} MiB, in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
