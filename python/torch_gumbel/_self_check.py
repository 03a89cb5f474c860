# SPDX-License-Identifier: Apache-2.0
"""``python -m torch_gumbel check``: whether this installation gives the right results here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

import torch_gumbel

# Of key(0): the first Gumbel values (the standard of every platform), and classes of equal logits.
_NOISE = ("0x1.5984aep-1", "-0x1.81d634p-1", "-0x1.24939ap-2", "0x1.28da32p-4")
_CLASSES = [0, 3, 0, 0, 1, 2, 2, 4]


def checks() -> Iterator[tuple[str, Callable[[], str]]]:
    """Name and check of everything to be tried. A check returns what it found, or raises."""
    yield "known words", lambda: _known_words(torch.device("cpu"))
    yield "gradient", lambda: _gradient(torch.device("cpu"))
    yield "distribution", lambda: _distribution(torch.device("cpu"))
    yield "threads", _threads
    for i in range(torch.cuda.device_count()):
        yield f"cuda:{i}", partial(_cuda, torch.device("cuda", i))


def device_code() -> dict[str, bool]:
    """For each GPU here, whether the CUDA kernels have code that it runs."""
    return {
        f"cuda:{i} {torch.cuda.get_device_name(i)}": _runs_on(torch.cuda.get_device_capability(i))
        for i in range(torch.cuda.device_count())
    }


def _runs_on(capability: tuple[int, int]) -> bool:
    """Code runs on its own major version from its minor on; PTX on everything later."""
    for name in torch_gumbel.build_info()["cuda_architectures"].split():
        number = name.removesuffix("+PTX").rstrip("af")
        built = tuple(int(part) for part in number.split("."))
        same_major = built[0] == capability[0] and built[1] <= capability[1]
        if same_major or (name.endswith("+PTX") and built <= capability):
            return True
    return False


def _wanted(what: str, wanted: object, got: object) -> None:
    if wanted != got:
        raise RuntimeError(f"wanted {what} {wanted}, got {got}")


def _known_words(device: torch.device) -> str:
    key = torch_gumbel.key(0)
    noise = torch_gumbel.sample_gumbel(4, device=device, key=key)
    _wanted("noise", [float.fromhex(value) for value in _NOISE], noise.tolist())
    classes = torch_gumbel.gumbel_argmax(torch.zeros(8, 5, device=device), key=key)
    _wanted("classes", _CLASSES, classes.tolist())
    return "as on every machine"


def _gradient(device: torch.device) -> str:
    """That of the relaxed sample, against its formula."""
    key, tau = torch_gumbel.key(1), 0.7
    logits = torch.linspace(-2, 2, 60, dtype=torch.float64, device=device).view(5, 12)
    logits.requires_grad_()
    sample = torch_gumbel.gumbel_softmax(logits, tau, hard=True, key=key)
    weights = torch.linspace(-1, 1, 60, dtype=torch.float64, device=device).view(5, 12)
    (grad,) = torch.autograd.grad((sample * weights).sum(), logits)
    y = torch_gumbel.gumbel_softmax(logits.detach(), tau, key=key)
    wanted = y * (weights - (y * weights).sum(-1, keepdim=True)) / tau
    error = (grad - wanted).abs().max().item()
    if not error < 1e-12:
        raise RuntimeError(f"wanted an error below 1e-12, got {error:.1e}")
    return f"largest error {error:.0e}"


def _distribution(device: torch.device) -> str:
    """A chi-squared test of 2 million choices: a right library fails once in a billion times."""
    probs = torch.tensor([0.5, 0.25, 0.15, 0.1, 0.0], device=device)
    draws = 2_000_000
    index = torch_gumbel.gumbel_argmax(probs.log().expand(draws, 5), key=torch_gumbel.key(2))
    counts = torch.bincount(index, minlength=5).double().cpu()
    expected = probs.double().cpu() * draws
    chi2 = ((counts[:4] - expected[:4]) ** 2 / expected[:4]).sum().item()
    if counts[4] or not chi2 < 44.0:  # P(chi2 with 3 degrees of freedom >= 44) = 1.5e-9
        raise RuntimeError(f"wanted choices by probability {probs.tolist()}, got {counts.tolist()}")
    return f"chi-squared {chi2:.1f} of 3 degrees of freedom, {draws:,} draws"


def _threads() -> str:
    """Threads of this process that a large call kept busy."""
    wanted = min(torch.get_num_threads(), len(os.sched_getaffinity(0)))
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        return f"{torch.get_num_threads()} allowed; counted on Linux alone"

    def busy() -> dict[str, int]:
        stats = {task.name: (task / "stat").read_text() for task in tasks.iterdir()}
        return {name: int(text.rpartition(")")[2].split()[11]) for name, text in stats.items()}

    logits = torch.zeros(4_000, 4_000)
    torch_gumbel.gumbel_softmax(logits)
    before = busy()
    for _ in range(20):
        torch_gumbel.gumbel_softmax(logits)
    used = {name: ticks - before.get(name, 0) for name, ticks in busy().items()}
    count = sum(ticks > 0.2 * max(used.values()) for ticks in used.values())
    if count < wanted:
        raise RuntimeError(f"wanted {wanted} busy threads, got {count}")
    return f"{count} busy"


def _cuda(device: torch.device) -> str:
    architectures = torch_gumbel.build_info()["cuda_architectures"]
    if not _runs_on(torch.cuda.get_device_capability(device)):
        raise RuntimeError(f"no code for this GPU, but for {architectures or 'none'}")
    return "; ".join(check(device) for check in (_known_words, _gradient, _distribution))
