# SPDX-License-Identifier: Apache-2.0
"""Every example in README, pages, and docstrings runs; every C++ block compiles; names exist."""

import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch.utils.cpp_extension import include_paths

import torch_gumbel

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parents[1]
README = ROOT / "README.md"
SUPPORT = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = {".cpp", ".cu", ".cuh", ".h", ".md", ".py"}
LANGUAGES = {"", "cpp", "cmake", "console", "python", "toml", "{eval-rst}"}
LANGUAGES |= {"{include}", "{literalinclude}", "{toctree}"}


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    code: str


def blocks_of(page):
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        language = match[1].split(" ")[0]
        line = text[: match.start()].count("\n") + 1
        found.append(Block(page, line, language, match[2]))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
CPP = [block for block in BLOCKS if block.language == "cpp"]


def modules():
    names = [m.name for m in pkgutil.walk_packages(torch_gumbel.__path__, "torch_gumbel.")]
    wanted = [name for name in names if name.split(".")[-1] not in ("_C", "__main__")]
    return [torch_gumbel, *map(importlib.import_module, wanted)]


def examples_in(module):
    return [e for test in doctest.DocTestFinder().find(module) for e in test.examples]


DOCUMENTED = [module for module in modules() if examples_in(module)]


def summary():
    """The summary that conftest.py prints."""
    lines = sum(len(examples_in(module)) for module in DOCUMENTED)
    docstrings = sum(
        bool(test.examples) for m in DOCUMENTED for test in doctest.DocTestFinder().find(m)
    )
    return (
        f"code blocks run: {len(PYTHON)} of pages, {docstrings} of docstrings ({lines} lines); "
        f"C++ blocks compiled: {len(CPP)}"
    )


@pytest.mark.parametrize("module", DOCUMENTED, ids=lambda m: m.__name__)
def test_docstring_examples_give_what_they_show(module):
    names = {"torch": torch, "torch_gumbel": torch_gumbel}
    result = doctest.testmod(module, extraglobs=names)
    assert result.failed == 0 and result.attempted > 0


def public_callables():
    for module in (torch_gumbel, torch_gumbel.nn, torch_gumbel.distributions):
        for name in module.__all__:
            if callable(getattr(module, name)):
                yield module, name


NO_EXAMPLE = {"build_info", "fold_in", "new_key", "split"}


@pytest.mark.parametrize(
    ("module", "name"), [*public_callables()], ids=lambda x: getattr(x, "__name__", x)
)
def test_every_public_name_is_documented_with_an_example(module, name):
    text = getattr(module, name).__doc__
    assert text and len(text) > 60
    assert ">>>" in text or name in NO_EXAMPLE


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.page == page for b in PYTHON)], ids=lambda p: p.name
)
def test_the_blocks_of_a_page_run_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in PYTHON:
        if block.page == page:
            code = "\n" * block.line + block.code  # so that errors have the line of the page
            exec(compile(code, str(page), "exec"), names)


def test_there_are_blocks_and_each_names_its_language():
    assert len(PYTHON) >= 30 and len(CPP) >= 4
    assert {block.language for block in BLOCKS} <= LANGUAGES
    unnamed = [block for block in BLOCKS if block.language == ""]
    assert not [b for b in unnamed if re.search(r"\bimport \w+|#include|torch\.", b.code)]


def in_one_file(blocks):
    """Each block in its own scope: a program at namespace scope, statements in a function."""
    includes, scopes = [], []
    for number, block in enumerate(blocks):
        includes += re.findall(r"^#include .*$", block.code, re.MULTILINE)
        body = re.sub(r"^#include .*$", "", block.code, flags=re.MULTILINE)
        if "int main(" not in body:
            body = f"void run() {{\n{body}\n}}"
        where = f'#line {block.line} "{block.page.name}"'
        scopes.append(f"namespace block_{number} {{\n{where}\n{body}\n}}")
    known = ["#include <torch/torch.h>", "extern torch::Tensor logits;"]
    return "\n".join([*dict.fromkeys(includes), *known, *scopes])


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
def test_cpp_blocks_compile(tmp_path):
    source = tmp_path / "blocks.cpp"
    source.write_text(in_one_file(CPP))
    package = Path(torch_gumbel.__file__).parent / "include"
    folders = [f"-isystem{path}" for path in include_paths()] + [f"-I{package}"]
    command = ["g++", "-std=c++20", "-fsyntax-only", *folders, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


def test_the_reference_names_everything_public():
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"auto\w+:: torch_gumbel\.([\w.]+)", reference))
    namespaces = {"": torch_gumbel}
    namespaces |= {f"{n}.": getattr(torch_gumbel, n) for n in ("nn", "distributions", "schedules")}
    namespaces["integrations.transformers."] = torch_gumbel.integrations.transformers
    for prefix, module in namespaces.items():
        for name in module.__all__:
            if not name.startswith("__"):
                assert prefix + name in documented, prefix + name


def test_the_cpp_reference_names_everything_public():
    reference = (ROOT / "docs" / "cpp_api.md").read_text(encoding="utf-8")
    headers = sorted((ROOT / "csrc" / "include" / "torch_gumbel").glob("*.h"))
    for header in headers:
        text = header.read_text(encoding="utf-8")
        functions = re.findall(r"^TORCH_GUMBEL_API .*?(\w+)\(", text, re.MULTILINE)
        names = functions + re.findall(r"^struct (\w+Options) ", text, re.MULTILINE)
        assert not names or f"include/torch_gumbel/{header.name}\n" in reference
        shown = text[text.index("namespace torch_gumbel") :] if names else ""
        assert not [name for name in names if f" {name}" not in shown]


def named(pattern):
    return sorted(set(re.findall(pattern, SUPPORT)))


@pytest.mark.parametrize(("file", "name"), named(r"`([\w/]+\.py)::(\w+)`"))
def test_every_test_that_the_support_table_names_is_there(file, name):
    assert f"\ndef {name}(" in (TESTS / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(("suite", "name"), named(r"`([A-Z]\w+)\.([A-Z]\w+)`"))
def test_every_cpp_test_that_the_support_table_names_is_there(suite, name):
    sources = "".join(path.read_text() for path in (TESTS.parent / "cpp").glob("*_test.cpp"))
    lists = (TESTS.parent / "cpp" / "CMakeLists.txt").read_text()
    assert f"TEST({suite}, {name})" in sources or f"consumer_test({suite}.{name} " in lists


def test_the_support_table_names_tests():
    assert len(named(r"`([\w/]+\.py)::(\w+)`")) > 30 and len(named(r"`([A-Z]\w+)\.([A-Z]\w+)`")) > 3


def test_the_readme_is_short_and_its_links_lead_to_files():
    text = README.read_text(encoding="utf-8")
    assert text.count("\n") <= 100 and "make demo" in text and "make test" in text
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) > 10
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("path", ["docs", "csrc", "cuda", "python", "tests", "benchmarks"])
def test_pages_that_sources_name_are_there(path):
    files = [p for p in (ROOT / path).rglob("*") if p.suffix in SOURCES]
    texts = {p: p.read_text(encoding="utf-8") for p in files}
    pattern = r"docs/(?!test_)[\w/]+\.(?:md|py)"  # tests/python/docs has the tests of docs
    named = {(p, page) for p in files for page in re.findall(pattern, texts[p])}
    assert not [(p, page) for p, page in named if not (ROOT / page).exists()]
