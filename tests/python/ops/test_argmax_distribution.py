# SPDX-License-Identifier: Apache-2.0
"""Draws of gumbel_argmax have their distributions: temperatures, masks, a full vocabulary.

Keys are fixed; false alarms are defined in test_statistics.
"""

import numpy as np
import pytest
import torch
from common import make_key
from scipy import stats
from test_statistics import DRAWS, FALSE_ALARM, one_percent_wrong, rejected

from torch_gumbel import fold_in, gumbel_argmax

KEY = make_key(5)
INF = torch.inf


def sampler_counts(logits, temperature, draws=DRAWS, stream=0, chunk=1_000_000):
    """Counts of draws of a row by `num_samples`, a chunk at a time."""
    counts = np.zeros(logits.shape[-1])
    for i in range(draws // chunk):
        index = gumbel_argmax(
            logits, num_samples=chunk, temperature=temperature, key=fold_in(KEY, 100 * stream + i)
        )
        counts += torch.bincount(index.flatten(), minlength=len(counts)).numpy()
    return counts


LOGITS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0])


@pytest.mark.parametrize("form", ["number", "tensor"])
def test_the_sampler_has_the_distribution_of_its_temperature(form):
    """1e7 draws at 0.7; the distribution at 1 % more of its top class is rejected."""
    temperature = 0.7 if form == "number" else torch.tensor([0.7])
    probs = (LOGITS.double() / 0.7).softmax(-1).numpy()
    counts = sampler_counts(LOGITS, temperature)
    assert not rejected(counts, probs)
    assert rejected(counts, one_percent_wrong(probs))


def test_rows_have_the_distributions_of_their_temperatures():
    """4e6 draws of each of three rows: false alarm 3e-6."""
    temperatures, draws = torch.tensor([[0.5], [0.7], [2.0]]), 4_000_000
    x = LOGITS.expand(3, 5)
    index = torch.cat(
        [
            gumbel_argmax(x, num_samples=10**6, temperature=temperatures, key=fold_in(KEY, 900 + i))
            for i in range(draws // 10**6)
        ]
    )
    for row, t in enumerate(temperatures.flatten().tolist()):
        counts = torch.bincount(index[:, row], minlength=5).numpy().astype(np.float64)
        assert not rejected(counts, (LOGITS.double() / t).softmax(-1).numpy()), t


MASKED = torch.tensor([0.0, -INF, 1.0, -INF, -2.0])


def masked_draws(draws):
    hits = 0
    for i in range(draws // 10**6):
        index = gumbel_argmax(MASKED, num_samples=10**6, temperature=0.7, key=fold_in(KEY, i))
        hits += int(((index == 1) | (index == 3)).sum())
    return hits


def test_a_masked_class_is_never_drawn():
    assert masked_draws(4_000_000) == 0


@pytest.mark.statistics
def test_a_masked_class_is_never_drawn_in_1e8():
    assert masked_draws(100_000_000) == 0


def equal_mass_bins(probs, bins):
    """Bins of classes in the order of their probability, each with a mass of about 1 / bins."""
    order = np.argsort(-probs)
    cut = np.minimum((np.cumsum(probs[order]) * bins).astype(np.int64), bins - 1)
    place = np.empty(len(probs), np.int64)
    place[order] = cut
    return place, np.bincount(cut, weights=probs[order], minlength=bins)


def power(probs, wrong, draws):
    """Power of the chi-square test at a false alarm of 1e-6 against another distribution."""
    noncentral = draws * ((wrong - probs) ** 2 / probs).sum()
    threshold = stats.chi2.isf(FALSE_ALARM, len(probs) - 1)
    return stats.ncx2.sf(threshold, len(probs) - 1, noncentral)


@pytest.mark.parametrize("draws", [20_000, pytest.param(100_000, marks=pytest.mark.statistics)])
def test_a_full_vocabulary_has_its_distribution(draws):
    """K = 128256, logits N(0, 4), in 100 bins of equal mass.

    Printed: the power against a temperature of 1.1 instead of 1 (above 0.999 at 1e5 draws).
    """
    logits = 2 * torch.randn(128_256, generator=torch.Generator().manual_seed(7))
    probs = logits.double().softmax(-1).numpy()
    place, mass = equal_mass_bins(probs, 100)
    warm = (logits.double() / 1.1).softmax(-1).numpy()
    against = power(mass, np.bincount(place, weights=warm, minlength=100), draws)
    print(f"{draws} draws: power {against:.6f} against a temperature of 1.1")
    index = gumbel_argmax(logits, num_samples=draws, key=KEY).numpy()
    counts = np.bincount(place[index], minlength=100).astype(np.float64)
    assert not rejected(counts, mass)
    assert against > 0.999
