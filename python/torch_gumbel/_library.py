# SPDX-License-Identifier: Apache-2.0
"""Loads the compiled library, or raises an explanatory ImportError."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch  # first: the library is linked against its libraries

_FOLDER = Path(__file__).resolve().parent
#: For CMAKE_PREFIX_PATH of C++ projects, so that ``find_package(torch_gumbel)`` works.
cmake_prefix_path = str(_FOLDER / "share" / "cmake")
__version__ = (_FOLDER / "VERSION").read_text(encoding="utf-8").strip()

_REBUILD = (
    "Rebuild it from its source folder: pip install --no-build-isolation --force-reinstall "
    "--no-deps ."
)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _check_built_for(built: str, running: str) -> None:
    """Raises if the minor versions differ: LibTorch's C++ ABI changes with each of them."""
    if _minor(built) != _minor(running):
        raise ImportError(
            f"torch_gumbel was built for torch {_minor(built)}, but torch {running} is running. "
            + _REBUILD
        )


def _load() -> ModuleType:
    # Checked before loading: with another torch the loader would fail at a missing symbol.
    stamp = _FOLDER / "lib" / "built_for_torch"
    if not stamp.exists():
        raise ImportError(f"torch_gumbel is not built in {_FOLDER}. {_REBUILD}, or: make build")
    _check_built_for(stamp.read_text(encoding="utf-8").strip(), torch.__version__)
    try:
        return importlib.import_module("torch_gumbel._C")
    except ImportError as error:
        message = f"torch_gumbel's library cannot be loaded: {error}. {_REBUILD}"
        raise ImportError(message) from error


if TYPE_CHECKING:
    from torch_gumbel import _C as _C
else:
    _C = _load()
