# SPDX-License-Identifier: Apache-2.0
"""Which few features are enough: 10 of the 64 pixels of a digit, 5 of the 30 features of a tumour.

A selector and a classifier behind it are trained together, so that features are chosen for what
they say jointly. ``nn.GumbelSelector`` draws k different ones. The selector of a Concrete
auto-encoder draws k times one, independently, and may find the same feature several times.
Beside them: the features of the largest mutual information with the label, one by one, and random
ones. All are judged by one classifier, an extremely randomized forest, on held-out data.

    python examples/feature_selection.py            # some minutes on a CPU
    python examples/feature_selection.py --seeds 1  # the quick look

Printed are accuracy and how many of the chosen features are duplicates; the picture shows the
chosen pixels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_selection import mutual_info_classif
from torch import Tensor, nn
from tqdm import tqdm

import torch_gumbel
from torch_gumbel import schedules

EPOCHS = 60
BATCH = 64
TREES = 100  # of the forest that judges
WIDTH = 64  # hidden units of the network behind a selector
LEARNING_RATE = 3e-3  # of that network
SELECTOR_RATE = 5e-2  # of the selector's logits
TAU_FIRST, TAU_LAST = 2.0, 0.2


class Data(NamedTuple):
    """Standardized features (N, F) and labels (N,) of the two parts; ``k`` features are to stay."""

    name: str
    k: int
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


class Choice(NamedTuple):
    """The features that a method names, with duplicates, and the accuracy with them."""

    features: list[int]
    accuracy: float

    @property
    def duplicates(self) -> int:
        return len(self.features) - len(set(self.features))


Method = Callable[[Data, int], list[int]]  # (data, seed) to features


def load(name: str, k: int) -> Data:
    """A fifth is held out, always the same."""
    bunch = load_digits() if name == "digits" else load_breast_cancer()
    x, labels = torch.tensor(bunch.data).float(), torch.tensor(bunch.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    held_out, rest = order.split([len(x) // 5, len(x) - len(x) // 5])
    mean, deviation = x[rest].mean(0), x[rest].std(0).clamp_min(1e-3)
    x = ((x - mean) / deviation).clamp(-5, 5)
    return Data(name, k, x[rest], labels[rest], x[held_out], labels[held_out])


class ConcreteSelector(nn.Module):
    """k independent choices of one feature each: (B, F) to (B, k)."""

    def __init__(self, num_features: int, k: int, tau: schedules.TemperatureSchedule) -> None:
        super().__init__()
        self.tau = tau
        self.logits = nn.Parameter(torch.zeros(k, num_features))

    def forward(self, x: Tensor) -> Tensor:
        return x @ torch_gumbel.gumbel_softmax(self.logits, self.tau.value).T

    def step(self) -> None:
        self.tau.step()

    def indices(self) -> Tensor:
        return self.logits.argmax(-1)


def annealed(data: Data) -> schedules.TemperatureSchedule:
    steps = EPOCHS * -(-len(data.train) // BATCH)
    return schedules.TemperatureSchedule(
        schedules.cosine, tau0=TAU_FIRST, tau_min=TAU_LAST, steps=steps
    )


def trained(data: Data, selector: nn.Module, inputs: int) -> list[int]:
    """The features of a selector that was trained together with a network behind it."""
    classes = int(data.train_labels.max()) + 1
    network = nn.Sequential(nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, classes))
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": LEARNING_RATE},
            {"params": selector.parameters(), "lr": SELECTOR_RATE},
        ]
    )
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(data.train)).split(BATCH):
            optimizer.zero_grad()
            outputs = network(selector(data.train[batch]))
            F.cross_entropy(outputs, data.train_labels[batch]).backward()
            optimizer.step()
            selector.step()
    return selector.indices().tolist()


def gumbel_selector(data: Data, seed: int) -> list[int]:
    torch.manual_seed(seed)
    features = data.train.shape[1]
    selector = torch_gumbel.nn.GumbelSelector(features, data.k, tau=annealed(data))
    return trained(data, selector, features)


def concrete_selectors(data: Data, seed: int) -> list[int]:
    torch.manual_seed(seed)
    return trained(data, ConcreteSelector(data.train.shape[1], data.k, annealed(data)), data.k)


def mutual_information(data: Data, seed: int) -> list[int]:
    found = mutual_info_classif(data.train.numpy(), data.train_labels.numpy(), random_state=seed)
    return torch.tensor(found).topk(data.k).indices.tolist()


def random_choice(data: Data, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(data.train.shape[1], generator=generator)[: data.k].tolist()


def all_features(data: Data, seed: int) -> list[int]:
    return list(range(data.train.shape[1]))


METHODS: dict[str, Method] = {
    "GumbelSelector": gumbel_selector,
    "k Concrete selectors": concrete_selectors,
    "mutual information": mutual_information,
    "random": random_choice,
    "all features": all_features,
}


def judged(data: Data, features: list[int]) -> Choice:
    """The accuracy of one classifier, the same for every method."""
    kept = sorted(set(features))
    forest = ExtraTreesClassifier(TREES, random_state=0)
    forest.fit(data.train[:, kept].numpy(), data.train_labels.numpy())
    accuracy = forest.score(data.test[:, kept].numpy(), data.test_labels.numpy())
    return Choice(features, float(accuracy))


def study(sets: list[Data], seeds: int) -> dict[str, dict[str, list[Choice]]]:
    """{data: {method: one choice a seed}}"""
    runs = [(data, name, seed) for data in sets for name in METHODS for seed in range(seeds)]
    found: dict[str, dict[str, list[Choice]]] = {data.name: {} for data in sets}
    for data, name, seed in tqdm(runs, desc="selecting", unit="run"):
        choice = judged(data, METHODS[name](data, seed))
        found[data.name].setdefault(name, []).append(choice)
    return found


def print_table(found: dict[str, dict[str, list[Choice]]]) -> None:
    for name, methods in found.items():
        print(f"{name:24}accuracy          duplicates")
        for method, choices in methods.items():
            accuracies = [100 * choice.accuracy for choice in choices]
            spread = statistics.stdev(accuracies) if len(choices) > 1 else 0.0
            duplicates = statistics.mean(choice.duplicates for choice in choices)
            print(
                f"  {method:22}{statistics.mean(accuracies):5.1f} % +- {spread:3.1f}"
                f"{duplicates:12.1f}"
            )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Feature selection with k-hot samples.")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each method")
    parser.add_argument("--out", type=Path, default=Path("feature_selection.png"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the layers are small: a second thread costs more than it brings
    start = time.perf_counter()
    found = study([load("digits", 10), load("breast cancer", 5)], args.seeds)
    print_table(found)

    from feature_pictures import draw  # here, so that the figures need no matplotlib

    draw(args.out, load_digits().data.mean(0).reshape(8, 8), found)
    print(f"picture {args.out}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
