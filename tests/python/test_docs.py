# SPDX-License-Identifier: Apache-2.0
"""Every Python example in the docstrings and in the README runs."""

import doctest
import re
from pathlib import Path

import pytest
import torch

import torch_gumbel
from torch_gumbel import (
    _patch,
    functional,
    information,
    keys,
    lookup,
    noise,
    probabilities,
    topk,
)

TESTS = Path(__file__).resolve().parent
README = TESTS.parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(
    "module",
    [torch_gumbel, functional, information, keys, lookup, noise, probabilities, topk, _patch],
    ids=lambda m: m.__name__,
)
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


def named(pattern):
    return sorted(set(re.findall(pattern, TEXT)))


@pytest.mark.parametrize(("file", "name"), named(r"`(\w+\.py)::(\w+)`"))
def test_every_test_that_the_readme_names_is_there(file, name):
    assert f"\ndef {name}(" in (TESTS / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(("suite", "name"), named(r"`([A-Z]\w+)\.([A-Z]\w+)`"))
def test_every_cpp_test_that_the_readme_names_is_there(suite, name):
    sources = "".join(path.read_text() for path in (TESTS.parent / "cpp").glob("*_test.cpp"))
    lists = (TESTS.parent / "cpp" / "CMakeLists.txt").read_text()
    assert f"TEST({suite}, {name})" in sources or f"consumer_test({suite}.{name} " in lists


def test_the_support_table_names_tests():
    assert len(named(r"`(\w+\.py)::(\w+)`")) > 30 and len(named(r"`([A-Z]\w+)\.([A-Z]\w+)`")) > 3
