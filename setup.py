# SPDX-License-Identifier: Apache-2.0
"""Builds libtorch_gumbel and torch_gumbel._C with CMake. See pyproject.toml for everything else.

Read from the environment: TORCH_GUMBEL_CUDA (1, 0; default: when nvcc is found) and, as for every
PyTorch extension, TORCH_CUDA_ARCH_LIST. TORCH_GUMBEL_CMAKE_ARGS is passed on to CMake;
TORCH_GUMBEL_TARGETS (default: the library and its module) is what it builds; "all": tests too.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Builds in build/cmake and installs into the package, and in the source tree if editable."""

    def run(self):
        self.in_source = bool(self.inplace or getattr(self, "editable_mode", False))
        super().run()

    def build_extension(self, ext):
        build = ROOT / "build" / "cmake"
        arguments = [f"-DPython_EXECUTABLE={sys.executable}", "-GNinja"]
        arguments += shlex.split(os.environ.get("TORCH_GUMBEL_CMAKE_ARGS", ""))
        self.cmake("-S", ROOT, "-B", build, *arguments)
        targets = shlex.split(os.environ.get("TORCH_GUMBEL_TARGETS", "torch_gumbel _C"))
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count()))
        self.cmake("--build", build, "--parallel", jobs, "--target", *targets)
        packages = [Path(self.get_ext_fullpath(ext.name)).resolve().parent]
        packages += [ROOT / "python" / "torch_gumbel"] if self.in_source else []
        for package in packages:
            for part in ("library", "python"):
                self.cmake("--install", build, "--prefix", package, "--component", part)

    def cmake(self, *arguments):
        # The cmake and ninja installed beside this interpreter come first.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        missing = [tool for tool in ("cmake", "ninja") if shutil.which(tool, path=path) is None]
        if missing:
            wanted = "wanted cmake 3.26 or later and ninja on PATH or beside this Python"
            raise SystemExit(
                f"torch_gumbel: {wanted}, got no {' and no '.join(missing)}: pip install "
                '"cmake>=3.26" ninja'
            )
        cmake = shutil.which("cmake", path=path)
        command = [cmake, *map(str, arguments)]
        subprocess.run(command, check=True, env=os.environ | {"PATH": path})


setup(ext_modules=[Extension("torch_gumbel._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
