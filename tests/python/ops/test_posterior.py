# SPDX-License-Identifier: Apache-2.0
"""gumbel_posterior, noise given its outcome, and gumbel_topk_log_prob, an ordered draw's law."""

import itertools

import pytest
import torch
from common import DTYPES, compute_type, make_key, noise
from compiling import compiled

from torch_gumbel import (
    gumbel_argmax,
    gumbel_posterior,
    gumbel_topk,
    gumbel_topk_log_prob,
    split,
)

KEY = make_key(11)
NAN, INF = torch.nan, torch.inf
P = torch.tensor([0.5, 0.3, 0.2])
EULER = 0.5772156649015329


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 88.0, 1e4])
def test_the_largest_is_at_the_index_alone_and_the_values_are_those_of_the_formula(scale, dtype):
    x = (torch.randn(200, 9) * scale).to(dtype)
    index = torch.randint(9, (200,))
    drawn = gumbel_posterior(x, index, key=KEY)
    assert drawn.dtype == compute_type(dtype) and drawn.isfinite().all()
    largest = drawn.gather(1, index[:, None])
    assert ((drawn < largest).sum(1) == 8).all()
    theta, g = x.double(), noise(x, KEY).double()
    most = theta.logsumexp(1, keepdim=True) + g.gather(1, index[:, None])
    wanted = -torch.logaddexp(-(theta + g), -most).scatter(1, index[:, None], -most)
    error = (drawn.double() - wanted).abs()
    assert (error <= 4 * torch.finfo(drawn.dtype).eps * wanted.abs().clamp_min(max(1, scale))).all()


def test_given_a_draw_from_the_logits_it_is_gumbel_noise_again():
    """Mean and variance of every class within 5 standard errors: false alarm 3e-6. The noise
    itself, not conditioned, fails the first assertion; a fixed index fails the last."""
    n, theta = 400_000, P.log()
    index = gumbel_argmax(theta, num_samples=n, key=make_key(1))
    drawn = gumbel_posterior(theta.expand(n, 3), index, key=make_key(2)).double()
    assert torch.equal(drawn.argmax(1), index)
    at_random = (drawn - theta - EULER).mean(0) / (torch.pi / 6**0.5) * n**0.5
    assert at_random.abs().max() < 5
    spread = ((drawn - theta - EULER) ** 2).mean(0) - torch.pi**2 / 6
    assert spread.abs().max() < 5 * (4.4 * (torch.pi**2 / 6) ** 2 / n) ** 0.5
    fixed = gumbel_posterior(theta, torch.tensor(2), num_samples=n, key=make_key(2)).double()
    assert ((fixed - theta - EULER).mean(0) * n**0.5).abs().max() > 100


def test_a_known_largest_value_is_kept_and_the_others_follow_the_truncated_law():
    """Kolmogorov-Smirnov of F(x) / F(most), F(x) = exp(-exp(theta - x)): false alarm 1e-6. The law
    without truncation (and one that is cut off) is rejected."""
    n, most = 100_000, 0.2
    theta = P.log()
    drawn = gumbel_posterior(theta, torch.tensor(1), max_value=most, num_samples=n, key=KEY)
    assert (drawn[:, 1] == torch.tensor(most)).all()

    def distance(x):
        cdf = (-(theta[0] - x).exp()).exp() / (-(theta[0] - most).exp()).exp()
        return (cdf.sort().values - torch.arange(n) / n).abs().max() * n**0.5

    assert distance(drawn[:, 0].double()) < 2.7
    free = theta[0] + noise(torch.zeros(n), KEY)
    assert distance(free.clamp_max(most).double()) > 10
    rows = gumbel_posterior(
        theta.expand(2, 3), torch.tensor([0, 1]), max_value=torch.tensor([1.0, -2.0]), key=KEY
    )
    assert rows.amax(1).tolist() == [1.0, -2.0]


def test_counterfactuals_are_stable():
    """An outcome never moves from i to j where p'(i) / p(i) >= p'(j) / p(j) (Oberst and Sontag)."""
    seen, other = torch.randn(2, 20_000, 4)
    index = gumbel_argmax(seen, key=make_key(1))
    shift = other.log_softmax(1) - seen.log_softmax(1)
    moved = (other + gumbel_posterior(seen, index, key=make_key(2)) - seen).argmax(1)
    ratios = [shift.gather(1, i[:, None]) for i in (index, moved)]
    assert (moved != index).float().mean() > 0.2
    assert not ((moved != index)[:, None] & (ratios[0] > ratios[1] + 1e-5)).any()


def test_samples_rows_and_keys_of_their_own_are_independent_of_each_other():
    x, index = torch.randn(3, 5, 2), torch.randint(5, (3, 2))
    drawn = gumbel_posterior(x, index, 1, num_samples=4, key=KEY)
    assert drawn.shape == (4, 3, 5, 2) and torch.equal(drawn.argmax(2), index.expand(4, 3, 2))
    keys = split(KEY, 3)
    batched = gumbel_posterior(x, index, 1, num_samples=4, key=keys)
    for i in range(3):
        alone = gumbel_posterior(x[i], index[i], 0, num_samples=4, key=keys[i])
        assert torch.equal(batched[:, i], alone)
    assert gumbel_posterior(torch.tensor(3.0), torch.tensor(0), key=KEY).shape == ()


@pytest.mark.parametrize(
    ("row", "index", "most"),
    [
        ([0.0, -INF, 1.0], 1, None),
        ([0.0, NAN, 1.0], 0, None),
        ([0.0, INF, 1.0], 1, None),
        ([-INF, -INF, -INF], 0, None),
        ([0.0, 1.0, 2.0], 3, None),
        ([0.0, 1.0, 2.0], -1, None),
        ([0.0, 1.0, 2.0], 1, INF),
        ([0.0, 1.0, 2.0], 1, NAN),
    ],
    ids=str,
)
def test_a_row_without_such_an_outcome_is_nan(row, index, most):
    x = torch.tensor([row, [0.0, 1.0, -INF]], requires_grad=True)
    given = None if most is None else torch.tensor([most, 0.5])
    drawn = gumbel_posterior(x, torch.tensor([index, 0]), max_value=given, key=KEY)
    assert drawn[0].isnan().all() and drawn[1, :2].isfinite().all() and drawn[1, 2] == -INF
    drawn[1, :2].sum().backward()
    assert x.grad.isfinite().all() and x.grad[1, 2] == 0


def test_its_derivative_passes_through_the_noise():
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    most = torch.randn(4, 1, dtype=torch.float64, requires_grad=True)
    index = torch.randint(6, (4,))
    assert torch.autograd.gradcheck(lambda a: gumbel_posterior(a, index, key=KEY), x)
    assert torch.autograd.gradgradcheck(lambda a: gumbel_posterior(a, index, key=KEY), x)
    known = lambda a, m: gumbel_posterior(a, index, max_value=m, key=KEY)  # noqa: E731
    assert torch.autograd.gradcheck(known, (x, most))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), [((4, 6), 1), ((6, 3), 0), ((2, 6, 3), 1)], ids=str)
def test_log_probabilities_of_draws_are_sums_over_what_is_left(shape, dim, dtype):
    x = (torch.randn(shape) * 3).to(dtype)
    for k, temperature in ((1, 1.0), (3, 0.7), (6, 2.0)):
        indices = gumbel_topk(x, k, dim, key=KEY)[1]
        wanted, left = 0, x.double().clone() / temperature
        for i in range(k):
            at = indices.narrow(dim, i, 1)
            wanted = wanted + left.log_softmax(dim).gather(dim, at)
            left = left.scatter(dim, at, -INF)
        value = gumbel_topk_log_prob(x, indices, dim, temperature=temperature)
        assert value.dtype == compute_type(dtype) and (value <= 0).all()
        torch.testing.assert_close(value.double(), wanted.squeeze(dim), rtol=2e-6, atol=2e-6)


def test_probabilities_of_all_ordered_draws_sum_to_one_and_are_those_of_the_sampler():
    """The frequencies of 200,000 draws: chi-squared of 6 outcomes, false alarm 1e-6 (37.3)."""
    pairs = torch.tensor(list(itertools.permutations(range(3), 2)))
    p = gumbel_topk_log_prob(P.log().expand(6, 3), pairs).exp().double()
    assert abs(p.sum() - 1) < 1e-6 and abs(p[1] - 0.2) < 1e-7
    n = 200_000
    drawn = gumbel_topk(P.log().expand(n, 3), 2, key=KEY)[1]
    counts = torch.stack([(drawn == pair).all(1).sum() for pair in pairs]).double()
    assert ((counts - n * p) ** 2 / (n * p)).sum() < 37.3


@pytest.mark.parametrize(
    ("row", "indices", "wanted"),
    [
        ([0.0, -INF, 1.0], [2, 0], -0.31326169),
        ([0.0, -INF, 1.0], [2, 1], -INF),
        ([0.0, 1.0, 2.0], [1, 1], -INF),
        ([1e4, -1e4, 0.0], [1, 2], -30000.0),
        ([0.0, 1.0, 2.0], [1, 3], NAN),
        ([0.0, 1.0, NAN], [1, 0], NAN),
        ([-INF, -INF, -INF], [1, 0], NAN),
        ([0.0, 1.0, INF], [2, 0], NAN),
    ],
    ids=str,
)
def test_impossible_draws_have_no_gradient(row, indices, wanted):
    x = torch.tensor(row, requires_grad=True)
    value = gumbel_topk_log_prob(x, torch.tensor(indices))
    torch.testing.assert_close(value, torch.tensor(wanted), equal_nan=True, rtol=1e-6, atol=0)
    value.backward()
    assert x.grad.isfinite().all() and (torch.isfinite(value) or not x.grad.any())
    assert (x.grad[x.detach().isinf()] == 0).all()


def test_its_derivatives_are_those_of_the_formula():
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    t = (torch.rand(4, dtype=torch.float64) + 0.5).requires_grad_()
    indices = torch.rand(4, 6).argsort(1)[:, :3]
    function = lambda a, b: gumbel_topk_log_prob(a, indices, temperature=b)  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, t), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (x, t))


def test_both_compile():
    x, index = torch.randn(3, 5), torch.randint(5, (3,))
    step = compiled(lambda a, k: gumbel_posterior(a, index, num_samples=2, key=k))
    assert torch.equal(step(x, KEY).argmax(2), index.expand(2, 3))
    indices = x.argsort(1)[:, :2]
    torch.testing.assert_close(
        compiled(lambda a: gumbel_topk_log_prob(a, indices))(x), gumbel_topk_log_prob(x, indices)
    )
