# SPDX-License-Identifier: Apache-2.0
"""Draws have their distributions. Each test states its false-alarm rate and detects a fault.

Keys are fixed, so every run gives the same numbers; the rate is the probability that a correct
sampler fails for a random key.
"""

import math

import numpy as np
import pytest
import torch
from common import make_key, noise
from scipy import stats

from torch_gumbel import fold_in, gumbel_argmax, gumbel_softmax

FALSE_ALARM = 1e-6
DRAWS = 10_000_000
KEY = make_key(20_161_102)


def uniform5():
    return np.full(5, 0.2)


def zipf1000():
    weights = 1 / np.arange(1, 1001)
    return weights / weights.sum()


DISTRIBUTIONS = {"uniform": uniform5, "zipf": zipf1000}


def one_percent_wrong(probs):
    """The distribution with its top class one per cent more likely, the others scaled to match."""
    wrong = probs.copy()
    wrong[0] *= 1.01
    wrong[1:] *= (1 - wrong[0]) / (1 - probs[0])
    return wrong


def draw_counts(probs, how, draws=DRAWS, stream=0):
    logits = torch.from_numpy(np.log(probs)).float()
    rows = 2_000_000 // len(probs)  # a chunk stays in the cache, and its counts exact in float32
    x, counts = logits.expand(rows, len(probs)), np.zeros(len(probs))
    for i in range(draws // rows):
        key = fold_in(KEY, 1000 * stream + i)
        if how == "index":
            counts += torch.bincount(gumbel_argmax(x, key=key), minlength=len(probs)).numpy()
        else:
            counts += gumbel_softmax(x, hard=True, key=key).sum(0).numpy()
    assert counts.sum() == draws
    return counts


def p_chi_square(counts, probs):
    expected = probs * counts.sum()
    return stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), len(probs) - 1)


def p_largest_deviation(counts, probs):
    """Exact binomial tails of each class, times the number of classes, instead of max |z|."""
    n = counts.sum()
    tails = np.minimum(stats.binom.cdf(counts, n, probs), stats.binom.sf(counts - 1, n, probs))
    return min(1.0, 2 * len(probs) * tails.min())


def rejected(counts, probs):
    """Two tests at half of the rate each: together at most 1e-6 (Bonferroni).

    At 1e7 draws, chi-square alone detects an error of 1 % in the uniform distribution
    (noncentrality 160, threshold 35 on 4 degrees of freedom); in the Zipf distribution
    (noncentrality 116 on 999 degrees) it does not, but the top class is 10.8 standard deviations
    off, against a threshold of 6.2.
    """
    return min(p_chi_square(counts, probs), p_largest_deviation(counts, probs)) < FALSE_ALARM / 2


@pytest.mark.parametrize("how", ["hard", "index"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_counts_have_their_distribution(name, how):
    assert not rejected(draw_counts(DISTRIBUTIONS[name](), how), DISTRIBUTIONS[name]())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_one_per_cent_wrong_in_its_top_class_is_caught(name):
    right = DISTRIBUTIONS[name]()
    assert rejected(draw_counts(one_percent_wrong(right), "index", stream=1), right)


def dkw_bound(n):
    """Dvoretzky-Kiefer-Wolfowitz: P(sup |F_n - F| > bound) <= 1e-6 for every n."""
    return math.sqrt(math.log(2 / FALSE_ALARM) / (2 * n))


def ks_distance(values, cdf):
    f = cdf(np.sort(values))
    steps = np.arange(len(f) + 1) / len(f)
    return max(np.abs(f - steps[:-1]).max(), np.abs(f - steps[1:]).max())


def pivot(logits, tau, y):
    """softmax(logits - tau log y) is Dirichlet(1, ..., 1) for all logits and tau."""
    return torch.softmax(logits.double() - tau * y.double().log(), -1)


K, ROWS = 10, 1_000_000


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_soft_samples_have_the_distribution_of_their_pivot(dtype, tau):
    """False alarm 1e-6 each (two classes: 2e-6 for the test), by the bound above."""
    logits = torch.randn(K, dtype=dtype)
    y = gumbel_softmax(logits.expand(ROWS, K), tau, key=KEY)
    s = pivot(logits, tau, y).numpy()
    beta = stats.beta(1, K - 1).cdf
    assert ks_distance(s[:, 0], beta) < dkw_bound(ROWS)
    assert ks_distance(s[:, -1], beta) < dkw_bound(ROWS)


def test_the_pivot_catches_a_temperature_and_a_logit_two_per_cent_wrong():
    logits = torch.randn(K)
    y = gumbel_softmax(logits.expand(ROWS, K), 0.51, key=KEY)
    beta = stats.beta(1, K - 1).cdf
    assert ks_distance(pivot(logits, 0.5, y)[:, 0].numpy(), beta) > dkw_bound(ROWS)
    y = gumbel_softmax(logits.expand(ROWS, K), 0.5, key=KEY)
    wrong = logits + 0.02 * torch.eye(K)[0]
    assert ks_distance(pivot(wrong, 0.5, y)[:, 0].numpy(), beta) > dkw_bound(ROWS)


@pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
def test_two_classes_have_their_closed_form(tau):
    """P(y_0 <= t) = logistic(tau logit t - (l_0 - l_1)); false alarm 1e-6."""
    rows, difference = 2_000_000, 0.8
    logits = torch.tensor([difference, 0.0], dtype=torch.float64)
    y = gumbel_softmax(logits.expand(rows, 2), tau, key=KEY).numpy()
    logit = np.log(y[:, 0]) - np.log(y[:, 1])
    assert ks_distance(logit, lambda v: stats.logistic.cdf(tau * v - difference)) < dkw_bound(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_is_standard_gumbel(dtype):
    """False alarm 1e-6 for the distribution; and 1e-6 for the far tail, exact binomial."""
    g = noise(torch.empty(2**23, dtype=dtype), KEY).numpy().astype(np.float64)
    assert ks_distance(g, stats.gumbel_r.cdf) < dkw_bound(len(g))
    beyond = stats.binomtest(int((g > 9).sum()), len(g), stats.gumbel_r.sf(9.0))
    assert beyond.pvalue > FALSE_ALARM


BINS = 8


def p_independent(a, b):
    """Chi-square of the 8 x 8 table of octiles: 63 degrees of freedom, nothing is fitted."""
    octile = [np.minimum((BINS * stats.gumbel_r.cdf(v)).astype(np.int64), BINS - 1) for v in (a, b)]
    table = np.bincount(BINS * octile[0] + octile[1], minlength=BINS * BINS)
    return p_chi_square(table.astype(np.float64), np.full(BINS * BINS, BINS**-2.0))


def neighbours(distance):
    """Disjoint pairs of words at that distance."""
    g = noise(torch.empty(2**22), KEY).numpy().reshape(-1, 2, distance)
    return g[:, 0].ravel(), g[:, 1].ravel()


@pytest.mark.parametrize("distance", [1, 2, 4, 1024])
def test_words_of_one_call_are_independent(distance):
    """False alarm 1e-6; 2^21 pairs see a correlation of 0.006 (noncentrality about n r^2 = 75)."""
    assert p_independent(*neighbours(distance)) > FALSE_ALARM


@pytest.mark.parametrize("other", ["fold_in", "next seed", "low offset"])
def test_words_of_two_keys_are_independent(other):
    keys = {
        "fold_in": (fold_in(KEY, 0), fold_in(KEY, 1)),
        "next seed": (make_key(7), make_key(8)),
        "low offset": (make_key(7), make_key(7, 2**32)),
    }[other]
    a, b = (noise(torch.empty(2**21), key).numpy() for key in keys)
    assert p_independent(a, b) > FALSE_ALARM


def test_a_correlation_of_two_per_cent_is_caught():
    a, b = (noise(torch.empty(2**21), key).numpy() for key in (make_key(1), make_key(2)))
    copied = np.random.default_rng(0).random(len(a)) < 0.02
    assert p_independent(a, np.where(copied, a, b)) < FALSE_ALARM


@pytest.mark.statistics
@pytest.mark.parametrize("how", ["hard", "index"])
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_choices_do_not_depend_on_tau_or_dtype(tau, how):
    """1e8 draws of three classes in each type: false alarm 4e-6 in all."""
    probs = np.array([0.5, 0.375, 0.125])
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        logits = torch.tensor([math.log(4), math.log(3), 0.0], dtype=torch.float64).to(dtype)
        wanted = torch.softmax(logits.double(), 0).numpy()
        assert np.abs(wanted - probs).max() < 1e-2
        counts, rows = np.zeros(3), 10_000_000
        for i in range(10):
            key, x = fold_in(KEY, i), logits.expand(rows, 3)
            if how == "index":
                counts += torch.bincount(gumbel_argmax(x, key=key), minlength=3).numpy()
            else:
                y = gumbel_softmax(x, tau, True, key=key)
                counts += y.sum(0, dtype=torch.float64).numpy()
        assert not rejected(counts, wanted), dtype


@pytest.mark.statistics
def test_light_classes_win_by_the_right_tail():
    """A heavy class against 1,000 of total probability 1e-6, 2^26 draws: Poisson(67.1) light wins.

    Outside [27, 115] with probability below 1e-6; noise capped at 16.6 gives 0 wins.
    """
    probs = np.concatenate([[1 - 1e-6], np.full(1000, 1e-9)])
    logits, rows, wins = torch.from_numpy(np.log(probs)).float(), 2**16, 0
    for i in range(2**26 // rows):
        index = gumbel_argmax(logits.expand(rows, 1001), key=fold_in(KEY, i))
        wins += int((index > 0).sum())
    mean = 2**26 * 1e-6
    low, high = stats.poisson.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], mean)
    assert low <= wins <= high, wins
