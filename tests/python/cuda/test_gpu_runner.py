# SPDX-License-Identifier: Apache-2.0
"""The runner of the GPU steps (tests/gpu/running.py): limits, failures, and results at once; the
order of the steps (run.py), and the comparison of the first values. No GPU is needed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import time

import pytest
import torch

GPU = pathlib.Path(__file__).resolve().parents[2] / "gpu"
sys.path.insert(0, str(GPU))
running = pytest.importorskip("running")
import first_operations  # noqa: E402
import first_values  # noqa: E402
import run as gpu_run  # noqa: E402
from operations import OPERATIONS  # noqa: E402
from running import Result, Runner, Step  # noqa: E402

import torch_gumbel  # noqa: E402
from torch_gumbel.estimators import ESTIMATORS  # noqa: E402

KEY = torch_gumbel.key(3)

# Ignores the request to end, and starts a process that does not end either.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def python(name, code, limit=20.0, **more):
    return Step(name, limit, [sys.executable, "-c", code], **more)


def ends(pid):
    """Whether a process that was sent a signal soon is gone, or a zombie."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def runner(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "PATIENCE", 0.3)
    monkeypatch.setattr(running.end_group, "__defaults__", (0.3,))
    return Runner(tmp_path / "out", 60)


def test_a_step_that_hangs_is_ended_with_all_that_it_started(runner):
    begin = time.monotonic()
    result = runner.run(python("hangs", STUBBORN, limit=2))
    assert result.status == "time limit" and time.monotonic() - begin < 10
    assert ends(int((runner.out / "hangs.log").read_text()))


def test_what_a_step_leaves_behind_is_ended(runner):
    code = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    assert runner.run(python("leaves", code)).passed
    assert ends(int((runner.out / "leaves.log").read_text()))


def test_a_failed_step_stops_no_other_and_results_are_written_at_once(runner):
    seen = "import json; print('seen', len(json.load(open('steps.json'))))"
    runner.run(python("fails", "raise SystemExit(7)"))
    runner.run(Step("missing", 5, [runner.out / "no such program"]))
    runner.run(python("crashes", "import os; os.abort()"))
    result = runner.run(
        python("last", f"import os; os.chdir({str(runner.out)!r}); {seen}", telling="seen")
    )
    assert result.told == ["seen 3"]
    steps = json.loads((runner.out / "steps.json").read_text())
    statuses = {step["name"]: step["status"] for step in steps}
    assert statuses == {
        "fails": "FAILED (7)",
        "missing": "FAILED (No such file or directory)",
        "crashes": f"FAILED ({-signal.SIGABRT})",
        "last": "passed",
    }
    assert all(name in (runner.out / "summary.txt").read_text() for name in statuses)


def test_without_time_a_step_is_left_out(tmp_path):
    runner = Runner(tmp_path, budget=0.5)
    assert runner.run(python("late", "print(1)")).status == "left out: no time"
    assert not (tmp_path / "late.log").exists()


def test_limits_can_be_given_by_name(tmp_path):
    runner = Runner(tmp_path, 60, {"slow": 1.5})
    assert runner.run(python("slow", "import time; time.sleep(600)")).status == "time limit"


def test_a_long_log_keeps_its_begin_and_end(runner, monkeypatch):
    monkeypatch.setattr(running, "MOST_OF_A_LOG", 1000)
    runner.run(python("long", "print('begin'); print('x' * 5000); print('end')", telling="end"))
    log = (runner.out / "long.log").read_text()
    assert log.startswith("begin") and log.endswith("end\n") and len(log) < 1100
    assert runner.results[0].told == ["end"]


def test_the_archive_holds_all_results_that_fit(runner):
    runner.run(python("small", "print(1)"))
    (runner.out / "large").write_bytes(os.urandom(200_000))
    with tarfile.open(running.pack(runner.out)) as archive:
        assert "results/large" in archive.getnames()
    with tarfile.open(running.pack(runner.out, most=100_000)) as archive:
        assert set(archive.getnames()) == {
            "results/small.log",
            "results/summary.txt",
            "results/steps.json",
        }


def test_a_run_that_is_ended_leaves_its_results(tmp_path):
    """As by a machine that is taken back: the running step ends too."""
    code = f"""
import signal, sys
sys.path.insert(0, {str(GPU)!r})
from running import Runner, Step
from pathlib import Path
runner = Runner(Path({str(tmp_path)!r}), 60)
signal.signal(signal.SIGTERM, runner.interrupted)
runner.run(Step("before", 9, ["true"]))
runner.run(Step("hangs", 50, ["sh", "-c", "echo $$; sleep 600"]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    log = tmp_path / "hangs.log"
    while not log.exists() or not log.read_text():
        time.sleep(0.05)
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    assert ends(int(log.read_text()))
    summary = (tmp_path / "summary.txt").read_text()
    assert "before" in summary and f"signal {int(signal.SIGTERM)}" in summary
    assert (tmp_path / "results.tar.gz").exists()


def test_the_runner_explains_itself_without_torch():
    help_of = [GPU / "run.sh", "--help"]
    done = subprocess.run(help_of, capture_output=True, text=True,
                          env={**os.environ, "PYTHON": sys.executable})  # fmt: skip
    assert done.returncode == 0 and "--whole-benchmark" in done.stdout


class Listed:
    """A runner that runs nothing; steps have the statuses given, others pass."""

    def __init__(self, **statuses):
        self.statuses, self.ran, self.left_out = statuses, {}, {}

    def run(self, step):
        self.ran[step.name] = step
        return Result(step.name, self.statuses.get(step.name, "passed"), 0, [])

    def leave_out(self, name, reason):
        self.left_out[name] = reason

    def seconds_left(self):
        return 120.0


OF_PYTHON = ["quick", "pytest", "clusters", "clusters-quick"]
OF_CPP = ["gtest", "words", *gpu_run.SANITIZERS]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """That of a bundle."""
    (tmp_path / "googletest").mkdir()
    monkeypatch.setattr(gpu_run, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_run, "sanitizer_program", lambda: "compute-sanitizer")
    return gpu_run.Plan("cuda", tmp_path / "out", tmp_path / "gpu_tests")


def test_steps_run_in_order_of_importance_and_sanitizers_share_the_time_left(plan):
    listed = Listed(first="FAILED (1)")  # wrong values are no reason to build anything
    gpu_run.checks(listed, plan)
    order = ["machine", "first", "listing", "gtest", "words", *OF_PYTHON, *gpu_run.SANITIZERS]
    assert list(listed.ran) == order and not listed.left_out
    limits = [listed.ran[tool].limit for tool in gpu_run.SANITIZERS]
    assert limits == [30, 40, 60, 120]


def test_the_limits_of_the_checks_fit_in_eight_minutes_and_the_benchmark_in_three(plan):
    listed = Listed()
    gpu_run.checks(listed, plan)
    seconds = gpu_run.SECONDS
    assert set(listed.ran) == set(seconds)
    assert sum(limit for _, limit in seconds.values()) <= gpu_run.BUDGET <= 480
    assert all(expected < limit for expected, limit in seconds.values())
    others = set(seconds) - set(gpu_run.SANITIZERS)
    assert all(listed.ran[name].limit == seconds[name][1] for name in others)
    whole = plan.benchmark("whole", limit=gpu_run.BUDGET_OF_THE_BENCHMARK - 5)
    assert whole.limit <= gpu_run.BUDGET_OF_THE_BENCHMARK <= 180


@pytest.mark.parametrize(
    ("statuses", "left_out"),
    [
        ({"listing": "FAILED (127)"}, OF_CPP),
        ({"first": "FAILED (3)"}, OF_PYTHON),
        ({"first": "FAILED (3)", "listing": "FAILED (127)"}, [*OF_CPP, *OF_PYTHON]),
    ],
)
def test_a_library_that_does_not_fit_is_built_and_without_it_the_other_steps_run(
    plan, statuses, left_out
):
    built, failed = Listed(**statuses), Listed(**statuses, source="time limit")
    gpu_run.checks(failed, plan)
    assert sorted(failed.left_out) == sorted(left_out)
    assert set(OF_CPP + OF_PYTHON) - set(left_out) <= set(failed.ran)
    gpu_run.checks(built, plan)
    assert not built.left_out and {"source", "first-again"} <= set(built.ran)
    assert "build/source/tests/cpp/gpu_tests" in str(built.ran["gtest"].command[0])


def test_first_values_have_every_operation_and_every_estimator():
    names = [name for name, _, _ in first_operations.named()]
    assert {name.split()[0] for name in names} == set(OPERATIONS)
    assert {f"sample_one_hot estimator={e}" for e in ESTIMATORS} <= set(names)


def test_the_first_values_of_halves_are_near_those_of_float32():
    """So that a device's roundings are no fault: those of halves are far coarser."""
    found = {n: values() for n, _, values in first_operations.everything("cpu", KEY)}
    halves = [name for name in found if name.endswith("bfloat16")]
    assert len(halves) >= len(first_operations.FORMS)
    for name in halves:
        wanted = found[name.replace("bfloat16", "float32")]
        for what, value in found[name].items():
            rounded = wanted[what].to(value.dtype)
            assert first_values.fault_of(what, value, rounded, None) == "", (name, what)


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [
        (torch.tensor([3, 4]), torch.tensor([3, 5])),
        (torch.tensor([0.25, 0.75]), torch.tensor([0.25, 0.752])),
        (torch.tensor([0.25, 0.75]), torch.tensor([0.25, torch.nan])),
        (torch.tensor([0.25, -torch.inf]), torch.tensor([0.25, torch.inf])),
        (torch.tensor([0.25, -torch.inf]), torch.tensor([0.252, -torch.inf])),
        (torch.tensor([0.25, 0.75]), torch.tensor([0.25, 0.75]).double()),
        (torch.tensor([0.25, 0.75]), torch.tensor([0.25])),
        (torch.tensor([0.25, 0.75]).bfloat16(), torch.tensor([0.25, 0.78]).bfloat16()),
    ],
)
def test_a_wrong_first_value_is_told(monkeypatch, capsys, wanted, wrong):
    def values(value):
        found = ("a, key on the device", 0, lambda: {"soft": value})
        monkeypatch.setattr(first_values, "everything", lambda *_: iter([found]))
        return first_values.compare({"a": {"soft": wanted}})

    assert values(wanted) == 0 and values(wrong) == 1
    assert "a, key on the device, soft: " in capsys.readouterr().out


def test_a_first_value_that_cannot_be_computed_stops_no_other(monkeypatch, capsys):
    def fails():
        raise RuntimeError("no kernel image\nis available")

    found = [("a", 0, fails), ("b", 0, lambda: {"soft": torch.ones(2)})]
    monkeypatch.setattr(first_values, "everything", lambda *_: iter(found))
    assert first_values.compare({"b": {"soft": torch.ones(2)}}) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "a: RuntimeError: no kernel image"
    assert told[-1] == "values: 1 results compared, 1 wrong"
