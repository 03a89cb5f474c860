# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark's arithmetic and tables, on made-up times; no GPU is needed."""

import json
import pathlib
import subprocess
import sys
import time
import types

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
gpu = pytest.importorskip("gpu")
import gpu_model  # noqa: E402
import gpu_report as report  # noqa: E402
from cases import BACKWARD, HARD, HARD_TRAINING, INDEX, SOFT, Task  # noqa: E402
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
    assert report.share_of_copy(record(SOFT, (8, 8), copy=90.0)) == pytest.approx(90)
    assert report.share_of_copy(record(INDEX, (8, 8), copy=90.0)) == pytest.approx(45)
    assert report.share_of_copy(record(SOFT, (8, 8))) is None


def shape_of(classes):
    return (gpu.ELEMENTS // classes, classes)


def at_the_rate_of_a_copy(task):
    """Microseconds of a copy at the rate that the model assumes of an H200."""
    return bytes_moved(task, "copy") / 4.3e12 * 1e6


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "share"),
    [
        (SOFT, shape_of(1024), "float32", 100),
        (SOFT, shape_of(32000), "float32", 67),  # two reads
        (SOFT, shape_of(32000), "bfloat16", 51),  # noise made twice
        (SOFT, (1100, 128256), "float32", 67 * 1100 / 1320),  # a sixth of the fifth wave
        (SOFT, (300, 128256), "float32", None),  # shared by blocks
        (INDEX, shape_of(1024), "bfloat16", 51),
        (SOFT, (1, 128256), "float32", None),
        (SOFT, shape_of(2), "float32", None),
        (HARD_TRAINING, shape_of(1024), "float32", None),
    ],
)
def test_predictions_are_those_of_the_instruction_counts(kind, shape, dtype, share):
    """Of kernels for a key of the host, with bounds for counts that another compiler changes."""
    task = Task(kind, shape, dtype=dtype)
    found = gpu_model.predicted_share(task, "host", 4.3e12, bytes_moved(task, "ours"))
    assert found is share is None or found == pytest.approx(share, rel=0.08)


def test_goals_are_what_is_predicted_of_kernels_for_either_key():
    shape = shape_of(1024)
    copy = at_the_rate_of_a_copy(Task(SOFT, shape))
    fast = record(SOFT, shape, copy=copy, eager=4.8 * copy, ours=copy / 0.95)
    fast["times"]["host key"] = {"graph": copy / 0.85, "plain": copy}
    fast["bytes"]["host key"] = fast["bytes"]["ours"]
    one_row = record(SOFT, (1, 128256), ours=9.0)
    rows = {row[0]: row[1:] for row in report.goals([fast, one_row])}
    what = f"soft, {shape[0]} x 1024, float32"
    assert rows == {
        f"{what}, key on the device: of a copy": ["100 %", "95 %", "yes"],
        f"{what}, key on the host: of a copy": ["100 %", "85 %", "**no**"],
        f"{what}: eager": ["5.0x", "4.6x", "yes"],
        "soft, 1 x 128256, float32": ["8.0 us", "9.0 us", "**no**"],
    }
    assert report.met({"machine": {}, "cases": [fast, one_row]}) == "2 of 4 met"


def test_the_page_holds_every_case_and_tells_who_is_absent():
    case = record(SOFT, (8, 8), copy=90.0, eager=500.0)
    case["times"]["compiled"] = {"absent": "no compiler"}
    case["times"]["softmax"] = {"plain": 80.0, "graph": None, "reason": "waits"}
    results = {"machine": {"GPU": "made up"}, "cases": [case], "failed": ["a case: of memory"]}
    page = report.markdown(results, gpu.__doc__)
    assert "| soft | 8 x 8 | float32 | 100.0 |  | 200.0 |" in page
    assert all(part in page for part in ("5.0x", "no compiler", "waits", "of memory"))
    assert "more of them than the L2 cache holds" in page


def test_every_entry_measures_kernels_for_either_key_and_a_part_of_the_cases_is_quick():
    whole, quick = list(gpu.whole_entries()), list(gpu.quick_entries())
    assert len(set(whole)) == len(whole) and len(quick) < len(whole) / 3
    for task, who in [*quick, *whole]:
        assert who[0] == "ours" and ("host key" in who) == (
            task.kind != BACKWARD and "compiled" not in who
        )
    assert {(gpu.WAVES, SOFT)} <= {(task.shape, task.kind) for task, _ in quick}


def test_every_case_is_written_at_once_and_one_that_fails_stops_no_other(tmp_path, monkeypatch):
    """Without a GPU: the timing is replaced, and the first case fails."""
    seen = []

    def measure(task, who, cache):
        if not seen:
            seen.append("failed")
            raise RuntimeError("out of memory")
        page = tmp_path / "gpu.json"
        seen.append(len(json.loads(page.read_text())["cases"]))
        return record(task.kind, task.shape, task.dtype)

    device = types.SimpleNamespace(L2_cache_size=2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(gpu, "machine", lambda: {"GPU": "made up"})
    monkeypatch.setattr(gpu, "measure", measure)
    entries = list(gpu.quick_entries())[:4]
    results = gpu.run(entries, time.monotonic() + 60, tmp_path)
    assert seen == ["failed", 0, 1, 2] and len(results["cases"]) == 3
    assert "out of memory" in (tmp_path / "GPU.md").read_text()
    assert gpu.run(entries, time.monotonic() - 1, None)["cases"] == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_benchmark_fails_with_a_message():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "gpu.py"], capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "gpu.py: this needs a GPU, and torch_gumbel built with CUDA"
