# SPDX-License-Identifier: Apache-2.0
"""Every Python example in the docstrings and in the README runs."""

import doctest
import re
from pathlib import Path

import pytest
import torch

import torch_gumbel
from torch_gumbel import functional, keys

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("module", [torch_gumbel, functional, keys], ids=lambda m: m.__name__)
def test_docstring_examples_give_what_they_show(module):
    names = {"torch": torch, "torch_gumbel": torch_gumbel}
    result = doctest.testmod(module, extraglobs=names)
    assert result.failed == 0


def test_the_docstrings_hold_examples():
    finder = doctest.DocTestFinder()
    examples = [
        e for f in (functional, keys, torch_gumbel) for t in finder.find(f) for e in t.examples
    ]
    assert len(examples) >= 5


def test_the_readme_starts_with_python():
    assert len(BLOCKS) >= 1


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_blocks_run(block):
    exec(compile(block, str(README), "exec"), {})
