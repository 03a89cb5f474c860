# SPDX-License-Identifier: Apache-2.0
"""`make wheel-test`: the wheel in dist/ in an environment of every supported torch.

An environment has the version's own torch and, as PyTorch's wheels of one CUDA major version agree
on their NVIDIA libraries, everything else from this interpreter's environment. In each: the Python
tests from outside the source tree, a C++ program built and run against the installed package, and,
with the newest torch, the tests once more without `_C` and the message for an unknown torch.

    python .ci/test_wheel.py [--torch 2.12 ...] [--jobs N] [-- options of pytest]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from torches import ROOT, minor, unpacked, versions

BUILD = ROOT / "build" / "wheel-test"
SHARED = Path(sysconfig.get_path("platlib"))


def environment(version: str) -> Path:
    """A fresh virtual environment with that torch; returns its interpreter."""
    folder = BUILD / f"torch-{minor(version)}"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('platlib'))"
    site = Path(subprocess.run([python, "-c", ask], capture_output=True, text=True).stdout.strip())
    # Beside the wheel, as pip installs it (by hard links): torch finds its NVIDIA libraries there.
    for package in filter(Path.is_dir, unpacked(version).iterdir()):
        shutil.copytree(package, site / package.name, copy_function=os.link)
    if (SHARED / "nvidia").exists():
        (site / "nvidia").symlink_to(SHARED / "nvidia")
    (site / "shared.pth").write_text(f"{SHARED}\n")
    # An older setuptools than the shared one, where a Python brings one.
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "setuptools"], check=True)
    (wheel,) = (ROOT / "dist").glob(f"*{os.uname().machine}.whl")
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    return python


def outside(python: Path, *arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    """Runs the interpreter in an empty folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), *map(str, arguments)]
        variables = os.environ | {"PATH": path, "PYTHONPATH": ""}
        return subprocess.run(command, cwd=folder, env=variables, text=True, **more)  # type: ignore


def first_sample(python: Path) -> None:
    code = (
        "import torch, torch_gumbel as t; "
        "print(torch.__version__, t._C.__name__, t.__file__, t.gumbel_argmax(torch.zeros(3)))"
    )
    outside(python, "-c", code, check=True)
    outside(python, "-m", "torch_gumbel", "check", check=True)


def tests(python: Path, name: str, jobs: int, more: list[str]) -> bool:
    """All tests, in several processes; then those that failed beside others, alone."""
    log, cache = BUILD / f"{name}.log", BUILD / f"{name}.cache"
    shutil.rmtree(cache, ignore_errors=True)
    options = [f"--rootdir={ROOT}", "-o", f"cache_dir={cache}", "--color=no", *more]
    beside = ["-n", jobs, "--dist=loadfile"] if jobs > 1 else []
    with log.open("w") as file:
        for these in (beside, ["--last-failed"]):
            command = ["-m", "pytest", *options, *these, ROOT / "tests" / "python"]
            done = outside(python, *command, stdout=file, stderr=file)
            file.flush()
            print(f"{name}: {log.read_text().splitlines()[-1]}", flush=True)
            if done.returncode == 0:
                return True
    return False


def consumer(python: Path, version: str) -> None:
    """A C++ program against the installed package, found as the documentation says."""
    ask = "import torch_gumbel; print(torch_gumbel.cmake_prefix_path)"
    prefix = outside(python, "-c", ask, check=True, capture_output=True).stdout.strip()
    build = BUILD / f"consumer-{minor(version)}"
    shutil.rmtree(build, ignore_errors=True)
    source = ROOT / "tests" / "cpp" / "consumer"
    tools = Path(sys.executable).parent
    configure = ["cmake", "-S", source, "-B", build, "-GNinja", f"-DCMAKE_PREFIX_PATH={prefix}"]
    for command in (configure, ["cmake", "--build", build], [build / "consumer"]):
        variables = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
    print(f"torch {version}, C++: {done.stdout.strip()}", flush=True)


def refusal(python: Path) -> None:
    """An unknown torch is refused in words."""
    code = "import torch; torch.__version__ = '2.99.0'; import torch_gumbel"
    last = outside(python, "-c", code, capture_output=True).stderr.strip().splitlines()[-1]
    minors = ", ".join(map(minor, versions()))
    if not re.search(rf"ImportError: .* is built for torch {minors}, but torch 2.99.0 is", last):
        raise SystemExit(f"wanted a refusal of torch 2.99.0, got: {last}")
    print(last)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch", nargs="*", help="minor versions (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options, more = parser.parse_known_args()
    more = [word for word in more if word != "--"]
    chosen = [v for v in versions() if not options.torch or minor(v) in options.torch]
    passed = []
    for version in reversed(chosen):
        start = time.monotonic()
        python = environment(version)
        first_sample(python)
        consumer(python, version)
        passed.append(tests(python, f"torch-{minor(version)}", options.jobs, more))
        print(f"torch {version}: {time.monotonic() - start:.0f} s", flush=True)
    if versions()[-1] in chosen:
        python = environment(versions()[-1])
        refusal(python)
        for module in python.parent.parent.rglob("torch_gumbel/lib/torch-*/_C*.so"):
            module.unlink()
        passed.append(tests(python, "without _C", options.jobs, more))
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
