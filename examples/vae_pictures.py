# SPDX-License-Identifier: Apache-2.0
"""The picture that categorical_vae.py writes: what the model learned and what tau does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")  # draws to files, needs no display

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from torch import Tensor

if TYPE_CHECKING:
    from categorical_vae import CategoricalVAE, Curve, Digits

TAUS = (0.1, 0.5, 1.0, 2.0, 5.0)
SHOWN = (0.02, 0.04, 0.08, 0.14, 0.24, 0.20, 0.12, 0.08, 0.05, 0.03)  # the distribution drawn from
DRAWS = 4
BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#718096"


def mosaic(images: Tensor, columns: int) -> Tensor:
    """(M, 64) images to one picture, ``columns`` to a row, a blank (NaN) pixel between them."""
    tiles = torch.nn.functional.pad(images.cpu().reshape(-1, 8, 8), (0, 1, 0, 1), value=torch.nan)
    rows = len(tiles) // columns
    tiles = tiles[: rows * columns].reshape(rows, columns, 9, 9)
    return tiles.transpose(1, 2).reshape(rows * 9, columns * 9)[:-1, :-1]


def show_mosaic(axes: Axes, images: Tensor, columns: int, row_names: list[str]) -> None:
    """Draw a mosaic, dark ink on white, with a name beside each of its rows (or none)."""
    axes.set_facecolor("#e2e8f0")
    axes.set_anchor("N")  # so that the titles of neighbours line up
    axes.imshow(mosaic(images, columns), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([9 * row + 3.5 for row in range(len(row_names))], row_names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_curve(axes: Axes, curve: Curve, baseline: float) -> None:
    axes.plot(curve.epochs, curve.train, color=BLUE, label="train")
    axes.plot(curve.epochs, curve.test, color=ORANGE, label="test")
    axes.axhline(baseline, color=GREY, linestyle="--", label="pixel means only")
    # The untrained model sits far above; the story is what happens at and below the baseline.
    axes.set_ylim(min(curve.train + curve.test) - 0.5, baseline + 1)
    axes.set(title="Training curve, one-hot codes", xlabel="epoch")
    axes.set_ylabel("negative ELBO (nats per image)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def pairs(model: CategoricalVAE, data: Digits) -> Tensor:
    """(80, 64): four blocks of ten test digits, 0 to 9, each block above its reconstructions."""
    found = [(data.test_labels == digit).nonzero()[:4, 0] for digit in range(10)]
    blocks = [data.test[index.to(data.test.device)] for index in torch.stack(found, 1)]
    return torch.cat([row for block in blocks for row in (block, model.reconstruct(block))])


def generated(model: CategoricalVAE, count: int) -> Tensor:
    """(count, 64) pixel probabilities decoded from codes drawn uniformly, as the prior has it."""
    weight = model.encoder[-1].weight
    flat = torch.zeros(count, 10, 10, device=weight.device)  # equal logits: a uniform categorical
    return model.decode(model.sampler(flat, 1.0, True)).sigmoid()


def draw_bars(figure: SubFigure, model: CategoricalVAE) -> None:
    """A row for each draw, a column for each tau; the noise of a row is the same in all of it."""
    figure.suptitle(
        "Samples of one distribution at five temperatures (a row keeps its Gumbel noise)",
        fontsize="large",
    )
    logits = torch.tensor(SHOWN).log().expand(DRAWS, -1)
    columns = [torch.tensor(SHOWN).expand(DRAWS, -1)]
    for tau in TAUS:
        torch.manual_seed(3)
        columns.append(model.sampler(logits, tau, False))
    grid = figure.subplots(DRAWS, len(columns), sharex=True, sharey=True)
    names = ["the distribution", *(f"tau = {tau:g}" for tau in TAUS)]
    for column, name in enumerate(names):
        grid[0, column].set_title(name, fontsize="medium")
        for row in range(DRAWS):
            axes = grid[row, column]
            if column == 0 and row:  # the distribution is the same in every row: once is enough
                axes.set_visible(False)
                continue
            axes.bar(range(10), columns[column][row], color=BLUE if column else GREY, width=0.85)
            axes.set(ylim=(0, 1), yticks=(0, 1), xticks=(0, 9))
            axes.tick_params(labelsize="small", length=2)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[:, 1]:
        axes.tick_params(labelleft=True)


@torch.no_grad()
def draw(
    path: Path, model: CategoricalVAE, data: Digits, curve: Curve, baseline: float, title: str
) -> None:
    """Write the whole picture to ``path``."""
    figure = plt.figure(figsize=(13, 8.5), layout="constrained")
    figure.suptitle(f"Categorical VAE on 8x8 digits: 10 variables of 10 values ({title})")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 0.85), hspace=0.04)
    left, middle, right = top.subplots(1, 3, width_ratios=(1, 1.1, 1.1))
    draw_curve(left, curve, baseline)
    show_mosaic(middle, pairs(model, data), 10, ["original", "decoded"] * 4)
    middle.set_title("Test images and their reconstructions")
    show_mosaic(right, generated(model, 80), 10, [])
    right.set_title("Decoded from random one-hot codes")
    draw_bars(bottom, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
