# SPDX-License-Identifier: Apache-2.0
"""docs/guide/troubleshooting.md has the messages of the code, install.md the variables it reads.

Every message of torch_gumbel on the page is raised here, or found in the source that prints it;
every message of those sources is on the page.
"""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from common import run_python

import torch_gumbel
from torch_gumbel import gumbel_softmax, plots

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "guide" / "troubleshooting.md").read_text(encoding="utf-8")
INSTALL = (ROOT / "docs" / "guide" / "install.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "python" / "torch_gumbel"
SOURCES = [ROOT / "setup.py", *(PACKAGE / f"{name}.py" for name in ("_library", "_bench"))]
SELF_CHECK = PACKAGE / "_self_check.py"
VARYING = "X"


def rows_of(text):
    """Of each row whose first cell is a message: the message, and who prints it, unless we do."""
    return dict(re.findall(r"^\| `([^`]+)`(?: \(from ([^)]+)\))? \|", text, re.MULTILINE))


HEAD, OF_CHECK, REST = re.split(r"^## (?:The check|Import)\n", PAGE, flags=re.MULTILINE)
ROWS = rows_of(REST)
OURS = [message for message, author in ROWS.items() if not author]
OF_CHECK = [*rows_of(OF_CHECK)]


def matches(message, text):
    """Whether a message of the page, with ... for what varies, is in a text."""
    parts = [re.escape(part) for part in message.split("...")]
    return re.search(".+".join(parts).removesuffix(".+"), " ".join(text.split())) is not None


# The messages in sources, with VARYING for what they fill in.


def text_of(node, names):
    """The text of a Python expression; names: the texts assigned to names."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value, names) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value, names)
    if isinstance(node, ast.BinOp):
        return text_of(node.left, names) + text_of(node.right, names)
    return names.get(getattr(node, "id", None), VARYING)


def python_messages(path):
    if not path.exists():
        return  # test_there_are_messages fails
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = text_of(node.value, names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            yield text_of(node.exc.args[0], names)


def cmake_messages(path):
    text = path.read_text(encoding="utf-8")
    kinds = "message\\((?:FATAL_ERROR|WARNING|STATUS)|NOT_FOUND_MESSAGE"
    if path.name == "CMakeLists.txt":  # its STATUS is the summary of a build
        kinds = kinds.replace("|STATUS", "")
    for found in re.finditer(rf'(?:{kinds})\s+((?:"[^"]*"\s*)+)\)', text):
        yield re.sub(r"\$\{\w+\}", VARYING, "".join(re.findall(r'"([^"]*)"', found[1])))


def make_messages(path):
    text = path.read_text(encoding="utf-8")
    for _, found in re.findall(r"""echo (['"])(make: .+?)\1""", text):
        yield re.sub(r"\$\(\w+\)|\$\$\w+", VARYING, found)


def source_messages():
    cmake = sorted((ROOT / "csrc" / "cmake").glob("*.cmake*"))
    for path in [ROOT / "CMakeLists.txt", *cmake]:
        yield from ((path.name, message) for message in cmake_messages(path))
    for path in [*SOURCES, SELF_CHECK]:
        yield from ((path.name, message) for message in python_messages(path))
    yield from (("Makefile", message) for message in make_messages(ROOT / "Makefile"))


FROM_SOURCES = [*source_messages()]

# Messages that are raised.


def message_of(call):
    with pytest.raises((Exception, SystemExit)) as raised:
        call()
    return str(raised.value)


def imported(folder, *libraries):
    """What importing a copy of _library.py says, in a package with these files in lib."""
    for name in ("_library.py", "VERSION"):
        shutil.copy(PACKAGE / name, folder / name)
    for name in libraries:
        path = folder / "lib" / name
        path.parent.mkdir(parents=True)
        path.write_text("no library\n")
    spec = importlib.util.spec_from_file_location("a_copy_of_library", folder / "_library.py")
    return message_of(lambda: spec.loader.exec_module(importlib.util.module_from_spec(spec)))


SETUP = """
import os, runpy, site, sys, sysconfig
from setuptools.command import bdist_wheel, build_ext, egg_info
sys.path = [f for f in sys.path if not f.endswith("-packages") and not os.path.exists(f + "/torch")]
sysconfig.get_path = lambda name, *options: "/nowhere"
sys.executable, sys.argv = "/nowhere/python", ["setup.py", "build_ext"]
runpy.run_path("setup.py", run_name="__main__")
"""


def built(folder, *tools):
    """What setup.py says where these tools are, and no torch."""
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for tool in tools:
        (folder / tool).touch(0o755)
    environment = {"PATH": str(folder), "HOME": str(folder)}
    command = [sys.executable, "-c", SETUP]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return done.stderr


def edited_logits(folder):
    leaf = torch.randn(2, 3, requires_grad=True)
    logits = leaf * 1
    y = gumbel_softmax(logits, hard=True, recompute=True)
    with torch.no_grad():
        logits.mul_(2)
    return message_of(y.sum().backward)


def without_matplotlib(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        return message_of(lambda: plots.noise(draws=10))


def compiled_generator(folder):
    call = torch.compile(
        lambda x, g: gumbel_softmax(x, generator=g), backend="eager", fullgraph=True
    )
    return message_of(lambda: call(torch.zeros(2, 3), torch.Generator()))


MINOR = ".".join(torch.__version__.split(".")[:2])
ZEROS = torch.zeros(2, 3)
# By the beginning of the message: how it comes about, in an empty folder.
RAISED = {
    "torch_gumbel ... is built for torch": lambda folder: imported(
        folder, "torch-2.98/libtorch_gumbel.so", "torch-2.99/libtorch_gumbel.so"
    ),
    "torch_gumbel is not built in": imported,
    "torch_gumbel's libraries cannot be loaded": lambda folder: imported(
        folder, f"torch-{MINOR}/libtorch_gumbel.so"
    ),
    "torch_gumbel.plots needs matplotlib": without_matplotlib,
    "torch_gumbel: wanted PyTorch 2.11": lambda folder: built(folder, "cmake", "ninja"),
    "torch_gumbel: wanted cmake 3.26": built,
    "torch_gumbel: TORCH_GUMBEL_CPU must be": lambda folder: (
        run_python("import torch_gumbel as t; t.build_info()", TORCH_GUMBEL_CPU="abacus").stderr
    ),
    "tau must be > 0": lambda folder: message_of(lambda: gumbel_softmax(ZEROS, 0)),
    "wanted a key or a generator": lambda folder: message_of(
        lambda: gumbel_softmax(ZEROS, key=torch_gumbel.key(0), generator=torch.Generator())
    ),
    "torch.compile cannot trace generator=": compiled_generator,
    "one of the variables needed": edited_logits,
}


@pytest.mark.parametrize("begin", RAISED)
def test_a_documented_message_is_raised(begin, tmp_path):
    (message,) = [message for message in ROWS if message.startswith(begin)]
    text = RAISED[begin](tmp_path)
    assert matches(message, text), text


def rows_for(source):
    return OF_CHECK if source == SELF_CHECK.name else OURS


@pytest.mark.parametrize("message", OURS + OF_CHECK)
def test_a_message_of_the_page_is_in_a_source_or_raised(message):
    raised = message.startswith(tuple(RAISED))
    texts = [text for source, text in FROM_SOURCES if message in rows_for(source)]
    assert raised or [text for text in texts if matches(message, text)]


@pytest.mark.parametrize(("source", "text"), FROM_SOURCES)
def test_a_message_of_a_source_is_on_the_page(source, text):
    assert [message for message in rows_for(source) if matches(message, text)]


def test_there_are_messages():
    assert len(OURS) >= 25 and len(FROM_SOURCES) >= 20
    wanted = {"Makefile", SELF_CHECK.name, *(path.name for path in SOURCES)}
    assert {source for source, _ in FROM_SOURCES} >= wanted


READ = (
    r'environ(?:\.get)?[(\[]"(TORCH_\w+|MAX_JOBS|REQUIRE_CUDA)"',
    r'getenv\("(\w+)"\)',
    r"ENV\{(TORCH_\w+|CMAKE_PREFIX_PATH)\}",
)


def test_the_variables_of_the_install_page_are_those_that_are_read():
    found = {"setup.py": (ROOT / "setup.py").read_text(encoding="utf-8")}
    for folder in ("csrc", "python", "tests", "cuda"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".cpp", ".h", ".cmake", ".in", ".cu"}:
                found[str(path)] = path.read_text(encoding="utf-8")
    read = {
        name for text in found.values() for pattern in READ for name in re.findall(pattern, text)
    }
    table = INSTALL.split("## Environment variables", 1)[1]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert read <= documented, read - documented
    others = {"CXX", "CUDACXX", "OMP_NUM_THREADS"}  # read by CMake and PyTorch
    assert documented - read <= others, documented - read - others
