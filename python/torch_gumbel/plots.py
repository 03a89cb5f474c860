# SPDX-License-Identifier: Apache-2.0
"""Pictures of samples, densities, and noise, by matplotlib (``pip install torch-gumbel[plots]``).

Every function returns a :class:`matplotlib.figure.Figure`, to be shown by a notebook or saved by
``figure.savefig("name.png")``. pyplot and its backends are not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_gumbel._simplex import SIDE, cell_counts, cell_masses, cells
from torch_gumbel.functional import gumbel_softmax
from torch_gumbel.keys import fold_in, new_key
from torch_gumbel.noise import sample_gumbel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["noise", "simplex", "temperatures"]

_BLUE, _ORANGE, _GREY = "#3b6fb6", "#d1603d", "#5a5a5a"


def temperatures(
    probs: Sequence[float] | Tensor = (0.1, 0.2, 0.4, 0.3),
    taus: Sequence[float] = (0.1, 0.5, 1.0, 5.0),
    *,
    samples: int = 3,
    draws: int = 100_000,
    key: Tensor | None = None,
) -> Figure:
    """Samples of one distribution at several temperatures, and their means.

    Args:
        probs: ``[K]``, >= 0; normalized by this function.
        taus: temperatures > 0, one column each.
        samples: how many samples are shown, one row each.
        draws: how many the mean is taken over.
        key: explicit randomness; every column shows the same noise.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: probs that are no distribution, a temperature not > 0, no samples.

    Example:
        >>> from torch_gumbel import plots
        >>> len(plots.temperatures(draws=1000, taus=(0.1, 1.0)).axes)
        8
    """
    p = _distribution("temperatures", probs)
    _positive("temperatures", samples=samples, draws=draws, **{"len(taus)": len(taus)})
    key = new_key() if key is None else key
    figure, axes = _grid(
        samples + 1, len(taus), (2.1 * len(taus) + 0.6, 1.35 * (samples + 1) + 0.6)
    )
    for column, tau in enumerate(taus):
        y = gumbel_softmax(p.log().expand(draws, -1), tau, key=key)
        shown = [(value, f"sample {i + 1}", _BLUE) for i, value in enumerate(y[:samples])]
        for row, (values, name, colour) in enumerate([*shown, (y.mean(0), "mean", _GREY)]):
            axis = axes[row][column]
            axis.bar(range(len(p)), values.tolist(), color=colour, width=0.75)
            axis.set(ylim=(0, 1.05), xticks=range(len(p)), yticks=[0, 0.5, 1])
            axis.tick_params(labelbottom=row == samples, labelleft=column == 0)
            if column == 0:
                axis.set_ylabel(name)
        marks = axes[samples][column].plot(range(len(p)), p.tolist(), "_", color=_ORANGE)
        marks[0].set(markersize=16, markeredgewidth=2, label="probability")
        axes[0][column].set_title(f"$\\tau$ = {tau:g}")
        axes[samples][column].set_xlabel("class")
    figure.legend(handles=marks, loc="upper right", frameon=False, fontsize="small")
    figure.suptitle("Gumbel-Softmax samples of one distribution", x=0.02, ha="left")
    return figure


def simplex(
    probs: Sequence[float] | Tensor = (0.5, 0.3, 0.2),
    taus: Sequence[float] = (0.4, 0.7, 1.5),
    *,
    draws: int = 2_000_000,
    key: Tensor | None = None,
) -> Figure:
    """Density of samples of three classes over the triangle, against the closed form.

    Args:
        probs: ``[3]``, > 0; normalized by this function.
        taus: temperatures > 0, one column each.
        draws: samples per temperature.
        key: explicit randomness.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: probs that are no distribution of three classes, a temperature not > 0.

    Source of the closed form: Maddison, Mnih, Teh, *The Concrete Distribution* (2016), eq. 11.

    Example:
        >>> from torch_gumbel import plots
        >>> figure = plots.simplex(draws=10_000, taus=(0.7,))
    """
    p = _distribution("simplex", probs)
    if len(p) != 3 or not (p > 0).all():
        raise ValueError(f"simplex: probs must be three numbers > 0, got {list(probs)}")
    _positive("simplex", draws=draws, **{"len(taus)": len(taus)})
    key = new_key() if key is None else key
    figure, axes = _grid(2, len(taus), (2.9 * len(taus) + 1.0, 5.6))
    for column, tau in enumerate(taus):
        y = gumbel_softmax(p.log().expand(draws, 3), tau, key=fold_in(key, column))
        drawn = cell_counts(y) / draws * SIDE**2
        closed = cell_masses(p, tau) * SIDE**2
        # A cell relative to the uniform density; the same colours above and below.
        low, high = closed.quantile(0.02).item(), closed.quantile(0.98).item()
        for row, values in enumerate((drawn, closed)):
            image = _triangle(axes[row][column], values, low, high)
        axes[0][column].set_title(f"$\\tau$ = {tau:g}")
        column_axes = [axes[0][column], axes[1][column]]
        _colour_bar(figure, image, column_axes)
    for row, name in enumerate((f"{draws:,} samples", "closed form")):
        axes[row][0].text(-0.12, 0.43, name, rotation=90, ha="center", va="center")
    figure.suptitle("Density on the simplex (uniform = 1)", x=0.02, ha="left")
    return figure


def noise(draws: int = 10_000_000, *, key: Tensor | None = None) -> Figure:
    """Histogram of the noise, and its tail on a log scale, against the exact distribution.

    Args:
        draws: how many numbers are drawn.
        key: explicit randomness.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: draws < 1.

    Example:
        >>> from torch_gumbel import plots
        >>> figure = plots.noise(draws=10_000)
    """
    _positive("noise", draws=draws)
    figure, axes = _grid(1, 2, (8.4, 3.4), share=False)
    body, tail = axes[0]
    g = sample_gumbel(draws, dtype=torch.float32, key=key)
    edges = torch.linspace(-3.5, 10, 136, dtype=torch.float32)
    counts, _ = torch.histogram(g, edges)
    density = counts / draws / (edges[1] - edges[0])
    body.stairs(density.tolist(), edges.tolist(), fill=True, color=_BLUE, alpha=0.45, label="drawn")
    x = torch.linspace(-3.5, 10, 500)
    body.plot(x.tolist(), (-x - (-x).exp()).exp().tolist(), color=_ORANGE, lw=1.3, label="exact")
    body.set(title="density", xlabel="g", ylim=(0, None), xlim=(-3.5, 10))
    _tail(tail, g)
    body.legend(frameon=False)
    figure.suptitle(f"{draws:,} Gumbel numbers", x=0.02, ha="left")
    return figure


def _tail(axis: Axes, g: Tensor) -> None:
    """P(G > x): the largest numbers drawn, each at its rank, and 1 - exp(-exp(-x))."""
    n = g.numel()
    largest = g.topk(min(n, 100_000)).values
    rank = torch.arange(1, len(largest) + 1, dtype=torch.float64)
    few = torch.unique(torch.logspace(0, math.log10(len(rank)), 120).round().long()) - 1
    few = few.clamp(0, len(rank) - 1)
    x = torch.linspace(0, largest[0].item() + 2, 300, dtype=torch.float64)
    exact = -torch.expm1(-(-x).exp())
    spread = 2 * (exact / n).sqrt()
    low, high = (exact - spread).clamp(min=0.1 / n), exact + spread
    axis.fill_between(x.tolist(), low.tolist(), high.tolist(), color=_ORANGE, alpha=0.2, lw=0)
    axis.plot(x.tolist(), exact.tolist(), color=_ORANGE, lw=1.3, label="exact, $\\pm$ 2 sd")
    drawn = (rank[few] / n).tolist()
    axis.plot(largest[few].tolist(), drawn, ".", color=_BLUE, ms=4, label="drawn")
    axis.set(yscale="log", title="share above x", xlabel="x", ylim=(0.3 / n, 1.5))
    axis.legend(frameon=False)


def _triangle(axis: Axes, values: Tensor, low: float, high: float) -> Any:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LogNorm

    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]], dtype=torch.float64)
    places = (cells() @ corners).numpy()
    image = PolyCollection(list(places), edgecolors="face", linewidths=0.5, cmap="viridis")
    image.set_array(values.clamp(min=low / 10).numpy())
    image.set_norm(LogNorm(low, high))
    axis.add_collection(image)
    axis.set(xlim=(-0.14, 1.14), ylim=(-0.12, 1.0), aspect="equal")
    axis.axis("off")
    for k, (x, y) in enumerate(corners.tolist()):
        axis.text(
            x,
            y + (0.04 if k == 2 else -0.04),
            f"class {k}",
            ha="center",
            va="bottom" if k == 2 else "top",
        )
    return image


def _colour_bar(figure: Figure, image: Any, axes: list[Axes]) -> None:
    """A colour bar with decimal tick labels: the range spans one or two decades."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02, extend="both")
    ticks = [m * 10.0**e for e in range(-3, 3) for m in (1, 2, 5)]
    low, high = image.get_clim()
    bar.ax.yaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())


def _grid(
    rows: int, columns: int, size: tuple[float, float], share: bool = True
) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "torch_gumbel.plots needs matplotlib: pip install torch-gumbel[plots]"
        ) from error
    figure = Figure(figsize=size, dpi=140, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _distribution(who: str, probs: Sequence[float] | Tensor) -> Tensor:
    p = torch.as_tensor(probs, dtype=torch.float32).detach().cpu()
    if p.dim() != 1 or not (p >= 0).all() or not 0 < p.sum() < math.inf:
        raise ValueError(f"{who}: probs must be one row, >= 0, with a positive sum, got {probs}")
    return p / p.sum()


def _positive(who: str, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{who}: {name} must be > 0, got {number}")
