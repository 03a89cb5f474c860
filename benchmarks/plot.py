# SPDX-License-Identifier: Apache-2.0
"""The plot of a run: ns per element against K, float32, one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from cases import HARD, IMPLEMENTATIONS, INDEX, LABELS, OURS, SOFT
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator
from results import classes, entry_of, first_of, nanoseconds, select

# One colour per implementation in all panels; the first is torch_gumbel.
COLOURS = {
    "ours": "#c1121f",
    "eager": "#ee8434",
    "multinomial": "#ee8434",
    "compiled": "#8b5fbf",
    "jax": "#2a7f62",
    "paddle": "#1d6fa5",
    "softmax": "#7f8c8d",
    "argmax": "#7f8c8d",
    "copy": "#2b2d42",
}
PANELS = {SOFT: "soft sample", HARD: "hard sample", INDEX: "index only"}
WITHOUT_NOISE = ("softmax", "argmax", "copy")


def draw(axes: Axes, results: dict[str, Any], kind: str) -> None:
    cases = select(results, "classes", kind=kind)
    for who in IMPLEMENTATIONS[kind]:
        found = [(classes(first_of(c)), entry_of(c, LABELS[who])) for c in cases]
        points = [(k, nanoseconds(entry)) for k, entry in found if entry is not None]
        if not points:
            continue
        noiseless, ours = who in WITHOUT_NOISE, LABELS[who] == OURS
        axes.plot(
            *zip(*points, strict=True),
            label=LABELS[who],
            color=COLOURS[who],
            linewidth=2.4 if ours else 1.4,
            linestyle="--" if noiseless else "-",
            marker="" if noiseless else "o",
            markersize=4,
        )
    axes.set_title(PANELS[kind], fontsize=11)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({classes(first_of(case)) for case in cases})
    axes.set_xticks(ticks, [str(k) for k in ticks], rotation=45, fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel("K, classes in a row")
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.grid(True, which="major", alpha=0.3)


def write(results: dict[str, Any], path: Path) -> None:
    figure, panels = plt.subplots(1, len(PANELS), figsize=(12, 5), sharey=True)
    for axes, kind in zip(panels, PANELS, strict=True):
        draw(axes, results, kind)
    panels[0].set_ylabel("ns per element")
    where = results["machine"]
    title = f"float32, 1 thread, {where['processor']}, {where['instruction set']}"
    figure.suptitle(title, fontsize=11)
    shown = {
        label: line
        for axes in panels
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.legend(shown.values(), shown.keys(), loc="lower center", ncol=5, fontsize=9)
    figure.savefig(path, dpi=100)
    plt.close(figure)
