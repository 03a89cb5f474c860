# SPDX-License-Identifier: Apache-2.0
"""Densities against their closed forms, in log space, and draws of the Gumbel distribution."""

import math

import pytest
import torch
from scipy import stats
from torch.autograd import gradcheck

from torch_gumbel import key as make_key
from torch_gumbel.distributions import (
    ExpRelaxedCategorical,
    Gumbel,
    RelaxedOneHotCategorical,
)

FALSE_ALARM = 1e-6
PROBS = [[0.1, 0.2, 0.3], [0.5, 0.3, 0.2]]


def doubles(values, **options):
    return torch.tensor(values, dtype=torch.float64, **options)


def closed_density(y, probs, tau):
    """Jang, Gu, Poole, eq. 3, as printed."""
    k = len(probs)
    total = sum(p / y[i] ** tau for i, p in enumerate(probs))
    product = math.prod(p / y[i] ** (tau + 1) for i, p in enumerate(probs))
    return math.gamma(k) * tau ** (k - 1) * total ** (-k) * product


@pytest.mark.parametrize("tau", [0.25, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("probs", [[0.3, 0.7], [0.5, 0.3, 0.2]])
def test_log_prob_is_the_closed_density(probs, tau):
    made = RelaxedOneHotCategorical(tau, doubles(probs))
    for y in made.sample((200,)):
        if (y < 1e-40).any():  # its powers overflow in the formula as printed
            continue
        wanted = math.log(closed_density(y.tolist(), probs, tau))
        assert made.log_prob(y).item() == pytest.approx(wanted, rel=1e-10, abs=1e-10)
        assert made.base_dist.log_prob(y.log()).item() == pytest.approx(
            wanted + y.log().sum().item(), rel=1e-10, abs=1e-10
        )


def mass(made, reach, step):
    """Integral of the density over the simplex, in coordinates log(y_i / y_K).

    The density times the Jacobian prod y falls off exponentially there in every direction, so
    the trapezoid rule converges exponentially too.
    """
    k = made.event_shape[0]
    axis = torch.arange(-reach, reach + step / 2, step, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * (k - 1)).view(-1, k - 1)
    log_y = torch.cat([grid, grid.new_zeros(len(grid), 1)], -1).log_softmax(-1)
    return made.base_dist.log_prob(log_y).exp().sum().item() * step ** (k - 1)


@pytest.mark.parametrize("tau", [0.25, 0.5, 0.67, 1.0, 2.0])
@pytest.mark.parametrize("probs", [[0.3, 0.7], [0.5, 0.5], [0.5, 0.3, 0.2], [0.01, 0.04, 0.95]])
def test_the_density_integrates_to_one(probs, tau):
    made = RelaxedOneHotCategorical(tau, doubles(probs))
    assert mass(made, reach=24 / tau, step=0.2 / tau) == pytest.approx(1, abs=1e-8)


def test_the_density_on_the_simplex_is_that_in_log_space():
    made = RelaxedOneHotCategorical(doubles([0.5, 0.9]), doubles(PROBS))
    log_y = made.base_dist.sample((100,))
    on_simplex = made.base_dist.log_prob(log_y) - log_y.sum(-1)
    torch.testing.assert_close(made.log_prob(log_y.exp()), on_simplex)


def test_a_density_with_1000_classes_at_temperature_a_tenth_is_finite():
    logits = (3 * torch.randn(200, 1000)).requires_grad_()
    tau = torch.tensor(0.1, requires_grad=True)
    made = RelaxedOneHotCategorical(tau, logits=logits)
    log_y = made.base_dist.rsample()
    assert (log_y.exp() == 0).float().mean() > 0.5  # it did underflow
    in_logs, on_simplex = made.base_dist.log_prob(log_y), made.log_prob(made.sample())
    assert in_logs.isfinite().all() and on_simplex.isfinite().all()
    in_logs.sum().backward()
    assert logits.grad.isfinite().all() and tau.grad.isfinite().all()
    wide = ExpRelaxedCategorical(0.1, logits=logits.detach().double())
    torch.testing.assert_close(in_logs.double(), wide.log_prob(log_y.double()), rtol=1e-5, atol=0)


def test_the_score_has_mean_zero_and_its_known_information():
    """dlogp/dlogits = 1 - K s with s Dirichlet(1, ..., 1): variance (K - 1) / (K + 1)."""
    logits, n = doubles([0.3, -1.0, 0.7]).repeat(200_000, 1).requires_grad_(), 200_000
    made = RelaxedOneHotCategorical(0.4, logits=logits)
    made.base_dist.log_prob(made.base_dist.sample()).sum().backward()
    score = logits.grad
    assert (score.mean(0).abs() < 5 * math.sqrt(0.5 / n)).all()
    torch.testing.assert_close(score.var(0), doubles([0.5] * 3), rtol=0.02, atol=0)


def test_a_divergence_by_samples_has_its_closed_value():
    """(.5, .3, .2) against uniform at one temperature: .15486027 at any (5 standard errors)."""
    q = ExpRelaxedCategorical(0.7, doubles([0.5, 0.3, 0.2]))
    p = ExpRelaxedCategorical(0.7, doubles([1 / 3] * 3))
    log_y = q.sample((400_000,), key=make_key(1))
    terms = q.log_prob(log_y) - p.log_prob(log_y)
    assert abs(terms.mean() - 0.15486027) < 5 * terms.std() / math.sqrt(len(terms))


# Gumbel.


def test_gumbel_has_its_distribution_in_both_tails():
    """Kolmogorov-Smirnov, with a fault of 1 % in scale caught."""
    made = Gumbel(doubles(1.0), doubles(2.0))
    x = made.sample((1_000_000,), key=make_key(2)).numpy()
    assert stats.kstest(x, stats.gumbel_r(1.0, 2.0).cdf).pvalue > FALSE_ALARM
    assert stats.kstest(x, stats.gumbel_r(1.0, 2.02).cdf).pvalue < FALSE_ALARM


def test_gumbel_moments_and_density_are_those_of_scipy():
    made, exact = Gumbel(doubles(0.7), doubles(1.3)), stats.gumbel_r(0.7, 1.3)
    x = torch.linspace(-4, 30, 50, dtype=torch.float64)
    torch.testing.assert_close(made.log_prob(x), torch.from_numpy(exact.logpdf(x.numpy())))
    torch.testing.assert_close(made.cdf(x), torch.from_numpy(exact.cdf(x.numpy())))
    p = torch.linspace(1e-12, 1 - 1e-12, 50, dtype=torch.float64)
    torch.testing.assert_close(made.icdf(p), torch.from_numpy(exact.ppf(p.numpy())))
    for got, wanted in [
        (made.mean, exact.mean()),
        (made.variance, exact.var()),
        (made.entropy(), exact.entropy()),
    ]:
        assert got.item() == pytest.approx(wanted, rel=1e-9)


def test_gumbel_is_reparametrized_and_expands():
    loc, scale = doubles([0.0, 1.0], requires_grad=True), doubles(0.5, requires_grad=True)
    made = Gumbel(loc, scale)
    x = made.rsample((7,))
    x.sum().backward()
    assert torch.equal(loc.grad, doubles([7.0, 7.0]))
    noise = (x - loc).detach() / 0.5
    torch.testing.assert_close(scale.grad, noise.sum())
    large = made.expand((3, 2))
    assert type(large) is Gumbel and large.sample((4,)).shape == (4, 3, 2)
    gradcheck(lambda x, loc, scale: Gumbel(loc, scale).log_prob(x), (x.detach()[0], loc, scale))
    with pytest.raises(ValueError):
        Gumbel(0.0, -1.0, validate_args=True)


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 3.0])
def test_modes_are_where_the_density_is_highest(tau):
    probs = doubles([[0.2, 0.5, 0.3], [0.4, 0.0, 0.6]])
    in_log_space = ExpRelaxedCategorical(tau, probs=probs)
    mode = in_log_space.mode
    torch.testing.assert_close(mode, (probs.log() / tau).log_softmax(-1))
    torch.testing.assert_close(mode.logsumexp(-1), torch.zeros(2, dtype=torch.float64))
    assert (in_log_space.log_prob(mode) >= in_log_space.log_prob(in_log_space.sample((500,)))).all()
    half = ExpRelaxedCategorical(tau, logits=torch.tensor([6e4, 5.9e4]).half()).mode
    assert half.dtype == torch.float16 and half[0] == 0

    on_simplex = RelaxedOneHotCategorical(tau, probs=probs)
    corner = on_simplex.mode
    assert torch.equal(corner, doubles([[0, 1, 0], [0, 0, 1]])) and corner.dtype == probs.dtype
    assert torch.equal(corner.argmax(-1), on_simplex.categorical.mode)
    open_face = RelaxedOneHotCategorical(tau, probs=probs[0])
    if tau < 2:  # K - 1: the density has no bound, and is highest near this corner
        centre, near = torch.full((3,), 1 / 3, dtype=torch.float64), 1e-9
        at = open_face.log_prob(torch.eye(3, dtype=torch.float64) * (1 - 3 * near) + near)
        assert at.argmax() == 1 and at[1] > open_face.log_prob(centre)


@pytest.mark.parametrize("family", [RelaxedOneHotCategorical, ExpRelaxedCategorical])
def test_moments_without_a_closed_form_name_the_distribution_of_the_class(family):
    probs = doubles([[0.2, 0.3, 0.5], [0.0, 0.5, 0.5]])
    q = family(0.7, probs=probs)
    for name in ("mean", "variance", "stddev", "entropy"):
        with pytest.raises(NotImplementedError, match=rf"^{family.__name__}: .* \.categorical$"):
            value = getattr(q, name)
            value()
    assert isinstance(q.categorical, torch.distributions.Categorical)
    assert torch.equal(q.categorical.probs, probs)
    torch.testing.assert_close(q.categorical.entropy(), torch.special.entr(probs).sum(-1))
    drawn = q.sample((40_000,)).argmax(-1)
    share = torch.stack([(drawn == k).double().mean(0) for k in range(3)], -1)
    assert ((share - probs).abs() < 6 * (probs * (1 - probs) / 40_000).sqrt() + 1e-12).all()
    assert q.expand((4, 2)).categorical.batch_shape == (4, 2)
