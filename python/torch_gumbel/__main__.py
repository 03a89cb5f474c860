# SPDX-License-Identifier: Apache-2.0
"""The commands of ``python -m torch_gumbel``: plot, info, bench."""

from __future__ import annotations

import argparse
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
        options.run(options)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        print(f"torch_gumbel {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


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
    info.set_defaults(run=_info)

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
    build = torch_gumbel.build_info()
    cuda = build["cuda"]
    lines = {
        "torch_gumbel": build["version"],
        "built for torch": build["torch"],
        "running torch": torch.__version__,
        "python": platform.python_version(),
        "CUDA kernels": f"{cuda}, {build['cuda_architectures']}" if cuda else "not built",
        "CUDA devices": _cuda_devices(),
        "instruction sets": build["cpu_builds"],
        "instruction set used": build["cpu_selected"],
        "threads": str(torch.get_num_threads()),
        "library": str(Path(torch_gumbel.__file__).parent),
    }
    for name, value in lines.items():
        print(f"{name:<22}{value}")


def _cuda_devices() -> str:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names) or "none"


def _bench(options: argparse.Namespace) -> None:
    from torch_gumbel import _bench

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    _bench.run(torch.device(options.device), options.seconds)


if __name__ == "__main__":
    sys.exit(main())
