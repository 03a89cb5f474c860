# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark's arithmetic and tables, on made-up times; no GPU is needed."""

import pathlib
import subprocess
import sys

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
gpu = pytest.importorskip("gpu")
from cases import BACKWARD, HARD, INDEX, SOFT, Task  # noqa: E402
from gpu_timing import buffers_for, bytes_moved  # noqa: E402


def record(kind, shape, dtype="float32", ours=100.0, **others):
    task = Task(kind, shape, dtype=dtype)
    times = {who: {"graph": us, "plain": 2 * us} for who, us in {"ours": ours, **others}.items()}
    moved = {who: bytes_moved(task, who) for who in times}
    return {**gpu.asdict(task), "times": times, "bytes": moved, "sets": 2}


def test_bytes_are_those_of_one_read_and_one_write():
    for kind, passes in {SOFT: 2, HARD: 2, INDEX: 1, BACKWARD: 3}.items():
        assert bytes_moved(Task(kind, (4, 10)), "ours") == 40 * 4 * passes
        assert bytes_moved(Task(kind, (4, 10), dtype="bfloat16"), "copy") == 40 * 2 * 2


def test_buffers_outgrow_the_cache():
    for shape in [(1, 32000), (1, 128256), (2048, 32000)]:
        task = Task(SOFT, shape)
        assert buffers_for(task, 2**25) * task.elements * 4 > 2**25
    assert buffers_for(Task(SOFT, (2**16, 1024)), 2**25) == 2


def test_a_share_of_a_copy_compares_bytes_a_second():
    assert gpu.share_of_copy(record(SOFT, (8, 8), copy=90.0)) == pytest.approx(90)
    assert gpu.share_of_copy(record(INDEX, (8, 8), copy=90.0)) == pytest.approx(45)
    assert gpu.share_of_copy(record(SOFT, (8, 8))) is None


def test_goals_tell_the_worst_case_and_whether_it_is_met():
    shape = (gpu.ELEMENTS // 1024, 1024)
    fast = record(SOFT, shape, copy=95.0, eager=600.0)
    slow = record(SOFT, (gpu.ELEMENTS // 8192, 8192), copy=85.0, eager=500.0)
    one_row = record(SOFT, (1, 128256), ours=9.0)
    rows = {row[0]: row[1:] for row in gpu.goals([fast, slow, one_row])}
    assert rows["float32 soft, K >= 1000: of a copy"] == ["90 %", "85 %", "**no**"]
    assert rows["float32 soft, K >= 1000: eager"] == ["5.5x", "5.0x", "**no**"]
    assert rows["bfloat16 soft, K >= 1000: of a copy"][1] == "not measured"
    assert rows["float32 soft, 1 row of 128256"] == ["8.0 us", "9.0 us", "**no**"]
    assert dict(map(tuple, [r[::3] for r in gpu.goals([fast])])) == {
        "float32 soft, K >= 1000: of a copy": "yes",
        "float32 soft, K >= 1000: eager": "yes",
        "bfloat16 soft, K >= 1000: of a copy": "",
        "float32 hard, K >= 1000: eager": "",
        "soft, K <= 32: of a copy": "",
    }


def test_the_page_holds_every_case_and_tells_who_is_absent():
    case = record(SOFT, (8, 8), copy=90.0, eager=500.0)
    case["times"]["compiled"] = {"absent": "no compiler"}
    case["times"]["softmax"] = {"plain": 80.0, "graph": None, "reason": "waits"}
    page = gpu.markdown({"machine": {"GPU": "made up"}, "cases": [case]})
    assert "| soft | 8 x 8 | float32 | 100.0 | 200.0 |" in page
    assert "5.0x" in page and "no compiler" in page and "waits" in page


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_benchmark_fails_with_a_message():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "gpu.py"], capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "gpu.py: this needs a GPU, and torch_gumbel built with CUDA"
