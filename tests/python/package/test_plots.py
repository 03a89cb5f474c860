# SPDX-License-Identifier: Apache-2.0
"""Plots show the numbers of their titles, which agree with the closed forms."""

import math
import sys

import matplotlib.figure
import numpy as np
import pytest
import torch
from common import run_python
from scipy import stats

from torch_gumbel import _simplex, gumbel_softmax, plots
from torch_gumbel import key as make_key
from torch_gumbel.noise import sample_gumbel

KEY = make_key(4)
FALSE_ALARM = 1e-6


@pytest.mark.parametrize("name", plots.__all__)
def test_a_figure_is_made_and_saved(name, tmp_path):
    figure = getattr(plots, name)(draws=5000, key=KEY)
    assert isinstance(figure, matplotlib.figure.Figure)
    figure.savefig(tmp_path / "picture.png")
    pixels = matplotlib.image.imread(tmp_path / "picture.png")
    assert min(pixels.shape[:2]) > 300 and pixels.std() > 0.05


def numbers_in(figure):
    return [line.get_data() for axis in figure.axes for line in axis.lines] + [
        patch.get_data()
        for axis in figure.axes
        for patch in axis.patches
        if hasattr(patch, "get_data")
    ]


@pytest.mark.parametrize("name", ["noise", "temperatures"])
def test_the_default_dtype_changes_no_picture(name):
    wanted = numbers_in(getattr(plots, name)(draws=3000, key=KEY))
    torch.set_default_dtype(torch.float64)
    try:
        got = numbers_in(getattr(plots, name)(draws=3000, key=KEY))
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(got) == len(wanted)
    for some, others in zip(got, wanted, strict=True):
        for one, other in zip(some, others, strict=True):
            np.testing.assert_allclose(np.asarray(one, float), np.asarray(other, float), rtol=1e-5)


def test_bars_are_samples_their_mean_and_the_probabilities():
    probs, taus = torch.tensor([0.2, 0.5, 0.3]), (0.1, 1.0)
    figure = plots.temperatures(probs, taus, samples=2, draws=1000, key=KEY)
    axes = np.array(figure.axes).reshape(3, 2)
    for column, tau in enumerate(taus):
        y = gumbel_softmax(probs.log().expand(1000, 3), tau, key=KEY)
        for row, wanted in enumerate([y[0], y[1], y.mean(0)]):
            bars = [bar.get_height() for bar in axes[row, column].patches]
            assert bars == pytest.approx(wanted.tolist(), abs=1e-6)
        (marks,) = axes[2, column].lines
        assert marks.get_ydata() == pytest.approx(probs.tolist())


def test_the_cells_of_the_triangle_fill_it_and_hold_every_point():
    cells = _simplex.cells()
    assert len(cells) == _simplex.SIDE**2 and (cells > -1e-12).all()
    a, b, c = cells[..., :2].unbind(1)
    areas = 0.5 * torch.linalg.det(torch.stack([b - a, c - a], -1)).abs()
    torch.testing.assert_close(areas, torch.full_like(areas, 0.5 / _simplex.SIDE**2))
    counts = _simplex.cell_counts(cells.mean(1))
    assert (counts == 1).all()
    corners = torch.eye(3)
    assert _simplex.cell_counts(corners).sum() == 3
    y = gumbel_softmax(torch.zeros(100_000, 3), 0.05, key=KEY)
    assert _simplex.cell_counts(y).sum() == 100_000


@pytest.mark.parametrize("tau", [0.7, 1.5])
def test_counts_over_the_triangle_follow_the_closed_density(tau):
    """Chi-square over the inner cells, where the density is smooth; a tau 2 % off is caught."""
    probs = torch.tensor([0.5, 0.3, 0.2])
    inner = (_simplex.cells().mean(1) > 0.1).all(1)
    draws = 2_000_000
    y = gumbel_softmax(probs.log().expand(draws, 3), tau, key=KEY)
    counts = _simplex.cell_counts(y)[inner].numpy()

    def p_value(assumed):
        masses = _simplex.cell_masses(probs, assumed)[inner].numpy()
        rest = draws - counts.sum()
        observed, expected = [*counts, rest], [*masses * draws, (1 - masses.sum()) * draws]
        return stats.chisquare(observed, expected).pvalue

    assert p_value(tau) > FALSE_ALARM
    assert p_value(1.02 * tau) < FALSE_ALARM


def test_the_triangles_are_coloured_by_drawn_and_closed_density():
    figure = plots.simplex(taus=(1.5,), draws=1_000_000, key=KEY)
    drawn, closed = (np.asarray(axis.collections[0].get_array()) for axis in figure.axes[:2])
    common = closed > np.quantile(closed, 0.5)
    assert np.abs(drawn[common] / closed[common] - 1).mean() < 0.05


def test_the_histogram_and_the_tail_are_those_of_the_noise():
    draws = 200_000
    figure = plots.noise(draws, key=KEY)
    body, tail = figure.axes
    values, edges, _ = body.patches[0].get_data()
    inside = (np.diff(edges) * values).sum()
    assert inside == pytest.approx(math.exp(-math.exp(-10)), abs=2e-4)
    exact = np.diff(stats.gumbel_r.cdf(edges)) / np.diff(edges)
    np.testing.assert_allclose(values, exact, atol=0.026)  # 6 standard deviations
    largest, share = next(line for line in tail.lines if line.get_label() == "drawn").get_data()
    g = sample_gumbel(draws, key=KEY)
    assert largest[0] == pytest.approx(g.max().item())
    assert share[0] == pytest.approx(1 / draws)
    for x, p in zip(largest, share, strict=True):
        assert (g >= x).sum().item() / draws == pytest.approx(p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.temperatures([0.5, -0.5]), "temperatures: probs must be one row, >= 0"),
        (lambda: plots.temperatures([[0.5, 0.5]]), "temperatures: probs must be one row"),
        (lambda: plots.temperatures(taus=(0.0,)), "tau must be > 0"),
        (lambda: plots.temperatures(taus=()), r"temperatures: len\(taus\) must be > 0, got 0"),
        (lambda: plots.simplex([0.5, 0.5]), "simplex: probs must be three numbers > 0"),
        (lambda: plots.simplex([0.5, 0.5, 0.0]), "simplex: probs must be three numbers > 0"),
        (lambda: plots.noise(0), "noise: draws must be > 0, got 0"),
    ],
)
def test_invalid_arguments_of_plots_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_matplotlib_the_error_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install torch-gumbel\[plots\]"):
        plots.noise(100)


def test_importing_the_package_imports_no_plotting():
    done = run_python(
        "import sys, torch_gumbel, torch_gumbel.plots; print('matplotlib' in sys.modules)"
    )
    assert done.stdout.strip() == "False", done.stderr
