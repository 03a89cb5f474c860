# SPDX-License-Identifier: Apache-2.0
"""Builds libtorch_gumbel and torch_gumbel._C with CMake. See pyproject.toml for everything else.

Read from the environment: TORCH_GUMBEL_CUDA (1, 0; default: when nvcc is found) and, as for every
PyTorch extension, TORCH_CUDA_ARCH_LIST. TORCH_GUMBEL_CMAKE_ARGS is passed on to CMake;
TORCH_GUMBEL_TARGETS (default: the library and its module) is what it builds, "all": tests too;
TORCH_GUMBEL_BUILD is the folder it builds in (default: one per Python, torch, and CUDA choice).
TORCH_GUMBEL_PREBUILT is a folder of libraries for several versions of torch and Python, to be
packed instead of building any, for TORCH_GUMBEL_PLATFORM (.ci/build_wheel.py).
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    raise SystemExit(
        f"torch_gumbel: wanted setuptools 77 or later, got {setuptools.__version__}: "
        'pip install "setuptools>=77"'
    ) from None

ROOT = Path(__file__).resolve().parent
PREBUILT = os.environ.get("TORCH_GUMBEL_PREBUILT")
COMPONENTS = ("kernels", "library", "python")


def search_path():
    """Where this interpreter finds packages, and where the environment that pip installs into
    does: pip builds in an environment of its own, without the user's torch."""
    yield from map(Path, sys.path)
    for site in {sysconfig.get_path("platlib"), sysconfig.get_path("purelib")}:
        yield Path(site)
        for file in sorted(Path(site).glob("*.pth")):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            yield from (
                Path(site, line) for line in lines if line and not line.startswith("import")
            )


def torch_folder():
    for folder in search_path():
        if (folder / "torch" / "include" / "ATen" / "ATen.h").exists():
            return folder / "torch"
    raise SystemExit(
        f"torch_gumbel: wanted PyTorch 2.11 or later in {sysconfig.get_path('platlib')}, got none. "
        "Install it first: pip install torch. Tools that build in an environment of their own (uv, "
        "python -m build) need --no-build-isolation, with setuptools, cmake, and ninja installed."
    )


def build_folder(torch):
    version = (torch / "version.py").read_text(encoding="utf-8")
    version = re.search(r"__version__ = '([^']+)'", version).group(1)
    cuda = os.environ.get("TORCH_GUMBEL_CUDA", "auto")
    name = f"{sysconfig.get_config_var('SOABI')}-torch-{version}-cuda-{cuda}"
    return Path(os.environ.get("TORCH_GUMBEL_BUILD", ROOT / "build" / name))


class CMakeBuild(build_ext):
    """Builds with CMake and installs into the package, and in the source tree if editable."""

    def run(self):
        self.in_source = bool(self.inplace or getattr(self, "editable_mode", False))
        super().run()

    # What is built is installed as files of the package, and not copied as one module.
    def copy_extensions_to_source(self):
        pass

    def get_outputs(self):
        return []

    def get_output_mapping(self):
        return {}

    def build_extension(self, ext):
        build = None if PREBUILT else self.build()
        packages = [Path(self.get_ext_fullpath(ext.name)).resolve().parent]
        packages += [ROOT / "python" / "torch_gumbel"] if self.in_source else []
        for package in packages:
            for stale in ("lib", "include", "share"):
                shutil.rmtree(package / stale, ignore_errors=True)
            if PREBUILT:
                shutil.copytree(PREBUILT, package, dirs_exist_ok=True)
                continue
            for part in COMPONENTS:
                self.cmake("--install", build, "--prefix", package, "--component", part)

    def build(self):
        ninja = self.tool("ninja")
        torch = torch_folder()
        build = build_folder(torch)
        arguments = [f"-DPython_EXECUTABLE={sys.executable}", f"-DTORCH_GUMBEL_LIBTORCH={torch}"]
        arguments += ["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]  # the last run's may be gone
        arguments += shlex.split(os.environ.get("TORCH_GUMBEL_CMAKE_ARGS", ""))
        self.cmake("-S", ROOT, "-B", build, *arguments)
        targets = shlex.split(os.environ.get("TORCH_GUMBEL_TARGETS", "libraries"))
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count()))
        self.cmake("--build", build, "--parallel", jobs, "--target", *targets)
        return build

    def cmake(self, *arguments):
        command = [self.tool("cmake"), *map(str, arguments)]
        subprocess.run(command, check=True, env=os.environ | {"PATH": self.path()})

    def tool(self, name):
        missing = [tool for tool in ("cmake", "ninja") if not shutil.which(tool, path=self.path())]
        if missing:
            wanted = "wanted cmake 3.26 or later and ninja on PATH or beside this Python"
            raise SystemExit(
                f"torch_gumbel: {wanted}, got no {' and no '.join(missing)}: pip install "
                '"cmake>=3.26" ninja'
            )
        return shutil.which(name, path=self.path())

    @staticmethod
    def path():
        """The tools installed beside this interpreter come first."""
        return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


class Wheel(bdist_wheel):
    """One of prebuilt libraries is for every Python."""

    def get_tag(self):
        python, abi, platform = super().get_tag()
        if PREBUILT:
            return "py3", "none", os.environ.get("TORCH_GUMBEL_PLATFORM", platform)
        return python, abi, platform


# pip asks for the metadata first, and would download torch before it builds without it. (uv's
# environments, which get a torch for the build alone, are made after that.)
HOOKS = {"PEP517_BUILD_BACKEND", "_PYPROJECT_HOOKS_BUILD_BACKEND"}
if "dist_info" in sys.argv and HOOKS & os.environ.keys() and not PREBUILT:
    torch_folder()

setup(
    ext_modules=[Extension("torch_gumbel._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "bdist_wheel": Wheel},
)
