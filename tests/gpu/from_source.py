# SPDX-License-Identifier: Apache-2.0
"""Builds library and GPU tests from source with this interpreter's torch, into the package beside.

    python from_source.py ROOT [options of CMake]

The kernels' libraries of the bundle, which depend on no torch, are used again if they can be
loaded; else nvcc compiles them on as many cores as there are. Without Python's headers there is no
Python module, which is not needed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path


def kernels_of(package: Path) -> Path | None:
    """The folder of the kernels' libraries, if this machine loads them."""
    folder = package / "lib"
    try:
        for name in ("libtorch_gumbel_kernels.so", "libtorch_gumbel_cuda_kernels.so"):
            ctypes.CDLL(str(folder / name))
    except OSError as error:
        print(f"the kernels are built again: {error}", flush=True)
        return None
    return folder


def run(*command: object) -> None:
    print("+", *command, flush=True)
    subprocess.run(list(map(str, command)), check=True)


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    build, package = root / "build" / "source", root / "python" / "torch_gumbel"
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        print(f"{sys.executable} has no torch")
        return 1
    kernels = kernels_of(package)
    headers = Path(sysconfig.get_paths()["include"], "Python.h").exists()
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0")
    os.environ.setdefault("NVCC_APPEND_FLAGS", "--split-compile=0")
    os.environ.setdefault("GOOGLETEST_SOURCE_DIR", str(root / "googletest"))
    options = [
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-DTORCH_GUMBEL_LIBTORCH={Path(spec.origin).parent}",
        f"-DTORCH_GUMBEL_KERNELS={kernels or ''}",
        "-DTORCH_GUMBEL_CUDA=1",
        "-DTORCH_GUMBEL_TESTS=gpu",
        "-DTORCH_GUMBEL_WERROR=OFF",
        f"-DTORCH_GUMBEL_PYTHON={'ON' if headers else 'OFF'}",  # without it, calls take torch.ops
        *sys.argv[2:],
    ]
    run("cmake", "-S", root, "-B", build, "-GNinja", *options)
    run("cmake", "--build", build, "--target", "libraries", "gpu_tests")
    for part in [*([] if kernels else ["kernels"]), "library", "python"]:
        run("cmake", "--install", build, "--prefix", package, "--component", part)
    return 0


if __name__ == "__main__":
    sys.exit(main())
