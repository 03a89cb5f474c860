# SPDX-License-Identifier: Apache-2.0
"""The picture that estimators.py writes: bias against deviation, and the test loss."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from estimators import Gradients
    from matplotlib.axes import Axes

SMALLEST = 3e-3  # biases below are drawn there: they are not told from 0


def draw_gradients(
    axes: Axes, epoch: int, rows: dict[str, Gradients], colors: dict[str, tuple[float, ...]]
) -> None:
    for label, row in rows.items():
        marker = "s" if label.startswith("soft") else "o"
        x = max(row.bias, SMALLEST)
        axes.plot(x, row.deviation, marker, color=colors[label], markersize=8)
    axes.set(xscale="log", yscale="log", title=f"Gradients after {epoch} epochs")
    axes.set_xlabel("relative bias of the mean gradient")
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)


def draw_losses(
    axes: Axes, losses: dict[str, list[float]], colors: dict[str, tuple[float, ...]]
) -> None:
    for height, (label, nats) in enumerate(reversed(losses.items())):
        color = colors.get(label, (0.3, 0.3, 0.3, 1.0))
        axes.plot(nats, [height] * len(nats), ".", color=color, alpha=0.6)
        axes.plot(statistics.mean(nats), height, "|", color=color, markersize=18, markeredgewidth=3)
    axes.set_yticks(range(len(losses)), list(reversed(losses)))
    axes.set(title="Test loss, one point a seed", xlabel="negative ELBO (nats per image)")
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right"]].set_visible(False)


def draw(
    path: Path,
    points: Sequence[int],
    gradients: dict[str, list[Gradients]],
    losses: dict[str, list[float]],
) -> None:
    """Write the whole picture to ``path``."""
    from matplotlib import colormaps

    colors = {label: colormaps["tab20"](i) for i, label in enumerate(gradients)}
    figure = Figure(figsize=(15, 8.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    panels = top.subplots(1, len(points), sharex=True, sharey=True)
    for i, (axes, epoch) in enumerate(zip(panels, points, strict=True)):
        draw_gradients(axes, epoch, {k: rows[i] for k, rows in gradients.items()}, colors)
    panels[0].set_ylabel("relative standard deviation of one gradient")
    draw_losses(bottom.subplots(), losses, colors)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
