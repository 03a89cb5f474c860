# SPDX-License-Identifier: Apache-2.0
"""Loads the libraries for the torch that runs, or raises an explanatory ImportError.

``lib`` holds the kernels, which have no PyTorch in them, and one folder per minor version of torch
with what depends on it: ``libtorch_gumbel.so``, the CUDA backend (named after CUDA's major
version), and a Python module per version of Python.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch  # first: the libraries are linked against its own

_FOLDER = Path(__file__).resolve().parent
#: For CMAKE_PREFIX_PATH of C++ projects, so that ``find_package(torch_gumbel)`` works.
cmake_prefix_path = str(_FOLDER / "share" / "cmake")
__version__ = (_FOLDER / "VERSION").read_text(encoding="utf-8").strip()

_REBUILD = "Build it from its source folder: pip install --force-reinstall --no-deps ."


def minors() -> list[str]:
    """Minor versions of torch that this installation has libraries for, oldest first."""
    found = [path.name.removeprefix("torch-") for path in (_FOLDER / "lib").glob("torch-*")]
    return sorted(found, key=lambda minor: [int(part) for part in minor.split(".")])


def _folder_for(running: str) -> Path:
    """The folder for a version of torch: C++ interfaces change with each minor version."""
    folder = _FOLDER / "lib" / ("torch-" + ".".join(running.split(".")[:2]))
    if folder.is_dir():
        return folder
    if not minors():
        raise ImportError(f"torch_gumbel is not built in {_FOLDER}. {_REBUILD}, or: make build")
    raise ImportError(
        f"torch_gumbel {__version__} is built for torch {', '.join(minors())}, but torch {running} "
        f"is running. Upgrade torch_gumbel or change torch. {_REBUILD}"
    )


def _cuda_library(folder: Path) -> Path | None:
    """That of the CUDA backend for the CUDA of this torch, if there is one."""
    major = (torch.version.cuda or "").split(".")[0]
    path = folder / f"libtorch_gumbel_cuda{major}.so"
    return path if major and path.exists() else None


def _python_module(folder: Path) -> ModuleType:
    """``_C`` for this Python; without one, the same functions through the dispatcher."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = folder / f"_C{suffix}"
        if path.exists():
            spec = importlib.util.spec_from_file_location("torch_gumbel._C", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module("torch_gumbel._dispatched")


def _load() -> ModuleType:
    folder = _folder_for(torch.__version__)
    try:
        for path in (folder / "libtorch_gumbel.so", _cuda_library(folder)):
            if path is not None:
                torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        return _python_module(folder)
    except (ImportError, OSError) as error:
        message = f"torch_gumbel's libraries cannot be loaded: {error}. {_REBUILD}"
        raise ImportError(message) from error


if TYPE_CHECKING:
    from torch_gumbel import _C as _C
else:
    _C = sys.modules["torch_gumbel._C"] = _load()
