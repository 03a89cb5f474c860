# SPDX-License-Identifier: Apache-2.0
"""The picture that feature_selection.py writes: the chosen pixels, and the accuracies."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    import numpy as np
    from feature_selection import Choice
    from matplotlib.axes import Axes

SIDE = 8
COLOR = "#d1495b"


def draw_pixels(axes: Axes, digit: np.ndarray, method: str, choices: list[Choice]) -> None:
    """The mean digit, and a square on every pixel, the fuller the more seeds chose it."""
    axes.imshow(digit, cmap="Greys", vmax=digit.max() * 1.6)
    for pixel in range(SIDE * SIDE):
        share = statistics.mean(pixel in choice.features for choice in choices)
        if share > 0:
            y, x = divmod(pixel, SIDE)
            axes.plot(x, y, "s", color=COLOR, alpha=share, markersize=17)
    repeated = statistics.mean(choice.duplicates for choice in choices)
    accuracy = statistics.mean(choice.accuracy for choice in choices)
    axes.set_title(f"{method}\n{accuracy:.1%}, {repeated:.1f} duplicates", fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_accuracies(axes: Axes, name: str, methods: dict[str, list[Choice]]) -> None:
    for height, (_, choices) in enumerate(reversed(methods.items())):
        accuracies = [100 * choice.accuracy for choice in choices]
        axes.plot(accuracies, [height] * len(choices), ".", color=COLOR, alpha=0.7)
        axes.plot(
            statistics.mean(accuracies), height, "|", color=COLOR, markersize=16, markeredgewidth=3
        )
    axes.set_yticks(range(len(methods)), list(reversed(methods)))
    axes.set(title=name, xlabel="accuracy (%), one point a seed")
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right"]].set_visible(False)


def draw(path: Path, digit: np.ndarray, found: dict[str, dict[str, list[Choice]]]) -> None:
    """Write the whole picture to ``path``; ``digit``: the mean of all, (8, 8)."""
    figure = Figure(figsize=(12, 6.8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    shown = {name: each for name, each in found["digits"].items() if name != "all features"}
    for axes, (method, choices) in zip(top.subplots(1, len(shown)), shown.items(), strict=True):
        draw_pixels(axes, digit, method, choices)
    for axes, (name, methods) in zip(bottom.subplots(1, len(found)), found.items(), strict=True):
        draw_accuracies(axes, name, methods)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
