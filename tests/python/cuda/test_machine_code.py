# SPDX-License-Identifier: Apache-2.0
"""The library's GPU machine code stays within its budget (benchmarks/machine_code_budget.json)."""

import json
import pathlib
import re
import sys

import pytest

import torch_gumbel

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
machine_code = pytest.importorskip("machine_code")
hot_paths = pytest.importorskip("hot_paths")
sass_report = pytest.importorskip("sass_report")

LIBRARY = pathlib.Path(torch_gumbel.__file__).with_name("lib") / "libtorch_gumbel_cuda_kernels.so"


@pytest.fixture(scope="module")
def report():
    if machine_code.tool("nvdisasm") is None or machine_code.tool("cuobjdump") is None:
        pytest.skip("nvdisasm and cuobjdump are not installed")
    if not torch_gumbel.build_info()["cuda"]:
        pytest.skip("torch_gumbel was built without CUDA")
    found = hot_paths.Report(LIBRARY)
    if not found.kernels:
        pytest.skip("the library has no code for sm_90")
    return found


def test_no_kernel_is_worse_than_its_budget(report):
    assert hot_paths.over_budget(report) == []


def test_every_hot_path_has_a_budget(report):
    budget = hot_paths.budget()["instructions"]
    assert sorted(budget) == sorted(path.key for path in report.paths())


def test_a_tighter_budget_is_exceeded(report, tmp_path, monkeypatch):
    budget = hot_paths.budget()
    name = next(iter(budget["instructions"]))
    budget["instructions"][name] /= 2
    (tmp_path / "budget.json").write_text(json.dumps(budget))
    monkeypatch.setattr(hot_paths, "BUDGET", tmp_path / "budget.json")
    assert [name in fault for fault in hot_paths.over_budget(report)] == [True]


def test_paths_are_counted_as_written():
    """A hand-written kernel: one 128-bit load, a loop of three, a rare branch, one store."""
    lines = """
        LDG.E.128 R4, desc[UR4][R2.64]
        @P0 BRA `(.L_rare)
      .L_loop: FADD R1, R1, R4
        ISETP.NE.AND P1, PT, R0, RZ, PT
        @P1 BRA `(.L_loop)
        STG.E.128 desc[UR4][R2.64], R4
        EXIT
      .L_rare: MUFU.LG2 R1, R1
        MUFU.LG2 R1, R1
        MUFU.LG2 R1, R1
        BRA `(.L_loop)""".strip().splitlines()
    parts = [re.fullmatch(r"\s*(\.L\w+:)?\s*(.*)", line).groups() for line in lines]
    text = "\n".join(f"{label or ''}\n/*{16 * i:04x}*/ {code} ;" for i, (label, code) in
                     enumerate(parts))  # fmt: skip
    kernel = machine_code.Kernel("k", text)
    assert len(kernel.path(LDG=1, STG=1)) == 7
    assert len(kernel.path(LDG=1, STG=1, MUFU=3)) == 11
    assert kernel.path(LDG=2, STG=1) is None
    assert len(kernel.loop(LDG=0, STG=0)) == 3
    assert machine_code.pipes(kernel.loop(LDG=0)) == {"fma": 1, "alu": 2, "all": 3}


def test_the_page_names_every_hot_path():
    page = (ROOT / "docs" / "internals" / "machine_code.md").read_text()
    budget = hot_paths.budget()["instructions"]
    rows = set(re.findall(r"^\| ([^|]+) \| (\w+) \|", page, flags=re.M))
    assert {tuple(name.rsplit(", ", 1)) for name in budget} <= rows


def test_the_model_of_the_benchmark_knows_every_hot_path_with_keys_of_host_and_device():
    budget = hot_paths.budget()["instructions"]
    model = json.loads(sass_report.MODEL_FILE.read_text())
    assert set(model) == {"host", "device"}
    assert all(set(paths) == set(budget) for paths in model.values())
