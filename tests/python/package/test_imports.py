# SPDX-License-Identifier: Apache-2.0
"""Imports have no cycles, neither in the package nor in the benchmarks.

The graph is read from the sources: imports in functions and under TYPE_CHECKING count as well.
"""

import ast
import collections
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOLDERS = {"torch_gumbel": ROOT / "python" / "torch_gumbel", "": ROOT / "benchmarks"}
# Folders that tests and scripts put on one sys.path.
SHARED_PATH = [*(ROOT / "tests" / "python").iterdir(), ROOT / "benchmarks", ROOT / "tests" / "ptx"]


def modules(folder, package):
    """{dotted name: source}; a package is the name of its __init__.py, _C that of its stub."""
    found = {}
    for path in [*folder.rglob("*.py"), *folder.rglob("*.pyi")]:
        parts = [package, *path.relative_to(folder).with_suffix("").parts]
        found[".".join(p for p in parts if p not in ("", "__init__"))] = path.read_text()
    return found


def imported(source):
    """Names of imported modules, and of what is imported from them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.module, f"{node.module}.{alias.name}") for alias in node.names)


def graph(sources):
    """{module: modules of the same folder that it imports}."""
    edges = {}
    for name, source in sources.items():
        targets = (full if full in sources else module for module, full in imported(source))
        edges[name] = {target for target in targets if target in sources}
    return edges


def cycle(edges):
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


@pytest.mark.parametrize("package", FOLDERS, ids=["package", "benchmarks"])
def test_imports_have_no_cycle(package):
    edges = graph(modules(FOLDERS[package], package))
    assert len(edges) > 15 and sum(map(len, edges.values())) > 20
    assert cycle(edges) is None


def test_a_cycle_through_an_import_in_a_function_is_found():
    sources = {
        "p": "from p import a",
        "p.a": "def f():\n    from p import b",
        "p.b": "import p.a",
    }
    assert graph(sources) == {"p": {"p.a"}, "p.a": {"p.b"}, "p.b": {"p.a"}}
    assert set(cycle(graph(sources))) == {"p.a", "p.b"}


def test_modules_on_one_path_have_different_names():
    names = collections.Counter(path.stem for folder in SHARED_PATH for path in folder.glob("*.py"))
    assert len(names) > 80
    assert [name for name, count in names.items() if count > 1] == []
