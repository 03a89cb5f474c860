# SPDX-License-Identifier: Apache-2.0
"""The built library: build information, linked libraries, threads, and forks."""

import os
import pathlib
import re
import subprocess
import threading
import time

import pytest
import torch
from common import run_python

import torch_gumbel
from torch_gumbel import _library, gumbel_argmax, gumbel_softmax

PACKAGE = pathlib.Path(torch_gumbel.__file__).parent
LIBRARIES = PACKAGE / "lib"
LAYER = LIBRARIES / ("torch-" + ".".join(torch.__version__.split(".")[:2]))
LIBRARY = LAYER / "libtorch_gumbel.so"


@pytest.mark.parametrize("running", ["2.99.1", "3.15.0", "2.1.5", "2.150.0"])
def test_another_torch_gives_a_readable_import_error(running):
    message = (
        r"torch_gumbel [0-9.]+ is built for torch (2\.\d+, )*2\.\d+, but torch "
        rf"{re.escape(running)} is running\. Upgrade torch_gumbel or change torch\. "
        r"Build it from its source folder: "
        r"pip install --force-reinstall --no-deps \.$"
    )
    with pytest.raises(ImportError, match=message):
        _library._folder_for(running)


def test_another_patch_of_the_same_torch_is_accepted():
    minor = ".".join(torch.__version__.split(".")[:2])
    for patch in ("0", "3", "0+cu132", "1a0+git0123456"):
        assert _library._folder_for(f"{minor}.{patch}") == LAYER


def copy_of_package(folder):
    """The package, its parts linked, but for those whose copies look beside themselves."""
    package = folder / "torch_gumbel"
    package.mkdir()
    for path in PACKAGE.iterdir():
        if path.name in ("_library.py", "__init__.py", "VERSION"):
            (package / path.name).write_bytes(path.read_bytes())
        elif path.name not in ("lib", "__pycache__"):
            (package / path.name).symlink_to(path)
    return package


def run_copy(folder, code, **variables):
    path = f"import sys; sys.path.insert(0, {str(folder)!r}); import torch_gumbel; "
    return run_python(path + code, **variables)


@pytest.mark.parametrize("minors", [["2.9", "2.100", "2.99"], []], ids=str)
def test_importing_a_build_for_another_torch_or_none_names_the_remedy(tmp_path, minors):
    package = copy_of_package(tmp_path)
    for minor in minors:
        (package / "lib" / f"torch-{minor}").mkdir(parents=True)
    done = run_copy(tmp_path, "")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: torch_gumbel")
    assert ("built for torch 2.9, 2.99, 2.100," if minors else "is not built in") in last
    assert "pip install --force-reinstall" in last


def test_a_library_that_cannot_be_loaded_is_named(tmp_path):
    layer = copy_of_package(tmp_path) / "lib" / LAYER.name
    layer.mkdir(parents=True)
    (layer / "libtorch_gumbel.so").write_text("no library")
    last = run_copy(tmp_path, "").stderr.strip().splitlines()[-1]
    assert re.match(
        "ImportError: torch_gumbel's libraries cannot be loaded: .*libtorch_gumbel.so", last
    )


def copy_of_layer(folder, left_out):
    """A copy of the package that lacks some libraries of this torch."""
    layer = copy_of_package(folder) / "lib" / LAYER.name
    layer.mkdir(parents=True)
    for path in LIBRARIES.glob("*.so"):
        (layer.parent / path.name).symlink_to(path)
    for path in LAYER.iterdir():
        if not path.name.startswith(left_out):
            (layer / path.name).symlink_to(path)


def test_without_a_module_for_this_python_calls_take_the_dispatcher(tmp_path):
    copy_of_layer(tmp_path, "_C")
    code = """
import torch
t, k = torch_gumbel, torch_gumbel.key(3)
x = torch.linspace(-2, 2, 12).view(3, 4)
print(t._C.__name__, t.build_info() == dict(t.build_info()), t.build_info()["cpu_selected"])
two = torch.tensor(2.0)
print(t.gumbel_softmax(x, 0.5, True, key=k), t.gumbel_softmax(x, two, key=k))
print(t.gumbel_argmax(x, key=k, num_samples=2), t.gumbel_argmax(x, 0, True, temperature=two, key=k))
"""
    shown = run_copy(tmp_path, code)
    assert shown.stdout, shown.stderr
    name, *rest = shown.stdout.splitlines()
    assert name == f"torch_gumbel._dispatched True {torch_gumbel.build_info()['cpu_selected']}"
    with_module = run_python("import torch_gumbel" + code).stdout.splitlines()[1:]
    assert rest == with_module


def test_build_info_has_the_build_configuration():
    info = torch_gumbel.build_info()
    keys = {"version", "torch", "cuda", "cuda_architectures", "cpu_builds", "cpu_selected"}
    assert set(info) == keys
    assert all(isinstance(value, str) for value in info.values())
    assert info["version"] == torch_gumbel.__version__
    assert info["torch"].split(".")[:2] == torch.__version__.split(".")[:2]
    assert info["cpu_selected"] in info["cpu_builds"].split()
    assert bool(info["cuda"]) == bool(info["cuda_architectures"])


def test_an_unknown_instruction_set_is_refused_by_name():
    done = run_python("import torch_gumbel as t; t.build_info()", TORCH_GUMBEL_CPU="abacus")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    builds = torch_gumbel.build_info()["cpu_builds"]
    assert f"TORCH_GUMBEL_CPU must be one of {builds}, got abacus" in last


def test_the_fastest_instruction_set_is_selected(monkeypatch):
    monkeypatch.delenv("TORCH_GUMBEL_CPU", raising=False)
    code = "import torch_gumbel as t; i = t.build_info(); print(i['cpu_builds'], i['cpu_selected'])"
    *builds, selected = run_python(code).stdout.split()
    assert selected == builds[-1]


def needed(path):
    shown = subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True)
    return re.findall(r"\(NEEDED\).*\[(.*)\]", shown.stdout)


def undefined(path):
    shown = subprocess.run(
        ["nm", "-D", "--undefined-only", str(path)], capture_output=True, text=True, check=True
    )
    return [line.split()[-1] for line in shown.stdout.splitlines()]


def test_each_library_needs_what_its_layer_needs():
    torch_of = {
        path: [n for n in needed(path) if re.match("lib(torch|c10)", n)]
        for path in LIBRARIES.rglob("*.so")
    }
    for path, names in torch_of.items():
        names = {name for name in names if not name.startswith("libtorch_gumbel")}
        cuda = {name for name in needed(path) if "cuda" in name}
        if path.parent == LIBRARIES:
            assert not names and not [
                n for n in undefined(path) if re.match("_Z.*(c10|2at|5torch)", n)
            ]
        assert bool(cuda) == ("_cuda" in path.name), (path, cuda)
    assert {path.name for path in torch_of if path.parent == LIBRARIES} >= {
        "libtorch_gumbel_kernels.so"
    }
    assert bool(torch_gumbel.build_info()["cuda"]) <= (
        len(list(LAYER.glob("libtorch_gumbel_cuda*"))) == 1
    )


def test_the_op_library_is_free_of_python():
    assert not [name for name in needed(LIBRARY) if "python" in name]
    assert not [name for name in undefined(LIBRARY) if re.match(r"_?Py[A-Z_]", name)]
    modules = list(LAYER.glob("_C*.so"))
    assert not modules or any(
        re.match(r"_?Py[A-Z_]", n) for path in modules for n in undefined(path)
    )


def test_the_public_header_is_installed():
    header = PACKAGE / "include" / "torch_gumbel" / "torch_gumbel.h"
    assert "gumbel_softmax" in header.read_text() and "Python.h" not in header.read_text()


@pytest.mark.parametrize("call", ["index", "hard", "soft"])
def test_a_long_call_lets_other_threads_run(call):
    x = torch.zeros(1, 1).expand(20_000, 10_000)
    run = {
        "index": lambda: gumbel_argmax(x),
        "hard": lambda: gumbel_softmax(x[:5000], hard=True),
        "soft": lambda: gumbel_softmax(x[:5000]),
    }[call]
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    run()
    end = time.perf_counter()
    stop.set()
    thread.join()
    # away from both ends, where the interpreter may have switched threads by itself
    inside = [t for t in ticks if begin + 0.01 < t < end - 0.01]
    assert end - begin > 0.03
    assert len(inside) >= 3, (len(inside), end - begin)


def test_many_threads_equal_one():
    x, keys = torch.randn(50, 1000), torch.randint(0, 2**60, (8, 2))
    wanted = [gumbel_softmax(x, 0.5, True, key=key) for key in keys]
    wrong = []

    def work(i):
        for _ in range(20):
            leaf = x.clone().requires_grad_()
            y = gumbel_softmax(leaf, 0.5, True, key=keys[i])
            y.sum().backward()
            if not torch.equal(y, wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FORK = """
import os, torch, torch_gumbel
torch.set_num_threads(1)
torch.manual_seed(1)
x = torch.randn(40, 300)
key = torch_gumbel.key(5)
wanted = torch_gumbel.gumbel_softmax(x, hard=True, key=key)
children = []
for i in range(4):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        same = torch.equal(torch_gumbel.gumbel_softmax(x, hard=True, key=key), wanted)
        inherited = torch_gumbel.new_key().tolist()
        torch.manual_seed(i)
        os.write(writer, repr((same, inherited, torch_gumbel.new_key().tolist())).encode())
        os._exit(0)
    os.close(writer)
    children.append((child, reader))
results = []
for child, reader in children:
    results.append(eval(os.read(reader, 4096).decode()))
    assert os.waitpid(child, 0)[1] == 0
assert all(same for same, _, _ in results), results
assert len({tuple(key) for _, key, _ in results}) == 1, "children inherit the generator"
assert len({tuple(key) for _, _, key in results}) == 4, "and differ once reseeded"
assert torch_gumbel.new_key().tolist() == results[0][1]
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_children_draw():
    done = run_python(FORK, timeout=60)
    assert done.stdout.strip() == "done", done.stderr[-2000:]
