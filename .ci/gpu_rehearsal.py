# SPDX-License-Identifier: Apache-2.0
"""`make gpu-rehearsal`: the bundle of `make gpu-bundle` as on a machine with a GPU, without one.

It is unpacked into an empty folder and run, without a network, by a fresh environment of Python
3.12 that has torch 2.11, what torch depends on, and pytest. Imports, files, the collection of
tests, writers, and time limits are those of a run on a GPU. Tensors lie on the CPU
(tests/gpu/stand_in.py), the C++ tests skip, and compute-sanitizer is a stand-in, of which one tool
hangs and one fails.

    python .ci/gpu_rehearsal.py [--from-source]   with it, also as if the libraries did not fit
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import xml.etree.ElementTree
from pathlib import Path

from build_gpu_bundle import BUNDLE, PYTHON, VERSION, interpreter
from torches import ROOT, unpacked

FOLDER = ROOT / "build" / "gpu-rehearsal"
# What the wheel of torch needs that is not NVIDIA's, and pytest.
PACKAGES = ("filelock", "typing-extensions", "setuptools<82", "sympy", "networkx", "jinja2",
            "fsspec", "pytest")  # fmt: skip
EXPECTED = {
    **dict.fromkeys(("machine", "first", "listing", "gtest", "words", "quick", "pytest"), "passed"),
    **dict.fromkeys(("clusters", "clusters-quick"), "passed"),
    **dict.fromkeys(("memcheck", "racecheck"), "passed"),
    "synccheck": "time limit",
    "initcheck": "FAILED (9)",
}
LINES_OF_A_SCREEN = 40
# This machine may be slower than one with a GPU, and busy.
SLOW = 1800
LIMITS = ["--budget", "7200", "--limit", "synccheck=5"]
LIMITS += [f"--limit={name}={SLOW}" for name in EXPECTED if name != "synccheck"]


def environment() -> Path:
    """Its interpreter."""
    folder = FOLDER / "venv"
    subprocess.run([interpreter(), "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PACKAGES], check=True)
    torch = unpacked(VERSION, python=".".join(map(str, PYTHON)))
    libraries = Path(sysconfig.get_path("platlib")) / "nvidia"
    if not libraries.is_dir():
        sys.exit(f"gpu-rehearsal: wanted NVIDIA's libraries in {libraries}, as torch brings them")
    (torch / "nvidia").unlink(missing_ok=True)  # wheels of one CUDA major version agree on these
    (torch / "nvidia").symlink_to(libraries)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "torch.pth").write_text(f"{torch}\n")
    return python


def without_network() -> list[str]:
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and subprocess.run([*command, "true"]).returncode == 0:
            return command
    sys.exit("gpu-rehearsal: wanted unshare(1) with the right to leave the network, got none")


def stand_in(folder: Path) -> None:
    script = folder / "compute-sanitizer"
    source = ROOT / ".ci" / "compute_sanitizer.py"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{source}" "$@"\n')
    script.chmod(0o755)


def run(python: Path, bundle: Path, out: Path, *options: str) -> None:
    """Like the command on that machine, in an empty folder."""
    tools = FOLDER / "tools"
    tools.mkdir(exist_ok=True)
    stand_in(tools)
    path = os.pathsep.join([str(tools), str(python.parent), os.environ["PATH"]])
    variables = {
        "PATH": path,
        "HOME": str(FOLDER),
        "PYTHON": str(python),
        "CUDA_VISIBLE_DEVICES": "",
    }
    for name in ("TORCH_CUDA_ARCH_LIST", *filter(lambda n: n.startswith("CCACHE"), os.environ)):
        if name in os.environ:
            variables[name] = os.environ[name]
    command = [
        *without_network(),
        "sh",
        bundle / "run.sh",
        "--device",
        "cpu",
        "--out",
        out,
        *options,
    ]
    begin = time.monotonic()
    subprocess.run(list(map(str, command)), env=variables, cwd=FOLDER)
    print(f"{time.monotonic() - begin:.0f} s\n", flush=True)


def statuses(out: Path) -> dict[str, str]:
    return {step["name"]: step["status"] for step in json.loads((out / "steps.json").read_text())}


def faults_of_checks(out: Path) -> list[str]:
    faults = []
    if (found := statuses(out)) != EXPECTED:
        faults.append(f"wanted {EXPECTED}, got {found}")
    if found != EXPECTED:
        return faults
    for name in ("quick", "clusters-quick"):
        if not json.loads((out / name / "gpu.json").read_text())["cases"]:
            faults.append(f"the benchmark {name} wrote no case")
    ran = xml.etree.ElementTree.parse(out / "pytest.xml").getroot().findall(".//testcase")
    skipped = [case for case in ran if case.find("skipped") is not None]
    print(f"pytest: {len(ran)} tests, {len(skipped)} skipped")
    if len(ran) < 100 or len(skipped) > 10:
        faults.append(f"pytest: {len(ran)} tests, {len(skipped)} skipped")
    for name, least in (("gtest", 20), ("words", 3), ("memcheck", 6)):
        tests = json.loads((out / f"{name}.json").read_text())["tests"]
        if tests < least:
            faults.append(f"{name}: wanted at least {least} C++ tests, got {tests}")
    if len((out / "summary.txt").read_text().splitlines()) > LINES_OF_A_SCREEN:
        faults.append("the summary is longer than a screen")
    with tarfile.open(out / "results.tar.gz") as archive:
        names = {Path(name).name for name in archive.getnames()}
    wanted = {f"{step}.log" for step in EXPECTED} | {"summary.txt", "steps.json", "gpu.json"}
    if wanted - names or (out / "results.tar.gz").stat().st_size >= 16 * 2**20:
        faults.append(f"the archive lacks {wanted - names}, or is too large")
    return faults


def from_source(python: Path, bundle: Path) -> list[str]:
    """As if the libraries fitted no torch: they are built, and the first step passes."""
    shutil.rmtree(bundle / "python" / "torch_gumbel" / "lib" / "torch-2.11")
    out = FOLDER / "source"
    run(python, bundle, out, *LIMITS, "--limit=source=3600")
    steps = json.loads((out / "steps.json").read_text())
    found = [(step["name"], step["status"]) for step in steps]
    wanted = [("first", "FAILED (3)"), ("source", "passed"), ("first-again", "passed")]
    wanted += [(name, "passed") for name in ("gtest", "words", "quick", "pytest")]
    return [f"from source: no {step} in {found}" for step in wanted if step not in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--from-source", action="store_true")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with tarfile.open(BUNDLE.with_suffix(".tar.gz")) as archive:
        archive.extractall(FOLDER / "empty", filter="data")
    bundle, python = FOLDER / "empty" / BUNDLE.name, environment()
    run(python, bundle, FOLDER / "checks", *LIMITS)
    faults = faults_of_checks(FOLDER / "checks")
    run(
        python,
        bundle,
        FOLDER / "whole",
        "--whole-benchmark",
        f"--limit=whole={SLOW}",
        "--budget=900",
    )
    if statuses(FOLDER / "whole") != {"whole": "passed"}:
        faults.append(f"the whole benchmark: {statuses(FOLDER / 'whole')}")
    if options.from_source:
        faults += from_source(python, bundle)
    print(*faults, "gpu-rehearsal: " + ("FAILED" if faults else "as it should be"), sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
