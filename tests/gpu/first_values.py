# SPDX-License-Identifier: Apache-2.0
"""One call of each op on each family of CUDA kernels, and of each operation with its backward
(first_operations.py), against values of the CPU.

    python first_values.py          compares with first_values.pt beside this file, or, if it is not
                                    there, with this machine's CPU
    python first_values.py --write  writes that file
    python first_values.py --long-rows
                                    the rows alone that clusters of blocks hold if
                                    TORCH_GUMBEL_CUDA_CLUSTERS=1

Noise, scores, choices, and keys must have the CPU's bits, soft samples and gradients be near. Exit
code 1: wrong values; 3: the library cannot be loaded for CUDA.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

try:
    import torch_gumbel
except ImportError as error:
    print(error)
    sys.exit(3)
import first_operations
from first_operations import Values

STORED = Path(__file__).with_name("first_values.pt")
TAU = 0.7
HELD = ", key on the device"
LONG = 16385  # classes that a row needs for a cluster
ops = torch.ops.torch_gumbel


class Case(NamedTuple):
    family: str
    shape: tuple[int, ...]
    dim: int = 1
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)
    start: int = 0  # of the classes: rows that begin off a boundary


CASES = (
    Case("tile, 7 classes", (300, 7)),
    Case("tile, 100 classes", (40, 100), 1, (torch.float32, torch.float16)),
    Case("warp", (9, 1000)),
    Case("block", (3, 5000)),
    Case("block, 64 a thread, or looped", (2, 9001)),
    Case("multi-block", (1, 40000)),
    Case("looped", (1200, 16400)),
    Case("multi-block of 20 rows", (20, 128256)),
    Case("multi-block of 20 longer rows", (20, 200001)),
    Case("warp, off a boundary", (9, 1003), start=3),
    Case("multi-block, off a boundary", (2, 40003), start=3),
    Case("spatial", (2, 21, 8, 8)),
    Case("generic", (37, 30), 1, (torch.float64,)),
    Case("generic, strided", (37, 30), 0, (torch.float32,)),
)


def some(shape: tuple[int, ...], dtype: torch.dtype, factor: int) -> torch.Tensor:
    """Values in [-3, 3], in the same bits everywhere."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * factor % 601 - 300) / 100.0).view(shape).to(dtype)


def last_rows(values: Values, case: Case) -> Values:
    """Of many rows, the first and the last."""
    if case.shape[0] * case.shape[1] < 2**20:
        return values
    return {name: value[[0, -1]] if value.dim() else value for name, value in values.items()}


def exact(values: Values) -> Values:
    """What must have the CPU's bits, as integers."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    for name in ("noise", "largest score"):
        values[name] = values[name].view(integers[values[name].element_size()])
    return values


def values_of(case: Case, dtype: torch.dtype, device: str, key: torch.Tensor) -> Values:
    logits, grad = some(case.shape, dtype, 7919), some(case.shape, dtype, 104729)
    x, g = (tensor.to(device)[:, case.start :] for tensor in (logits, grad))
    dim = case.dim
    tau = torch.tensor(TAU, dtype=torch.float64)
    y = ops._gumbel_softmax(x, tau, key, dim, False)
    one_hot, beside = ops._gumbel_softmax_hard_soft(x, tau, key, dim)
    found = {
        "noise": torch_gumbel.gumbel_like(x, key=key),
        "soft": y,
        "largest score": ops._gumbel_max(x, tau, key, dim, False)[0],
        "index": torch_gumbel.gumbel_argmax(x, dim, temperature=TAU, key=key),
        "hard": torch_gumbel.gumbel_softmax(x, TAU, True, dim=dim, key=key).argmax(dim),
        "hard beside soft": one_hot.argmax(dim),
        "soft beside hard": beside,
        "gradient": ops._gumbel_softmax_backward(g, y, tau, dim)[0],
        "gradient again": ops._gumbel_softmax_hard_backward(g, x, tau, key, dim)[0],
    }
    return exact({name: value.cpu() for name, value in last_rows(found, case).items()})


def keys_of(device: str) -> Values:
    one = torch_gumbel.key(5).to(device)
    return {
        "fold_in": torch_gumbel.fold_in(one, 7).cpu(),
        "split": torch_gumbel.split(one, 100).cpu(),
        "gumbel_at": torch_gumbel.gumbel_at(torch.arange(300, device=device), 300, key=one).cpu(),
    }


def fault_of(what: str, got: torch.Tensor, wanted: torch.Tensor, dim: int | None) -> str:
    """What is wrong, or nothing. A gradient is a difference, which in a row that one class
    dominates is small beside its terms: its error is compared with the largest of all rows, as
    without a dimension."""
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        return f"{got.dtype} {tuple(got.shape)}"
    if not wanted.is_floating_point():
        wrong = int((got != wanted).sum())
        return f"{wrong} of {wanted.numel()} differ" if wrong else ""
    relative = 2e-2 if wanted.element_size() == 2 else 1e-3
    among = None if what.startswith("gradient") else dim
    got, wanted = got.double(), wanted.double()
    scale = wanted.abs().where(wanted.isfinite(), 0).amax(among, keepdim=True) + 1e-30
    same = (got == wanted) | (got.isnan() & wanted.isnan())  # infinities too
    error = ((got - wanted).abs() / scale).where(~same, 0).nan_to_num(torch.inf).max().item()
    return f"off by {error:.3g} of the largest" if error > relative else ""


def everything(
    device: str, least: int = 0
) -> Iterator[tuple[str, int | None, Callable[[], Values]]]:
    """(name, dimension of rows, what computes its values); with `least`, of rows of so many
    classes alone."""
    host = torch_gumbel.key(3)
    held = host.to(device)
    if not least:
        yield "keys", 0, partial(keys_of, device)
    for case in CASES if not least else (c for c in CASES if c.shape[1] >= least):
        for dtype in case.dtypes:
            name = f"{case.family}, {str(dtype).removeprefix('torch.')}"
            yield name, case.dim, partial(values_of, case, dtype, device, host)
            if device != "cpu":
                yield f"{name}{HELD}", case.dim, partial(values_of, case, dtype, device, held)
    if least:
        return
    for name, _, values in first_operations.everything(device, host):
        yield name, None, values
    for name, random, values in first_operations.everything(device, held):
        if random and device != "cpu":
            yield f"{name}{HELD}", None, values


def of_the_cpu() -> dict[str, Values]:
    return {name: values() for name, _, values in everything("cpu")}


def compare(stored: dict[str, Values], least: int = 0) -> int:
    """Compares all, or long rows; whatever fails of one case stops no other."""
    faults = compared = 0
    for name, dim, values in everything("cuda", least):
        try:
            found = values()
        except Exception as error:
            faults += 1
            print(f"{name}: {type(error).__name__}: {error}".splitlines()[0], flush=True)
            continue
        wanted = stored[name.removesuffix(HELD)]
        for what, value in found.items():
            compared += 1
            if fault := fault_of(what, value, wanted[what], dim):
                faults += 1
                print(f"{name}, {what}: {fault}", flush=True)
        print(f"{name}: looked at", flush=True)
    print(f"values: {compared} results compared, {faults} wrong")
    return 1 if faults or not compared else 0


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        torch.save(of_the_cpu(), STORED)
        return 0
    if not torch.cuda.is_available() or not torch_gumbel.build_info()["cuda"]:
        print(f"no CUDA: {torch_gumbel.build_info()}, torch {torch.__version__}")
        return 3
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(0)}", flush=True)
    stored = torch.load(STORED) if STORED.exists() else of_the_cpu()
    return compare(stored, LONG if sys.argv[1:] == ["--long-rows"] else 0)


if __name__ == "__main__":
    sys.exit(main())
