# SPDX-License-Identifier: Apache-2.0
"""The commands of ``python -m torch_gumbel``: plot, info, check, bench."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import torch_gumbel


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        print(f"torch_gumbel {options.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torch_gumbel",
        description="Pictures, build information, and a short benchmark.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    plot = commands.add_parser("plot", help="write pictures of samples, densities, and noise")
    plot.add_argument("--out", type=Path, required=True, metavar="DIR", help="created if missing")
    plot.add_argument("--seed", type=int, default=0, help="of the key (default: 0)")
    plot.set_defaults(run=_plot)

    info = commands.add_parser("info", help="print the build configuration and the devices in use")
    info.add_argument("--json", action="store_true", help="one line for programs")
    info.set_defaults(run=_info)

    check = commands.add_parser(
        "check", help="try whether results are right here, in a few seconds"
    )
    check.set_defaults(run=_check)

    bench = commands.add_parser("bench", help="compare with PyTorch's own functions, in a minute")
    bench.add_argument(
        "--seconds", type=_above_zero(float), default=45.0, help="of measuring (default: 45)"
    )
    bench.add_argument("--threads", type=_above_zero(int), help="default: PyTorch's own number")
    bench.add_argument("--device", default="cpu", help="default: cpu")
    bench.set_defaults(run=_bench)
    return parser


def _above_zero(kind: type[int] | type[float]) -> type:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    parse.__name__ = f"{kind.__name__} > 0"  # argparse: "invalid int > 0 value: '-1'"
    return parse  # type: ignore[return-value]


def _plot(options: argparse.Namespace) -> None:
    from torch_gumbel import plots

    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {options.out}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in plots.__all__:
        path = options.out / f"{name}.png"
        getattr(plots, name)(key=torch_gumbel.key(options.seed)).savefig(path)
        print(path)


def _info(options: argparse.Namespace) -> None:
    from torch_gumbel._library import _C, minors
    from torch_gumbel._self_check import device_code

    build = torch_gumbel.build_info()
    cuda = build["cuda"]
    lines: dict[str, object] = {
        "torch_gumbel": build["version"],
        "built for torch": minors(),
        "running torch": torch.__version__,
        "python": platform.python_version(),
        "python module": _C.__file__,
        "CUDA kernels": f"{cuda}, {build['cuda_architectures']}" if cuda else "not loaded",
        "CUDA of torch": torch.version.cuda,
        "code for CUDA devices": device_code(),
        "instruction sets": build["cpu_builds"].split(),
        "instruction set used": build["cpu_selected"],
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "library": str(Path(torch_gumbel.__file__).parent),
    }
    if options.json:
        print(json.dumps({name.replace(" ", "_").lower(): value for name, value in lines.items()}))
        return
    for name, value in lines.items():
        if isinstance(value, dict):
            value = [f"{device}: {'yes' if there else 'no'}" for device, there in value.items()]
        text = ", ".join(value) if isinstance(value, list) else str(value)
        print(f"{name:<22}{text or 'none'}")


def _check(options: argparse.Namespace) -> int:
    from torch_gumbel._self_check import checks

    failed = 0
    for name, check in checks():
        try:
            state, found = "ok", check()
        except Exception as error:  # the others are of use too
            state, found = "FAILED", str(error)
            failed += 1
        print(f"{name:<14}{state:<8}{found}", flush=True)
    return 1 if failed else 0


def _bench(options: argparse.Namespace) -> None:
    from torch_gumbel import _bench

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    _bench.run(torch.device(options.device), options.seconds)


if __name__ == "__main__":
    sys.exit(main())
