# SPDX-License-Identifier: Apache-2.0
"""Sphinx: `make docs` builds these pages, with the reference from docstrings, into build/docs."""

from pathlib import Path

import torch_gumbel
from torch_gumbel.__main__ import main

project = "torch_gumbel"
version = release = torch_gumbel.__version__
copyright = "torch_gumbel contributors, Apache-2.0"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",
]
exclude_patterns = ["build", "pypi.md"]  # the page of the package index
html_theme = "furo"
html_title = f"torch_gumbel {version}"
myst_heading_anchors = 3

# PyTorch's reference, by the names that these pages link to: a build needs no network. To add one:
# `sphobjinv convert plain docs/inventories/torch.inv`, a line, and `sphobjinv convert zlib`.
intersphinx_mapping = {
    "torch": ("https://docs.pytorch.org/docs/stable/", "inventories/torch.inv"),
}
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Shape", "Source", "Sources", ("Returns, Raises", "returns_style")]

# The pictures in the pages are those that the command writes.
main(["plot", "--out", str(Path(__file__).parent / "pictures")])
