# SPDX-License-Identifier: Apache-2.0
"""Prints what `make demo` needs and this interpreter lacks, as pip names it, or nothing.

    python examples/requirements.py

Packages may come from anywhere on the path, and cmake and ninja from PATH. Uses no package.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata

# The group `demo` of pyproject.toml, without the tools.
PACKAGES = ["torch>=2.11", "setuptools>=77", "matplotlib", "numpy", "scikit-learn", "tqdm"]
TOOLS = ["cmake>=3.26", "ninja"]


def numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)[:2]]


def version_of_package(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def version_of_tool(name):
    """The version of the tool that setup.py would run: beside this interpreter, or on PATH."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    tool = shutil.which(name, path=path)
    if tool is None:
        return None
    done = subprocess.run([tool, "--version"], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def missing(requirements, version_of):
    for requirement in requirements:
        name, _, least = requirement.partition(">=")
        version = version_of(name)
        if version is None or numbers(version) < numbers(least):
            yield requirement


if __name__ == "__main__":
    lacking = [*missing(PACKAGES, version_of_package), *missing(TOOLS, version_of_tool)]
    print(*(f'"{name}"' if ">" in name else name for name in lacking))
