# SPDX-License-Identifier: Apache-2.0
"""The numbers of docs/guide/noise_recipes.md, with the functions of that page."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import torch_gumbel as tg

PAGE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "noise_recipes.md"
KEY = tg.key(7)
P = torch.tensor([0.5, 0.3, 0.2])


@pytest.fixture(scope="module")
def recipes():
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.M):
        exec(code, names)
    return SimpleNamespace(**names)


def standard_errors(values, truth):
    """Of the mean of the first dimension, from the truth."""
    n, values = len(values), values.double()
    return ((values.mean(0) - truth) / (values.std(0) / n**0.5)).abs().max()


def distance(p):
    """Kolmogorov-Smirnov, times sqrt(n): above 2.7 in 1 of 10^6 uniform samples."""
    n = len(p)
    return (p.sort().values - torch.arange(n) / n).abs().max() * n**0.5


def test_counterfactuals_are_stable(recipes):
    seen, other = torch.randn(2, 20_000, 4)
    index = tg.gumbel_argmax(seen, key=tg.key(1))
    moved = recipes.counterfactual(seen, index, other, tg.key(2))
    shift = other.log_softmax(1) - seen.log_softmax(1)
    of_index, of_moved = (shift.gather(1, i[:, None])[:, 0] for i in (index, moved))
    assert (moved != index).float().mean() > 0.2
    assert not ((moved != index) & (of_index > of_moved + 1e-5)).any()


@pytest.mark.parametrize("length", [1, 10])
def test_p_values_of_a_text_without_the_watermark_are_uniform(recipes, length):
    """Over 10^5 secrets. Those of repeated contexts, counted as if they were fresh, are not."""
    secrets = torch.randint(-(2**63), 2**63 - 1, (100_000, 1, 2)).view(torch.uint64)
    keys = torch.cat([tg.fold_in(secrets, i) for i in range(length)], 1)
    text = torch.randint(50_000, (1, length)).expand(100_000, length)
    s = recipes.scores(text.flatten(), keys.flatten(0, 1), 50_000).view(-1, length)
    n = torch.tensor(float(length)).double()
    assert distance(torch.special.gammaincc(n, s.sum(1))) < 2.7
    if length > 1:
        assert distance(torch.special.gammaincc(n, s[:, 0] * length)) > 20


@pytest.mark.parametrize(
    ("p", "mean"),
    [
        (torch.ones(2) / 2, 1.5),
        (torch.ones(4) / 4, 2.0833333),
        (torch.ones(10) / 10, 2.9289683),
        (P, 1.7837927),
    ],
    ids=str,
)
def test_the_score_of_a_drawn_token_has_its_mean(recipes, p, mean):
    keys = tg.split(KEY, 200_000)
    drawn = tg.gumbel_argmax(p.log().expand(200_000, len(p)), key=keys)
    assert standard_errors(recipes.scores(drawn, keys, len(p)), mean) < 5


def test_p_values_are_the_tails_of_the_gamma_law(recipes):
    for n, total, tail in [(10, 15, 6.985366e-2), (50, 75, 9.039320e-4), (100, 150, 5.924540e-6)]:
        s = torch.full((n,), total / n, dtype=torch.float64)
        assert abs(recipes.p_value(s) / tail - 1) < 1e-6


def test_repeated_contexts_are_dropped(recipes):
    text = torch.tensor([1, 2, 3, 4, 1, 2, 3, 5, 2, 3, 9])
    tokens, keys = recipes.context_keys(KEY, text, 3)
    assert tokens.tolist() == [4, 1, 2, 3, 2, 3, 9] and len(keys.unique(dim=0)) == 7


def test_an_audit_finds_no_fault_in_honest_draws_and_many_in_others(recipes):
    logits = torch.randn(20_000, 100)
    top, listed = logits.topk(30)
    honest = tg.gumbel_argmax(logits, key=KEY)
    shown = (listed == honest[:, None]).any(1)
    assert 0.5 < shown.float().mean() < 1
    agrees = recipes.agrees(honest, listed, top, 100, KEY)
    assert torch.equal(agrees, shown)
    sharper = tg.gumbel_argmax(2 * logits, key=KEY)
    assert recipes.agrees(sharper, listed, top, 100, KEY).float().mean() < 0.8


def binary_rebar(a, t, lam, eta, n=500):
    """Estimates of REBAR for a sigmoid on a grid of both uniforms, in float64."""
    grid = (torch.arange(n).double() + 0.5) / n
    u, v = (each.flatten() for each in torch.meshgrid(grid, grid, indexing="ij"))
    a = torch.full_like(u, a).requires_grad_()
    p = a.sigmoid()
    z = a + u.logit()
    b = (z > 0).double()
    given = a + torch.where(b > 0, 1 - p + v * p, v * (1 - p)).logit()
    c = [((x / lam).sigmoid() - t) ** 2 for x in (z, given)]
    log_p = torch.where(b > 0, p, 1 - p).log()
    estimate = ((b - t) ** 2 - eta * c[1]).detach() * log_p + eta * (c[0] - c[1])
    return torch.autograd.grad(estimate.sum(), a)[0]


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_rebar_has_the_true_mean_and_the_variance_of_its_formula(recipes, eta):
    """A grid integrates both to about 1e-3. REINFORCE's variance: p = .5, t = .499: .01562513."""
    n, t = 400_000, 0.45
    theta = torch.tensor([0.7, 0.0]).expand(n, 2).clone().requires_grad_()
    recipes.rebar(lambda y: (y[:, 0] - t) ** 2, theta, 0.5, eta, KEY).sum().backward()
    p = torch.tensor(0.7).double().sigmoid()
    truth = p * (1 - p) * (1 - 2 * t)
    assert standard_errors(theta.grad[:, 0], truth) < 5
    assert (theta.grad.sum(1).abs() < 1e-4).all()
    reference = binary_rebar(0.7, t, 0.5, eta)
    assert abs(reference.mean() - truth) < 1e-3
    assert abs(theta.grad[:, 0].var() / reference.var() - 1) < 0.03


def test_conditional_noise_must_be_differentiated_through():
    """d/dtheta E[softmax(z~ / .5)_0] at (.7, 0), with the score of the draw: .197586803, and .3529
    with the noise held fixed."""
    theta = torch.tensor([0.7, 0.0]).expand(500_000, 2).clone().requires_grad_()
    index = tg.gumbel_argmax(theta.detach(), key=tg.key(1))
    z = tg.gumbel_posterior(theta, index, key=tg.key(2))
    (total,) = torch.autograd.grad((z / 0.5).softmax(1)[:, 0].sum(), theta)
    held = theta + (z - theta).detach()
    (partial,) = torch.autograd.grad((held / 0.5).softmax(1)[:, 0].sum(), theta)
    p = theta[0, 0].detach().sigmoid()
    score = (z.detach() / 0.5).softmax(1)[:, 0] * ((index == 0).float() - p)
    assert standard_errors(total[:, 0] + score, 0.197586803) < 5
    assert standard_errors(partial[:, 0] + score, 0.3529) < 5


def test_leave_one_out_is_unbiased(recipes):
    values = torch.tensor([1.0, -2.0, 0.5])
    truth = P * (values - P @ values)
    variances = []
    for draws in (2, 8):
        theta = P.log().expand(100_000, 3).clone().requires_grad_()
        recipes.leave_one_out(lambda index: values[index], theta, draws, KEY).sum().backward()
        assert standard_errors(theta.grad, truth) < 5
        variances.append(theta.grad.var(0).sum())
    assert variances[1] < variances[0] / 4


def test_imle_has_its_exact_mean(recipes):
    values = torch.tensor([1.0, -2.0, 0.5])
    for strength in (0.5, 4.0):
        theta = P.log().expand(200_000, 3).clone().requires_grad_()
        (recipes.IMLE.apply(theta, KEY, strength) @ values).sum().backward()
        moved = (P.log() - strength * values).softmax(0)
        assert standard_errors(theta.grad, (P - moved) / strength) < 5


def test_routing_is_the_dense_mixture_on_average(recipes):
    logits, outputs = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0]), torch.tensor([3.0, -1, 2, 0.5, -2])
    p = logits.softmax(0)
    for k in (1, 3):
        theta = logits.expand(400_000, 5).clone().requires_grad_()
        experts, weights = recipes.route(theta, k, KEY)
        mixture = (weights * outputs[experts]).sum(1)
        mixture.sum().backward()
        assert experts.shape == (400_000, k)
        assert standard_errors(mixture.detach(), p @ outputs) < 5
        assert standard_errors(theta.grad, p * (outputs - p @ outputs)) < 5


def test_beams_have_the_law_of_draws_without_replacement(recipes):
    """All ordered pairs of the 9 leaves of a tree: chi-squared with 71 degrees of freedom, above
    140 in 1 of 10^6."""
    n, tree = 100_000, torch.tensor([[0.0, 1.0, -0.5], [0.3, -1.0, 0.6]])

    def model(prefix):
        return tree[prefix.shape[1]].expand(len(prefix), 3)

    def first_two(key):
        leaves, _, perturbed = recipes.stochastic_beams(model, 2, 2, key)
        return leaves @ torch.tensor([3, 1]), perturbed

    leaves, perturbed = torch.func.vmap(first_two)(tg.split(KEY, n))
    assert (perturbed[:, 0] > perturbed[:, 1]).all()
    log_p = (tree[0].log_softmax(0)[:, None] + tree[1].log_softmax(0)).flatten()
    pairs = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    wanted = n * tg.gumbel_topk_log_prob(log_p.expand(72, 9), pairs).exp().double()
    counts = torch.bincount(leaves @ torch.tensor([9, 1]), minlength=81)[
        pairs @ torch.tensor([9, 1])
    ]
    assert counts.sum() == n
    assert ((counts - wanted) ** 2 / wanted).sum() < 140
    assert standard_errors(perturbed[:, 0], 0.5772156649) < 5  # the largest of all is Gumbel(0)


def test_sinkhorn_is_doubly_stochastic_and_tends_to_the_best_assignment(recipes):
    noisy = torch.randn(30, 6, 6) + tg.sample_gumbel((30, 6, 6), key=KEY)
    y = recipes.sinkhorn(noisy, 1.0)
    torch.testing.assert_close(y.sum(-2), torch.ones(30, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.sum(-1), torch.ones(30, 6), atol=1e-2, rtol=0)
    optimize = pytest.importorskip("scipy.optimize")
    hard = recipes.sinkhorn(noisy.double(), 0.01, 1000).argmax(-1)
    best = [optimize.linear_sum_assignment(each, maximize=True)[1].tolist() for each in noisy]
    assert (hard == torch.tensor(best)).all(1).float().mean() > 0.95
