# SPDX-License-Identifier: Apache-2.0
"""torch_gumbel against PyTorch, JAX, and Paddle on a CPU, in one run.

    python benchmarks/compare.py [--quick] [--threads N] [--out DIR]

All implementations of a case are checked, then timed in turn; a figure is the median of the rounds,
a ratio the median of the rounds' ratios. Writes RESULTS.md, results.json, and results.png to DIR (a
quick run only prints, unless DIR is given). `pip install --group bench` brings JAX and Paddle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import baselines
import machine
import report
from cases import Setting, cores, settings
from tqdm import tqdm
from worker import jobs

import torch_gumbel

HERE = Path(__file__).parent


def run_worker(setting: Setting, quick: bool, first: int) -> Iterator[dict[str, Any]]:
    """Results of the jobs from `first` on, and a record of the signal if the process died."""
    command = [sys.executable, str(HERE / "worker.py"), json.dumps(asdict(setting))]
    environment = {**os.environ, **baselines.environment(setting)}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*command, str(int(quick)), str(first)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        status = process.wait()
        if status > 0:  # an error of torch_gumbel: those of baselines are caught
            errors.seek(0)
            raise SystemExit(errors.read()[-4000:])
        if status < 0:
            yield {"died": f"signal {-status}", "setting": setting.name}


def run_setting(setting: Setting, quick: bool, bar: tqdm[Any]) -> list[dict[str, Any]]:
    """All jobs of a setting. A job in which a baseline ends the process is recorded and skipped."""
    total = len(jobs(setting, quick))
    found: list[dict[str, Any]] = []
    while len(found) < total:
        for record in run_worker(setting, quick, len(found)):
            found.append(record)
            bar.set_postfix_str(record.get("section", setting.name))
            bar.update()
    return found


def measure(quick: bool, threads: int) -> dict[str, Any]:
    where = machine.describe(threads)  # before the run, whose own load is not counted
    processes = settings(threads, torch_gumbel.build_info()["cpu_builds"].split())
    total = sum(len(jobs(setting, quick)) for setting in processes)
    records = []
    with tqdm(total=total, desc="cases", dynamic_ncols=True) as bar:
        for setting in processes:
            records += run_setting(setting, quick, bar)
    return {
        "machine": where,
        "quick": quick,
        "noise": [r for r in records if "noise" in r],
        "died": [r for r in records if "died" in r],
        "cases": [r for r in records if "entries" in r],
    }


def write(results: dict[str, Any], folder: Path) -> None:
    """Writes results.json with one case per line, so that runs can be compared by diff."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = ",\n".join("  " + json.dumps(case, separators=(",", ":")) for case in results["cases"])
    rest = {name: value for name, value in results.items() if name != "cases"}
    text = json.dumps(rest, indent=1).removesuffix("\n}") + f',\n "cases": [\n{cases}\n ]\n}}\n'
    (folder / "results.json").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases, a minute")
    parser.add_argument("--threads", type=int, default=cores(), help="N of the N-thread cases")
    parser.add_argument("--out", type=Path, help="folder to write to")
    options = parser.parse_args()
    results = measure(options.quick, options.threads)
    print(report.markdown(results))
    folder = options.out or (None if options.quick else HERE)
    if folder:
        write(results, folder)
        report.write(results, folder)


if __name__ == "__main__":
    main()
