# SPDX-License-Identifier: Apache-2.0
"""The picture that sampling_loop.py writes: the sets that stay, speed, and acceptance of drafts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sampling_drafts import Acceptance
    from sampling_loop import Speed

OURS, THEIRS = "tab:blue", "tab:gray"
SHOWN = 90  # characters of the line of text
BINS = 10


def bare(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, axis="y")


def draw_sizes(axes: Axes, line: str, sizes: Sequence[int]) -> None:
    places = range(min(SHOWN, len(line)))
    axes.bar(places, sizes[:SHOWN], color=OURS)
    axes.set_xticks(places, [c if c.strip() else "·" for c in line[:SHOWN]], family="monospace")
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-1, len(places))
    axes.set_ylabel("characters")
    bare(axes, "Characters that top-p 0.9 left to choose from, and the one that was drawn")


def draw_losses(axes: Axes, losses: Sequence[float]) -> None:
    axes.plot(losses, color=OURS, linewidth=0.8)
    axes.set(xlabel="training step", ylabel="nats per character", ylim=(1, None))
    bare(axes, "The model")


def draw_speeds(axes: Axes, speeds: Sequence[Speed]) -> None:
    for i, speed in enumerate(speeds):
        axes.barh(i - 0.2, speed.ours, 0.38, color=OURS, label="torch_gumbel" if i == 0 else None)
        name = "transformers' processors" if i == 0 else None
        axes.barh(i + 0.2, speed.theirs, 0.38, color=THEIRS, label=name)
        axes.text(speed.ours, i - 0.2, f" {speed.ours / speed.theirs:.1f}x", va="center")
    axes.set_yticks(range(len(speeds)), [s.filters.replace(", ", "\n") for s in speeds])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="tokens per second, filters and draw alone")
    axes.set_xlim(left=1000)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.2)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    bare(axes, "Speed on the same logits")


def draw_acceptance(axes: Axes, rows: Acceptance, name: str, color: str) -> None:
    """Means over rows of similar expectation, with an error of four deviations."""
    parts = rows.expected.argsort().tensor_split(BINS)
    expected = torch.stack([rows.expected[part].mean() for part in parts])
    accepted = torch.stack([rows.accepted[part].float().mean() for part in parts])
    errors = torch.stack(
        [(rows.expected[part] * (1 - rows.expected[part])).mean() / len(part) for part in parts]
    ).sqrt()
    axes.errorbar(expected, accepted, 4 * errors, fmt="o", color=color, markersize=4, label=name)


def draw(
    path: Path,
    losses: Sequence[float],
    speeds: Sequence[Speed],
    acceptances: tuple[Acceptance, Acceptance],
    shown: tuple[str, Sequence[int]],
) -> None:
    """Write the whole picture to ``path``."""
    figure = Figure(figsize=(14, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    draw_sizes(top.subplots(), *shown)
    left, middle, right = bottom.subplots(1, 3)
    draw_losses(left, losses)
    draw_speeds(middle, speeds)
    right.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    for rows, name, color in zip(
        acceptances, ("one key for both", "a key for each"), (OURS, THEIRS), strict=True
    ):
        draw_acceptance(right, rows, name, color)
    right.set(xlabel="by the formula", ylabel="measured")
    right.legend(loc="lower right")
    bare(right, "Drafts accepted")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
