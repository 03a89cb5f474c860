# SPDX-License-Identifier: Apache-2.0
"""Everything that needs a GPU, the most important first, each step under a time limit.

    run.sh [--out DIR]                  the checks and a quick benchmark, at most 8 minutes
    run.sh --whole-benchmark [--out DIR]  the whole benchmark, at most 3 minutes

It needs this interpreter's torch and, for one step, pytest. Nothing is installed or downloaded. It
runs in an unpacked bundle (`make gpu-bundle`) or in a built source tree (`make gpu`). A step that
fails or is ended stops no other, and has written what it found; if the library of a bundle does not
fit, it is built from the source beside it. Results, with an archive of all, are in DIR (default:
$OUT, or gpu-results).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path

from running import Runner, Step, pack

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")
WORDS = "GpuWords.*:GpuBits.OfABillionFloat32Noises"
BUDGET, BUDGET_OF_THE_BENCHMARK = 475, 170  # seconds for all steps of a run
# Seconds that a step takes on an H200, estimated, and at most. The limits of the checks add up to
# less than their budget, so that no step takes the time of a later one.
SECONDS = {
    "machine": (2, 10),
    "first": (15, 45),
    "listing": (3, 15),
    "gtest": (25, 70),
    "words": (10, 35),
    "quick": (45, 60),
    "pytest": (35, 80),
    "clusters": (12, 25),
    "clusters-quick": (15, 30),
    **dict.fromkeys(SANITIZERS, (15, 26)),
}
# If the libraries do not fit: they are built, out of the time of the sanitizers.
SECONDS_FROM_SOURCE = {"source": (120, 300), "first-again": (10, 45)}
ENDING = 15  # seconds of the limit of a benchmark for its last case
UNUSABLE = "FAILED (3)"  # what first_values.py exits with if it cannot import the library
# Of GoogleTest, pytest, and the programs here: what the summary shows.
MACHINE_LINES = r"nvidia-smi|processors|^Python"
VALUES_LINES = "^values: |: off by|differ$|^no CUDA|Error"
GTEST_LINES = r"^\[  (PASSED|FAILED)|^words: |ERROR SUMMARY|RACECHECK SUMMARY"


def folders_of_torch() -> list[str]:
    """Where the libraries of this interpreter's torch and those it depends on lie."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return []
    torch = Path(spec.origin).parent
    return [str(torch / "lib"), *map(str, sorted(torch.parent.glob("nvidia/*/lib")))]


class Plan:
    """The steps, for a device and a program of C++ tests."""

    def __init__(self, device: str, out: Path, tests: Path) -> None:
        self.out, self.tests, self.cpu = out, tests, device == "cpu"
        self.python = [sys.executable] + ([HERE / "stand_in.py"] if self.cpu else [])
        paths = [str(ROOT / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
        libraries = [*folders_of_torch(), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        self.environment = {
            "PYTHONPATH": os.pathsep.join(paths),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PYTHONDONTWRITEBYTECODE": "1",
            "REQUIRE_CUDA": "" if self.cpu else "1",
        }

    def step(self, name: str, *command: object, telling: str = "", most: int = 1,
             limit: float = 0, **environment: str) -> Step:  # fmt: skip
        limit = limit or {**SECONDS, **SECONDS_FROM_SOURCE}[name][1]
        return Step(name, limit, command, {**self.environment, **environment}, telling, most)

    def machine(self) -> Step:
        script = HERE / "machine_info.py"
        return self.step("machine", sys.executable, script, telling=MACHINE_LINES, most=3)

    def first(self, name: str = "first", *options: object, **environment: str) -> Step:
        """(a) One call of each op on each family of kernels, and of each operation's backward."""
        return self.step(name, *self.python, HERE / "first_values.py", *options,
                         telling=VALUES_LINES, most=4, **environment)  # fmt: skip

    def listing(self) -> Step:
        return self.step("listing", self.tests, "--gtest_list_tests")

    def gtest(self, name: str, tests: str, prefix: tuple[object, ...] = (), most: int = 1,
              limit: float = 0, **environment: str) -> Step:  # fmt: skip
        report = self.out / f"{name}.json"
        command = [*prefix, self.tests, f"--gtest_filter={tests}", f"--gtest_output=json:{report}"]
        return self.step(name, *command, telling=GTEST_LINES, most=most, limit=limit,
                         **environment)  # fmt: skip

    def benchmark(self, name: str, *options: object, limit: float = 0, **environment: str) -> Step:
        """(d), (g). It stops by itself before it is ended."""
        script, seconds = ROOT / "benchmarks" / "gpu.py", (limit or SECONDS[name][1]) - ENDING
        command = [script, "--out", self.out / name, "--seconds", seconds, *options]
        return self.step(name, *self.python, *command, telling=r"^goals:|cases in",
                         limit=seconds + ENDING, **environment)  # fmt: skip

    def clusters(self) -> tuple[Step, Step]:
        """Rows given to clusters of blocks: values, then times, beside the quick benchmark's."""
        on = {"TORCH_GUMBEL_CUDA_CLUSTERS": "1"}
        return (
            self.first("clusters", "--long-rows", **on),
            self.benchmark("clusters-quick", "--clusters", **on),
        )

    def pytest(self) -> Step:
        """(e) No plugin of the machine decides what is run."""
        options = ["-p", "no:cacheprovider", "--color=no", "-vv", f"--rootdir={ROOT}", "-m", "cuda"]
        options += [f"--junitxml={self.out / 'pytest.xml'}"]
        test = ROOT / "tests" / "python" / "cuda" / "test_cuda.py"
        return self.step("pytest", *self.python, "-m", "pytest", *options, test,
                         telling=r"^=+ .* in [\d.]+s|^FAILED", most=3)  # fmt: skip

    def sanitizer(self, program: str, tool: str, limit: float) -> Step:
        """(f) Of this library's kernels alone, on small shapes; memory is not kept in a pool, which
        would hide an access outside a tensor."""
        command = (program, "--tool", tool, "--error-exitcode", 9)
        command += ("--kernel-regex", "kns=torch_gumbel")
        return self.gtest(tool, "GpuSmall.*", command, most=2, limit=limit,
                          PYTORCH_NO_CUDA_MEMORY_CACHING="1")  # fmt: skip

    def source(self) -> Step:
        """All else depends on it."""
        return self.step("source", sys.executable, HERE / "from_source.py", ROOT)


def sanitizer_program() -> str | None:
    installed = Path("/usr/local/cuda/bin/compute-sanitizer")
    return shutil.which("compute-sanitizer") or (str(installed) if installed.exists() else None)


def usable(runner: Runner, plan: Plan) -> tuple[bool, bool]:
    """Whether the Python package and the program of C++ tests can be loaded. If one cannot, both
    are built from the source of a bundle."""
    python = runner.run(plan.first()).status != UNUSABLE
    tests = runner.run(plan.listing()).passed
    if (python and tests) or not (ROOT / "googletest").is_dir():
        return python, tests
    if not runner.run(plan.source()).passed:
        return python, tests
    plan.tests = ROOT / "build" / "source" / "tests" / "cpp" / "gpu_tests"
    return runner.run(plan.first("first-again")).status != UNUSABLE, True


def sanitize(runner: Runner, plan: Plan, tests: bool) -> None:
    """(f) The tools share what time is left: more than their limits if others were fast."""
    program = sanitizer_program()
    for left, tool in zip(range(len(SANITIZERS), 0, -1), SANITIZERS, strict=True):
        if program is None or not tests:
            runner.leave_out(tool, "no C++ tests" if program else "no compute-sanitizer")
        else:
            limit = max(SECONDS[tool][1], runner.seconds_left() / left)
            runner.run(plan.sanitizer(program, tool, limit))


def checks(runner: Runner, plan: Plan) -> None:
    """(a) to (f)."""
    runner.run(plan.machine())
    python, tests = usable(runner, plan)
    for works, step in (
        (tests, plan.gtest("gtest", f"*-{WORDS}")),
        (tests, plan.gtest("words", WORDS, most=6)),
        (python, plan.benchmark("quick", "--quick")),
        (python, plan.pytest()),
        *((python, step) for step in plan.clusters()),
    ):
        if works:
            runner.run(step)
        else:
            runner.leave_out(step.name, "it cannot be loaded")
    sanitize(runner, plan, tests)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT", "gpu-results"))
    parser.add_argument("--whole-benchmark", action="store_true")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda",
                        help="cpu: a rehearsal, in which no kernel is launched")  # fmt: skip
    parser.add_argument("--tests", type=Path, default=ROOT / "gpu_tests", help="the C++ tests")
    parser.add_argument("--budget", type=float, help="seconds for all steps")
    parser.add_argument("--limit", action="append", default=[], metavar="STEP=SECONDS")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    budget = options.budget or (BUDGET_OF_THE_BENCHMARK if options.whole_benchmark else BUDGET)
    limits = {name: float(value) for name, value in (x.split("=") for x in options.limit)}
    out = options.out.resolve()
    runner = Runner(out, budget, limits)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, runner.interrupted)
    plan = Plan(options.device, out, options.tests.resolve())
    if options.whole_benchmark:
        runner.run(plan.benchmark("whole", limit=int(budget) - 5))
    else:
        checks(runner, plan)
    archive = pack(out)
    print(f"\n{runner.summary()}{archive.name}: {archive.stat().st_size / 2**20:.1f} MiB")
    return 0 if all(result.passed for result in runner.results) else 1


if __name__ == "__main__":
    sys.exit(main())
