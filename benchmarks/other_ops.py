# SPDX-License-Identifier: Apache-2.0
"""torch_gumbel's other functions against the PyTorch code they replace, on one thread of a CPU.

Each line is the fastest of several rounds, with both timed alternately in every round; float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import eager_forms as eager
import torch
import torch.nn.functional as F

from torch_gumbel import (
    distributions,
    gumbel_argmax,
    gumbel_sigmoid,
    gumbel_subset,
    hard_concrete,
    key,
    kl_categorical,
    log_prob_entropy,
    sample_logits,
    sample_one_hot,
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


def gates() -> None:
    x = torch.randn(4096, 1024)
    leaf = x.clone().requires_grad_()
    for name, ours, theirs in (
        ("hard", lambda: gumbel_sigmoid(x, hard=True), lambda: eager.hard_gate(x)),
        ("soft", lambda: gumbel_sigmoid(x, 0.7), lambda: eager.gate(x)),
        ("tau 1", lambda: gumbel_sigmoid(x), lambda: eager.gate(x, 1.0)),
        (
            "both ways",
            lambda: both_ways(leaf, lambda x: gumbel_sigmoid(x, 0.7)),
            lambda: both_ways(leaf, eager.gate),
        ),
    ):
        compare(f"gumbel_sigmoid, {name} | its formula (4096, 1024)", ours, theirs)
    compare(
        "hard_concrete | its formula (4096, 1024)",
        lambda: hard_concrete(x),
        lambda: eager.concrete(x),
    )
    compare(
        "hard_concrete, both ways | its formula (4096, 1024)",
        lambda: both_ways(leaf, hard_concrete),
        lambda: both_ways(leaf, eager.concrete),
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


def relative_entropy() -> None:
    x = torch.randn(8192, 1024).requires_grad_()
    p = x.detach().softmax(-1).requires_grad_()
    compare(
        "kl_categorical(logits), both ways | formula (8192, 1024)",
        lambda: both_ways(x, kl_categorical),
        lambda: both_ways(x, eager.kl_of_logits),
    )
    compare(
        "kl_categorical(probs=), both ways | formula (8192, 1024)",
        lambda: both_ways(p, lambda p: kl_categorical(probs=p)),
        lambda: both_ways(p, eager.kl_of_probs),
    )


def filtered_draws() -> None:
    for classes in (151_936, 32_000, 4096, 1024):
        x = torch.randn((1 << 22) // classes, classes) * 3
        for filters in (
            {"top_p": 0.9},
            {"top_k": 50},
            {"min_p": 0.05},
            {"top_k": 50, "top_p": 0.9, "min_p": 0.05},
        ):
            name = ", ".join(f"{name} {value}" for name, value in filters.items())
            compare(
                f"sample_logits, {name} | sort (., {classes})",
                lambda x=x, f=filters: sample_logits(x, **f),
                lambda x=x, f=filters: eager.filtered(x, **f),
            )


def laws_of(classes: int) -> None:
    x = torch.randn((1 << 22) // classes, classes)
    leaf, index = x.clone().requires_grad_(), x.argmax(-1)
    compare(
        f"log_prob_entropy, both ways | formula (., {classes})",
        lambda: both_ways(leaf, lambda x: torch.stack(log_prob_entropy(x, index))),
        lambda: both_ways(leaf, lambda x: eager.law_of(x, index)),
    )
    compare(
        f"gumbel_argmax + log_prob_entropy | Categorical (., {classes})",
        lambda: log_prob_entropy(x, gumbel_argmax(x)),
        lambda: eager.draw_and_law(x),
    )


def laws() -> None:
    for classes in (1024, 32_000, 151_936):
        laws_of(classes)
    x = torch.randn(100_000)
    law, p = distributions.Categorical(logits=x), x.softmax(-1)
    compare(
        "100,000 draws of distributions.Categorical | multinomial",
        lambda: law.sample((100_000,)),
        lambda: p.multinomial(100_000, replacement=True),
    )


def one_hots_of(classes: int) -> None:
    leaf = torch.randn((1 << 22) // classes, classes).requires_grad_()
    grad = torch.randn_like(leaf)
    for estimator, theirs in (
        ("straight-through", eager.straight_through),
        ("reinmax", eager.ReinMax.apply),
        ("gapped", eager.gapped),
    ):
        compare(
            f"sample_one_hot, {estimator}, both ways (., {classes})",
            lambda e=estimator: torch.autograd.grad(sample_one_hot(leaf, e), leaf, grad),
            lambda f=theirs: torch.autograd.grad(f(leaf), leaf, grad),
        )


def one_hots() -> None:
    for classes in (32, 1024, 32_000):
        one_hots_of(classes)


def subsets() -> None:
    leaf = torch.randn(512, 1024).requires_grad_()
    x, grad = leaf.detach(), torch.randn_like(leaf)
    compare(
        "gumbel_subset, k 8 | k softmaxes (512, 1024)",
        lambda: gumbel_subset(x, 8),
        lambda: eager.subset(x, 8),
    )
    compare(
        "gumbel_subset, k 8, both ways | k softmaxes (512, 1024)",
        lambda: torch.autograd.grad(gumbel_subset(leaf, 8), leaf, grad),
        lambda: torch.autograd.grad(eager.subset(leaf, 8), leaf, grad),
    )


PARTS = {
    "index": index,
    "gates": gates,
    "lookup": lookup,
    "kl": relative_entropy,
    "draws": filtered_draws,
    "laws": laws,
    "one_hots": one_hots,
    "subsets": subsets,
}


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
