# SPDX-License-Identifier: Apache-2.0
"""torch_gumbel's other functions against the PyTorch code they replace, on one thread of a CPU.

Each line is the fastest of several rounds, with both timed alternately in every round; float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from torch_gumbel import (
    gumbel_argmax,
    gumbel_sigmoid,
    hard_concrete,
    key,
    kl_categorical,
    straight_through_lookup,
)

KEY = key(2016)


def timed(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of as many runs as fit."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    times = [float("inf"), float("inf")]
    for _ in range(3):
        for i, work in enumerate((ours, theirs)):
            times[i] = min(times[i], timed(work, 1.0))
    fast, slow = times
    print(f"{name:<58} {1e3 * fast:8.2f} ms {1e3 * slow:9.2f} ms {slow / fast:7.1f}x")


def index() -> None:
    x = torch.randn(256, 32_000)
    compare(
        "gumbel_argmax | softmax + multinomial (256, 32000)",
        lambda: gumbel_argmax(x),
        lambda: x.softmax(-1).multinomial(1),
    )
    compare(
        "gumbel_argmax, 8 samples | softmax + multinomial of 8",
        lambda: gumbel_argmax(x[:64], num_samples=8),
        lambda: x[:64].softmax(-1).multinomial(8, replacement=True),
    )


def eager_gate(x: torch.Tensor, tau: float = 0.7) -> torch.Tensor:
    """With the logistic noise of one uniform number."""
    v = torch.rand_like(x)
    return ((x + v.log() - (-v).log1p()) / tau).sigmoid()


def eager_hard_gate(x: torch.Tensor) -> torch.Tensor:
    v = torch.rand_like(x)
    return (x + v.log() - (-v).log1p() > 0).to(x.dtype)


def eager_concrete(x: torch.Tensor) -> torch.Tensor:
    return (eager_gate(x, 2 / 3) * 1.2 - 0.1).clamp(0, 1)


def gates() -> None:
    x = torch.randn(4096, 1024)
    leaf = x.clone().requires_grad_()
    for name, ours, theirs in (
        ("hard", lambda: gumbel_sigmoid(x, hard=True), lambda: eager_hard_gate(x)),
        ("soft", lambda: gumbel_sigmoid(x, 0.7), lambda: eager_gate(x)),
        ("tau 1", lambda: gumbel_sigmoid(x), lambda: eager_gate(x, 1.0)),
        (
            "both ways",
            lambda: both_ways(leaf, lambda x: gumbel_sigmoid(x, 0.7)),
            lambda: both_ways(leaf, eager_gate),
        ),
    ):
        compare(f"gumbel_sigmoid, {name} | its formula (4096, 1024)", ours, theirs)
    compare(
        "hard_concrete | its formula (4096, 1024)",
        lambda: hard_concrete(x),
        lambda: eager_concrete(x),
    )
    compare(
        "hard_concrete, both ways | its formula (4096, 1024)",
        lambda: both_ways(leaf, hard_concrete),
        lambda: both_ways(leaf, eager_concrete),
    )


def lookup() -> None:
    x, codebook = torch.randn(1024, 8192), torch.randn(8192, 64)
    compare(
        "straight_through_lookup | F.gumbel_softmax(hard) @ codebook",
        lambda: straight_through_lookup(x, codebook),
        lambda: F.gumbel_softmax(x, hard=True) @ codebook,
    )


def both_ways(leaf: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.autograd.grad(function(leaf).sum(), leaf)


def kl_of_logits(x: torch.Tensor) -> torch.Tensor:
    log_q = x.log_softmax(-1)
    return (log_q.exp() * (log_q + torch.tensor(float(x.size(-1))).log())).sum(-1)


def kl_of_probs(p: torch.Tensor) -> torch.Tensor:
    return (p * (p.log() + torch.tensor(float(p.size(-1))).log())).sum(-1)


def relative_entropy() -> None:
    x = torch.randn(8192, 1024).requires_grad_()
    p = x.detach().softmax(-1).requires_grad_()
    compare(
        "kl_categorical(logits), both ways | formula (8192, 1024)",
        lambda: both_ways(x, kl_categorical),
        lambda: both_ways(x, kl_of_logits),
    )
    compare(
        "kl_categorical(probs=), both ways | formula (8192, 1024)",
        lambda: both_ways(p, lambda p: kl_categorical(probs=p)),
        lambda: both_ways(p, kl_of_probs),
    )


PARTS = {"index": index, "gates": gates, "lookup": lookup, "kl": relative_entropy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    wanted = parser.parse_args().part or list(PARTS)
    torch.set_num_threads(1)
    print(f"{'torch_gumbel | replaced code':<58} {'ours':>11} {'theirs':>12} {'ratio':>8}")
    for part in wanted:
        PARTS[part]()


if __name__ == "__main__":
    main()
