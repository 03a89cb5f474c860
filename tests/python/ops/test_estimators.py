# SPDX-License-Identifier: Apache-2.0
"""Estimators of sample_one_hot: their gradients by definition, and exact means and variances.

Given the class, all but "gumbel", "gumbel-rao", and "decoupled" are functions of logits and
gradient: their moments are sums over classes. The others are sampled, and compared within 5
standard errors (false alarms: 6e-7 each).
"""

import numpy as np
import oracle
import pytest
import torch
from common import assert_same_bits, make_key, ops, tau_of

from torch_gumbel import gumbel_argmax, gumbel_softmax, sample_one_hot

KEY = make_key(5)
MAKE = torch.Generator().manual_seed(1)
PI = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
V = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
Q = torch.exp(-2.0 * (torch.arange(3.0)[:, None] - torch.arange(3.0)).abs()).double()


def some(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=MAKE, dtype=torch.float64).to(dtype)


def backward(estimator, x, grad, index, tau=1.0, samples=1, gap=1.0, key=KEY, dim=-1):
    """Of rows whose drawn classes are given."""
    dim = dim % x.dim()
    tau = tau if isinstance(tau, torch.Tensor) else tau_of(tau)
    return ops._sample_one_hot_backward(
        grad, x, index.unsqueeze(dim), tau, key, dim, estimator, samples=samples, gap=gap,
        tau_grad=estimator not in ("zgr", "reinmax"),
    )  # fmt: skip


def jacobian(y, g):
    return y * (g - (y * g).sum(-1, keepdim=True))


def by_definition(estimator, x, g, index, tau=1.0, gap=1.0):
    """The gradient in float64, from the estimator's paper."""
    x, g = x.double(), g.double()
    one = torch.nn.functional.one_hot(index, x.shape[-1]).double()
    p, q = x.softmax(-1), (x / tau).softmax(-1)
    if estimator == "straight-through":
        return jacobian(q, g) / tau
    if estimator == "reinmax":
        return 2 * jacobian((q + one) / 2, g) - jacobian(p, g) / 2
    if estimator == "zgr":
        drawn = (one * g).sum(-1, keepdim=True)
        return (p * (g - drawn) + one * (drawn - (p * g).sum(-1, keepdim=True))) / 2
    top = x.amax(-1, keepdim=True)
    raised = (top - (x * one).sum(-1, keepdim=True)) * one
    lowered = (x - top + gap).clamp(min=0) * (1 - one)
    return jacobian(((x + raised - lowered) / tau).softmax(-1), g) / tau


FORMULAS = [("straight-through", 0.7), ("zgr", 1.0), ("reinmax", 1.3), ("gapped", 0.6)]
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.mark.parametrize(("estimator", "tau"), FORMULAS)
def test_gradients_are_those_of_the_definition(estimator, tau):
    for shape in [(5, 1), (7, 2), (40, 3), (9, 17), (33, 32), (3, 1000), (2, 2049), (1, 9001)]:
        for dtype, tolerance in TOLERANCE.items():
            x, g = some(*shape).mul(2).to(dtype), some(*shape).to(dtype)
            index = gumbel_argmax(x, key=KEY)
            got = backward(estimator, x, g, index, tau)[0]
            wanted = by_definition(estimator, x, g, index, tau)
            assert got.dtype == dtype
            torch.testing.assert_close(got.double(), wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("estimator", "tau"), [*FORMULAS, ("gumbel-rao", 0.7)])
def test_gradients_do_not_depend_on_the_layout(estimator, tau):
    """Nor on the number of threads."""
    x, g = some(6, 20, 35, dtype=torch.float32), some(6, 20, 35, dtype=torch.float32)
    threads = torch.get_num_threads()
    for dim in (0, 1, 2):
        index = gumbel_argmax(x, dim=dim, key=KEY)
        wanted = backward(estimator, x, g, index, tau, 3, dim=dim)[0]
        torch.set_num_threads(1)
        assert_same_bits(backward(estimator, x, g, index, tau, 3, dim=dim)[0], wanted)
        torch.set_num_threads(threads)
        for other in (
            x.transpose(0, 2).contiguous().transpose(0, 2),
            x[:, None].expand(-1, 2, -1, -1)[:, 1],
        ):
            assert_same_bits(backward(estimator, other, g, index, tau, 3, dim=dim)[0], wanted)
        if estimator != "gumbel-rao":  # whose words are by position
            last = backward(estimator, x.movedim(dim, -1), g.movedim(dim, -1), index, tau)[0]
            assert_same_bits(last.movedim(-1, dim), wanted)


def conditional_scores(x, index, positions, draw, wide):
    """Scores relative to the choice's, from words of the definition: -log(1 + E_k / (E_D p_k))."""
    key = (5, 0)
    first, second = (oracle.words(key, positions, plane=2 * draw + 2 + i) for i in (0, 1))
    e = torch.tensor(np.exp(-oracle.noise_of_words(first, second, wide)))
    chosen = e.gather(-1, index[:, None])
    scores = -torch.log1p(e / (chosen * x.double().softmax(-1)))
    return scores.scatter(-1, index[:, None], 0.0)


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gumbel_rao_is_the_mean_over_draws_of_the_noise_given_the_choice(tau, dtype):
    for shape in [(3, 1), (40, 3), (9, 32), (5, 2100)]:
        x, g = some(*shape, dtype=dtype), some(*shape, dtype=dtype)
        x[0, 0] = -torch.inf if shape[1] > 1 else 0.0
        index = gumbel_argmax(x, key=KEY)
        positions = np.arange(x.numel(), dtype=np.uint64).reshape(shape)
        gradients, at_tau = 0.0, 0.0
        for m in range(3):
            wide = dtype == torch.float64
            y = (conditional_scores(x, index, positions, m, wide) / tau).softmax(-1)
            one = jacobian(y, g.double()) / tau / 3
            gradients, at_tau = gradients + one, at_tau - (one * y.clamp(min=1e-300).log()).sum(-1)
        got, rows = backward("gumbel-rao", x, g, index, tau, 3)
        tolerance = 2e-6 / min(tau, 1) if dtype == torch.float32 else 1e-11
        torch.testing.assert_close(got.double(), gradients, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(rows[:, 0].double(), at_tau, atol=30 * tolerance, rtol=1e-4)


def test_reinmax_at_1_is_zgr_draw_by_draw():
    for dtype in TOLERANCE:
        x, g = some(50, 40, dtype=dtype), some(50, 40, dtype=dtype)
        index = gumbel_argmax(x, key=KEY)
        assert_same_bits(*(backward(e, x, g, index)[0] for e in ("reinmax", "zgr")))


def moments(estimator, logits, gradient_at, tau=1.0, **options):
    """The exact mean and variance over classes."""
    k = len(logits)
    x, index = logits.expand(k, k).contiguous(), torch.arange(k)
    got = backward(estimator, x, gradient_at(torch.eye(k).double()), index, tau, **options)[0]
    p = logits.softmax(0)[:, None]
    mean = (p * got).sum(0)
    return mean, (p * (got - mean) ** 2).sum(0)


def toy(t):
    """Of E (b - t)^2, b the first coordinate."""
    return lambda z: torch.stack([2 * (z[:, 0] - t), torch.zeros_like(z[:, 0])], -1)


def quadratic(z):
    return 2 * (z - 1 / 3) @ Q


TOY = {  # t, p: truth, then mean and variance
    (0.499, 0.5): {"straight-through": (0.0005, 0.0625), "zgr": (0.0005, 0.0625),
                   "gapped": (0.00039322, 0.03865625)},
    (0.45, 0.2): {"straight-through": (-0.08, 0.016384), "zgr": (0.016, 0.044944),
                  "gapped": (-0.07194537, 0.02076748)},
    (0.45, 0.9): {"straight-through": (0.081, 0.002916), "zgr": (0.009, 0.019044),
                  "gapped": (0.07140493, 0.00685339)},
}  # fmt: skip
TOY_REINMAX = {(0.499, 0.5): (0.0005, 0.0625), (0.45, 0.2): (-0.01799050, 0.04926619),
               (0.45, 0.9): (0.05777903, 0.02314074)}  # fmt: skip


@pytest.mark.parametrize(("t", "p"), TOY)
def test_moments_of_the_toy_are_exact(t, p):
    logits = torch.tensor([p, 1 - p]).double().log()
    cases = {**TOY[t, p], "reinmax": TOY_REINMAX[t, p]}
    for estimator, (mean, variance) in cases.items():
        got = moments(estimator, logits, toy(t), 1.3 if estimator == "reinmax" else 1.0)
        torch.testing.assert_close(got[0][0].item(), mean, atol=2e-8, rtol=0)
        torch.testing.assert_close(got[1][0].item(), variance, atol=2e-8, rtol=0)


def test_moments_of_three_classes_are_exact():
    wanted = {
        "straight-through": ((0.1154617, -0.0438443, -0.0716174), 0.2313849),
        "zgr": ((0.0117020, -0.0163828, 0.0046808), 0.5033606),
        "gapped": ((0.1203701, -0.0285930, -0.0917771), 0.2724138),
    }
    for estimator, (mean, trace) in wanted.items():
        got = moments(estimator, PI.log(), quadratic)
        torch.testing.assert_close(got[0], torch.tensor(mean).double(), atol=1e-7, rtol=0)
        torch.testing.assert_close(got[1].sum().item(), trace, atol=1e-7, rtol=0)


def test_the_bias_of_reinmax_is_of_second_order_and_that_of_straight_through_of_first():
    wanted = {
        "straight-through": (0.0831842, 0.0187051, 0.0044126, 0.0010696),
        "zgr": (0.0290281, 0.0039301, 0.0005147, 0.0000660),
        "gapped": (0.0430817, 0.0229411, 0.0136124, 0.0074032),
    }
    for estimator, biases in wanted.items():
        for eps, bias in zip((0.4, 0.2, 0.1, 0.05), biases, strict=True):
            f = torch.exp(eps * V)
            truth = PI * (f - (PI * f).sum())
            mean, _ = moments(
                estimator, PI.log(), lambda z, e=eps: e * V * torch.exp(e * z @ V)[:, None]
            )
            torch.testing.assert_close((mean - truth).norm().item(), bias, atol=1e-7, rtol=0)


N = 300_000


def within(values, wanted, what):
    """Whether the mean over rows is `wanted` within 5 standard errors."""
    error = values.std(0) / len(values) ** 0.5
    assert ((values.mean(0) - torch.as_tensor(wanted)).abs() <= 5 * error + 1e-7).all(), (
        f"{what}: {values.mean(0)} +- {error}, wanted {wanted}"
    )


def sampled(estimator, logits, gradient_at, tau, seed=7, **options):
    x = logits.float().expand(N, -1).clone().requires_grad_()
    z = sample_one_hot(x, estimator, tau, key=make_key(seed), **options)
    (got,) = torch.autograd.grad(z, x, gradient_at(z.detach().double()).float())
    return got.double()


THREE = {  # tau: mean, traces of the covariance of "gumbel" and of "gumbel-rao" in the limit
    1.0: ((0.0687840, -0.0247809, -0.0440030), 0.2162499, 0.1794061),
    0.5: ((0.0645838, -0.0293341, -0.0352497), 0.5597121, 0.3251817),
    0.1: ((0.0264623, -0.0211261, -0.0053362), 3.2879166, 0.4754956),
}


@pytest.mark.parametrize("tau", THREE)
def test_gumbel_rao_has_the_mean_of_gumbel_and_a_variance_that_falls_by_the_draws(tau):
    mean, one, limit = THREE[tau]
    cases = [("gumbel", {}, one)]
    cases += [("gumbel-rao", {"samples": m}, limit + (one - limit) / m) for m in (1, 4, 10)]
    for estimator, options, trace in cases:
        got = sampled(estimator, PI.log(), quadratic, tau, **options)
        within(got, mean, f"{estimator} {options}: mean")
        within(((got - got.mean(0)) ** 2).sum(-1), trace, f"{estimator} {options}: variance")


OF_TOY = [
    (1.0, -0.05011679, 0.02125793, 0.01610809),
    (0.1, 0.00285797, 0.26656593, 0.04024233),
]


@pytest.mark.parametrize(("tau", "mean", "one", "limit"), OF_TOY)
def test_gumbel_rao_of_the_toy(tau, mean, one, limit):
    got = sampled("gumbel-rao", torch.tensor([0.2, 0.8]).double().log(), toy(0.45), tau, samples=5)
    within(got[:, 0], mean, "mean")
    within((got[:, 0] - mean) ** 2, limit + (one - limit) / 5, "variance")


@pytest.mark.parametrize(("p", "one", "limit"), [
    ((0.5, 0.3, 0.2), (0.0013064, 0.0033812), (0.0010711, 0.0019308)),
    ((0.8, 0.15, 0.05), (0.0291041, 0.0738985), (0.0170317, 0.0260014))])  # fmt: skip
def test_gumbel_rao_of_the_quadratic_programme(p, one, limit):
    p, c = torch.tensor(p).double(), 1 / 3
    a = (p - c)[:, None] * (p - c) * Q / (c * c - (p * c)[:, None] - p * c)
    a[range(3), range(3)] = (p - c) ** 2 / (p - 2 * p * c + c * c)
    for tau, of_one, of_limit in zip((1.0, 0.5), one, limit, strict=True):
        got = sampled("gumbel-rao", p.log(), lambda z: 2 * (z - c) @ a, tau, samples=2)
        within(((got - got.mean(0)) ** 2).sum(-1), (of_one + of_limit) / 2, f"variance, {tau}")


def test_decoupled_is_the_gradient_of_noise_that_is_not_divided():
    x = some(200, 6).requires_grad_()
    g = some(200, 6)
    z, index = sample_one_hot(x, "decoupled", 0.5, tau_forward=2.0, return_index=True, key=KEY)
    assert torch.equal(index, gumbel_argmax(x.detach(), temperature=2.0, key=KEY))
    u = x.detach().div(0.5).requires_grad_()
    (wanted,) = torch.autograd.grad(gumbel_softmax(u, key=KEY), u, g)
    torch.testing.assert_close(torch.autograd.grad(z, x, g)[0], wanted / 0.5)
