# SPDX-License-Identifier: Apache-2.0
"""Pruning the units of a classifier by hard-concrete gates (Louizos, Welling, Kingma 2018).

Every input and hidden unit of a 64-300-100-10 network on scikit-learn's 8x8 digits has a gate in
[0, 1] that is exactly 0 with a learned probability; the expected number of open gates is part of
the loss. A common fault draws a gate's noise from one Gumbel variable instead of a logistic one,
the difference of two: such gates open more often than the penalty counts.

    python examples/l0_pruning.py  # some minutes on a CPU

Prints, for several penalties, the units that are open in evaluation, the test accuracy, and the
number of gates that are open in training beside what the penalty says it is; writes one picture.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import tqdm

import torch_gumbel
from torch_gumbel.nn import HardConcrete

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = (64, 300, 100, 10)
UNITS = sum(SIZES[:-1])
PENALTIES = (0.1, 0.3, 1.0, 3.0, 6.0, 12.0, 24.0)  # nats for all units open
BATCH = 64
EPOCHS = 80
LEARNING_RATE = 2e-3
GATE_LEARNING_RATE = 2e-2
DRAWS = 4096


class Digits(NamedTuple):
    """(B, 64) images in [0, 1] and their classes, in training and test."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


class Result(NamedTuple):
    """``drawn`` and ``counted``: (UNITS,) probabilities that a gate is not 0 in training, as its
    samples have it and as the penalty does."""

    penalty: float
    open_units: int
    accuracy: float
    drawn: Tensor
    counted: Tensor


def load_data() -> Digits:
    digits = load_digits()
    images = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order.tensor_split([round(0.8 * len(images))])
    return Digits(images[train], labels[train], images[test], labels[test])


class SingleGumbelGate(HardConcrete):
    """The fault: one Gumbel variable as the noise of a gate."""

    def sample(
        self, *, generator: torch.Generator | None = None, key: Tensor | None = None
    ) -> Tensor:
        noise = torch_gumbel.gumbel_like(self.log_alpha, generator=generator, key=key)
        gate = torch.sigmoid((self.log_alpha + noise) / self.tau)
        return (gate * (self.upper - self.lower) + self.lower).clamp(0, 1)


GATES: dict[str, type[HardConcrete]] = {
    "hard concrete": HardConcrete,
    "one Gumbel (fault)": SingleGumbelGate,
}


class Classifier(nn.Module):
    """The network; ``gate`` None: dense."""

    def __init__(self, gate: type[HardConcrete] | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(SIZES)
        )
        self.gates = nn.ModuleList(gate((size,), init_open=0.9) for size in SIZES[:-1] if gate)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(self.gates[i](x) if self.gates else x)
            x = F.relu(x) if i < len(self.layers) - 1 else x
        return x

    def penalty(self) -> Tensor:
        """The expected share of open gates."""
        gates = [gate.penalty() for gate in self.gates]
        return torch.stack(gates).sum() / UNITS if gates else torch.zeros(())

    @torch.no_grad()
    def open_units(self) -> int:
        return sum(gate.num_open() for gate in self.gates) if self.gates else UNITS


def train(data: Digits, gate: type[HardConcrete] | None, penalty: float, epochs: int) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(gate)
    groups = [{"params": model.layers.parameters(), "weight_decay": 1e-3}]
    if gate:
        rate = {"lr": GATE_LEARNING_RATE, "weight_decay": 0.0}
        groups.append({"params": model.gates.parameters(), **rate})
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train)).split(BATCH):
            loss = F.cross_entropy(model(data.train[batch]), data.train_labels[batch])
            optimizer.zero_grad()
            (loss + penalty * model.penalty()).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: Classifier, data: Digits) -> float:
    return float((model(data.test).argmax(-1) == data.test_labels).float().mean())


@torch.no_grad()
def open_probabilities(model: Classifier, draws: int = DRAWS) -> tuple[Tensor, Tensor]:
    """(UNITS,) each: the share of draws in which a gate is not 0, and the penalty's terms."""
    drawn, counted = [], []
    for gate in model.gates:
        drawn.append(torch.stack([gate.sample() > 0 for _ in range(draws)]).float().mean(0))
        counted.append(
            torch_gumbel.hard_concrete_penalty(gate.log_alpha, gate.tau, gate.lower, gate.upper)
        )
    return torch.cat(drawn), torch.cat(counted)


def study(data: Digits, epochs: int) -> dict[str, list[Result]]:
    runs = list(itertools.product(GATES, PENALTIES))
    found: dict[str, list[Result]] = {}
    for name, penalty in tqdm(runs, desc="training", unit="network"):
        model = train(data, GATES[name], penalty, epochs)
        measured = open_probabilities(model)
        result = Result(penalty, model.open_units(), accuracy(model, data), *measured)
        found.setdefault(name, []).append(result)
    return found


def print_table(results: dict[str, list[Result]], dense: float) -> None:
    print(
        f"{'gates':20}{'penalty':>8}{'open units':>12}{'accuracy':>10}{'E[open]':>9}{'counted':>9}"
    )
    print(f"{'none (dense)':20}{'':8}{UNITS:12}{100 * dense:9.1f} %")
    for name, rows in results.items():
        for row in rows:
            print(
                f"{name:20}{row.penalty:8g}{row.open_units:12}{100 * row.accuracy:9.1f} %"
                f"{float(row.drawn.sum()):9.1f}{float(row.counted.sum()):9.1f}"
            )


def draw_accuracy(axes: Axes, results: dict[str, list[Result]], dense: float) -> None:
    for (name, rows), color in zip(results.items(), ("#2b6cb0", "#dd6b20"), strict=True):
        units = [row.open_units for row in rows]
        axes.plot(units, [100 * row.accuracy for row in rows], "o-", color=color, label=name)
    axes.plot(UNITS, 100 * dense, "s", color="#718096", label="dense")
    axes.set(title="Pruned 64-300-100-10 network, 8x8 digits", xlabel="open units")
    axes.set(ylabel="test accuracy (%)", xscale="log")


def draw_probabilities(axes: Axes, results: dict[str, list[Result]]) -> None:
    for (name, rows), color in zip(results.items(), ("#2b6cb0", "#dd6b20"), strict=True):
        counted = torch.cat([row.counted for row in rows])
        drawn = torch.cat([row.drawn for row in rows])
        axes.plot(counted, drawn, ".", color=color, alpha=0.4, markersize=4, label=name)
    axes.plot([0, 1], [0, 1], color="#718096", linewidth=1)
    axes.set(title="Is a gate open? One point a gate", xlabel="probability in the penalty")
    axes.set(ylabel=f"share of {DRAWS:,} samples")


def draw(path: Path, results: dict[str, list[Result]], dense: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_accuracy(left, results, dense)
    draw_probabilities(right, results)
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="L0 pruning of a small classifier.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=Path("l0_pruning.png"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the layers are small: a second thread costs more than it brings
    start = time.perf_counter()
    data = load_data()
    dense = accuracy(train(data, None, 0.0, args.epochs), data)
    results = study(data, args.epochs)
    print_table(results, dense)
    draw(args.out, results, dense)
    print(f"picture {args.out}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
