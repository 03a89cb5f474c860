# SPDX-License-Identifier: Apache-2.0
"""kl_categorical against float64 references."""

import math

import numpy as np
import pytest
import torch
from common import DTYPES, assert_same_bits, compute_type, layouts
from scipy.special import rel_entr

from torch_gumbel import kl_categorical

NAN, INF = torch.nan, torch.inf
# For values of a few units; sums of long rows add their rounding.
TOLERANCES = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.float16: {"rtol": 2e-6, "atol": 2e-6},
    torch.bfloat16: {"rtol": 2e-6, "atol": 2e-6},
}
# Gradients are rounded to the dtype of the rows.
GRADIENTS = {
    torch.float64: {"rtol": 1e-11, "atol": 1e-13},
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.float16: {"rtol": 2e-3, "atol": 1e-6},
    torch.bfloat16: {"rtol": 1e-2, "atol": 1e-6},
}
SHAPES = [((7,), 0), ((5, 7), 1), ((3, 40, 33), 1), ((300, 6), 0), ((4, 1024), -1), ((3, 9001), 1),
          ((9001, 3), 0), ((2, 1), 1)]  # fmt: skip


def some_logits(shape, dim, dtype):
    x = 3 * torch.randn(shape, dtype=torch.float64)
    if x.size(dim) > 2:
        x.select(dim, 2).fill_(-INF)
    return x.to(dtype)


def some_probs(shape, dim, dtype):
    """Not normalised, with exact zeros."""
    p = torch.rand(shape, dtype=torch.float64)
    p[torch.rand(shape) < 0.3] = 0
    p.select(dim, 0).fill_(0.5)
    return p.to(dtype)


def some_prior(size, zeros=False):
    q = torch.rand(size, dtype=torch.float64) + 0.1
    if zeros:
        q[2] = 0
    return q


def reference(q, prior, dim):
    """The divergence by scipy, in float64."""
    return torch.tensor(rel_entr(q.numpy(), prior.numpy()).sum(dim))


def law_of(kind, values, dim):
    wide = values.detach().double()
    return wide.softmax(dim) if kind == "logits" else wide / wide.sum(dim, keepdim=True)


def prior_along(prior, rank, dim):
    shape = [1] * rank
    shape[dim] = -1
    return (prior / prior.sum()).view(shape)


MAKE = {"logits": some_logits, "probs": some_probs}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_values_are_those_of_the_definition(shape, dim, kind, dtype):
    values = MAKE[kind](shape, dim, dtype)
    classes = values.size(dim)
    q = law_of(kind, values, dim)
    uniform = reference(q, torch.full_like(q, 1 / classes), dim)
    prior = some_prior(classes)
    wanted = reference(q, prior_along(prior, len(shape), dim).expand(shape), dim)
    for view in layouts(values).values():
        got = kl_categorical(**{kind: view}, dim=dim)
        assert got.dtype == compute_type(dtype) and (got >= 0).all()
        torch.testing.assert_close(got.double(), uniform, **TOLERANCES[dtype])
        against = kl_categorical(**{kind: view}, prior=prior.to(compute_type(dtype)), dim=dim)
        torch.testing.assert_close(against.double(), wanted, **TOLERANCES[dtype])


def formula(kind, values, prior, dim):
    """The divergence in float64, by differentiable ops without the classes of probability 0."""
    zero = values == (-INF if kind == "logits" else 0)
    x = values if kind == "logits" else values.masked_fill(zero, 1).log()
    log_q = x.masked_fill(zero, -INF).log_softmax(dim).masked_fill(zero, 0)
    q = log_q.exp().masked_fill(zero, 0)
    return (q * (log_q - prior.log())).sum(dim)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_gradients_are_those_of_float64_and_zero_at_zeros(shape, dim, kind, dtype):
    values = MAKE[kind](shape, dim, dtype).requires_grad_()
    wide = values.detach().double().requires_grad_()
    prior = prior_along(some_prior(values.size(dim)), len(shape), dim)
    weights = torch.randn(list(formula(kind, wide, prior, dim).shape), dtype=torch.float64)
    (wanted,) = torch.autograd.grad(formula(kind, wide, prior, dim), wide, weights)
    kl = kl_categorical(**{kind: values}, prior=prior.to(compute_type(dtype)), dim=dim)
    (got,) = torch.autograd.grad(kl, values, weights.to(kl.dtype))
    assert got.dtype == dtype and got.shape == values.shape
    torch.testing.assert_close(got.double(), wanted, **GRADIENTS[dtype])
    zero = values == (-INF if kind == "logits" else 0)
    assert (got[zero] == 0).all()


@pytest.mark.parametrize("kind", MAKE)
def test_derivatives_of_every_kind_are_right(kind):
    values = MAKE[kind]((3, 5), 1, torch.float64)
    values = (values.clamp(-4, 4) if kind == "logits" else values + 0.1).requires_grad_()
    prior = some_prior((3, 5)).requires_grad_()

    def kl(values, prior):
        return kl_categorical(**{kind: values}, prior=prior)

    torch.autograd.gradcheck(kl, (values, prior), check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(kl, (values, prior))
    torch.autograd.gradcheck(
        lambda v: kl_categorical(**{kind: v}), (values,), check_forward_ad=True
    )


@pytest.mark.parametrize("kind", MAKE)
def test_second_derivatives_are_finite_with_exact_zeros(kind):
    values = MAKE[kind]((3, 6), 1, torch.float64).requires_grad_()
    zero = values == (-INF if kind == "logits" else 0)
    assert zero.any()
    (grad,) = torch.autograd.grad(kl_categorical(**{kind: values}).sum(), values, create_graph=True)
    (second,) = torch.autograd.grad((grad * torch.randn_like(grad)).sum(), values)
    assert second.isfinite().all() and (second[zero] == 0).all()


def test_a_one_hot_row_is_log_k_from_uniform_and_a_uniform_row_is_0():
    for dtype in (torch.float32, torch.float64):
        rows = torch.stack([torch.eye(7, dtype=dtype)[3], torch.full((7,), 2.0, dtype=dtype)])
        got = kl_categorical(probs=rows)
        torch.testing.assert_close(got, torch.tensor([math.log(7), 0.0], dtype=dtype))
        assert kl_categorical(logits=torch.full((3, 1000), 5.0, dtype=dtype)).eq(0).all()


@pytest.mark.parametrize("offset", [-3e4, 3e4, 1e30])
def test_an_offset_of_the_logits_changes_nothing(offset):
    """Logits are multiples of 1/8 within 1, exact when added to 3e4."""
    x = torch.randint(-8, 9, (4, 50)) / 8 if abs(offset) < 1e5 else torch.zeros(4, 50)
    x.requires_grad_()
    (plain,) = torch.autograd.grad(kl_categorical(x).sum(), x)
    kl = kl_categorical(x + offset)
    torch.testing.assert_close(kl, kl_categorical(x))
    torch.testing.assert_close(torch.autograd.grad(kl.sum(), x)[0], plain)


@pytest.mark.parametrize("k", [5, 5000])
def test_a_prior_of_zero_is_infinitely_far_unless_the_row_is_zero_there_too(k):
    prior = some_prior(k, zeros=True).float()
    p = torch.ones(2, k)
    p[1, 2] = 0
    got = kl_categorical(probs=p, prior=prior)
    assert got[0] == INF and got[1].isfinite()
    got = kl_categorical(logits=p.log(), prior=prior)
    assert got[0] == INF and got[1].isfinite()


@pytest.mark.parametrize("k", [4, 5000])
def test_rows_without_a_distribution_are_nan_and_do_not_change_others(k):
    x = torch.randn(5, k)
    x[0, -1], x[1, -1], x[2] = NAN, INF, -INF
    got = kl_categorical(x)
    assert got[:3].isnan().all() and torch.equal(got[3:], kl_categorical(x[3:]))
    p = torch.rand(6, k)
    p[0, -1], p[1, -1], p[2, 0], p[3] = NAN, INF, -0.1, 0
    p.requires_grad_()
    got = kl_categorical(probs=p)
    assert got[:4].isnan().all() and torch.equal(got[4:], kl_categorical(probs=p[4:]))
    (grad,) = torch.autograd.grad(got.sum(), p)
    assert grad[4:].isfinite().all()


def test_subnormal_probabilities_count():
    p = torch.tensor([1.0, 1e-40], requires_grad=True)
    (got,) = torch.autograd.grad(kl_categorical(probs=p), p)
    wide = p.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(kl_categorical(probs=wide), wide)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-6, atol=1e-6)


def test_a_prior_may_be_a_vector_or_broadcast():
    x = torch.randn(4, 5, 6)
    prior = some_prior(5).float()
    wanted = kl_categorical(x.transpose(1, 2), prior=prior)
    assert_same_bits(kl_categorical(x, prior=prior, dim=1), wanted)
    assert_same_bits(kl_categorical(x, prior=prior[:, None], dim=1), wanted)
    assert_same_bits(kl_categorical(x, prior=prior[:, None].expand(4, 5, 6), dim=1), wanted)
    assert_same_bits(
        kl_categorical(x, prior=7 * prior, dim=1).round(decimals=5), wanted.round(decimals=5)
    )


def test_a_learned_prior_gets_its_gradient():
    x, prior = torch.randn(40, 6).double(), some_prior(6).requires_grad_()
    (got,) = torch.autograd.grad(kl_categorical(x, prior=prior).sum(), prior)
    probs = prior / prior.sum()
    plain = (x.softmax(-1) * (x.log_softmax(-1) - probs.log())).sum()
    torch.testing.assert_close(got, torch.autograd.grad(plain, prior)[0])


def test_a_scalar_is_a_row_of_one_class():
    assert kl_categorical(torch.tensor(3.0)) == 0
    assert 0 <= kl_categorical(probs=torch.tensor(3.0)) < 1e-7


def test_empty_batches_are_empty():
    assert kl_categorical(torch.zeros(0, 5)).shape == (0,)


THREE, ROWS, NO_PRIOR = torch.ones(3), torch.ones(2, 3), r"prior must have shape \[3\], or .* got"
WRONG = [
    (ValueError, "wanted logits or probs, got neither", {}),
    (ValueError, "wanted logits or probs, got both", {"logits": THREE, "probs": THREE}),
    (TypeError, "probs must be float32, .* got Long", {"probs": THREE.long()}),
    (TypeError, "prior must be float32, .* got Long", {"probs": THREE, "prior": THREE.long()}),
    (ValueError, NO_PRIOR, {"probs": ROWS, "prior": torch.ones(4)}),
    (ValueError, NO_PRIOR, {"probs": ROWS, "prior": torch.ones(2, 1)}),
    (ValueError, NO_PRIOR, {"probs": ROWS, "prior": torch.ones(1, 2, 3)}),
    (ValueError, "prior must be on cpu, got meta", {"probs": THREE, "prior": THREE.to("meta")}),
    (IndexError, "wanted at least one class", {"probs": torch.ones(2, 0)}),
]


@pytest.mark.parametrize(("error", "message", "options"), WRONG, ids=lambda v: str(v)[:40])
def test_wrong_arguments_are_refused(error, message, options):
    with pytest.raises(error, match=f"^kl_categorical: {message}"):
        kl_categorical(**options)


def test_rounding_is_that_of_float32_on_a_large_row():
    x = torch.randn(64, 100_000)
    got, wide = kl_categorical(x), kl_categorical(x.double())
    assert np.abs((got.double() - wide).numpy()).max() < 5e-6


def test_probabilities_at_the_ends_of_the_range_are_those_of_the_middle():
    ordinary = torch.tensor([1.0, 3.0, 0.0, 2.0])
    wanted = kl_categorical(probs=ordinary).item()
    ends = {torch.float32: (1.4e-45, 1e-44, 1e-30, 1e30, 1e38), torch.float64: (5e-324, 5e307)}
    for dtype, factors in ends.items():
        for factor in factors:
            for count in (1, 1500):  # one tile, and several
                p = (ordinary.to(dtype) * factor).repeat(count).requires_grad_()
                value = kl_categorical(probs=p)
                assert value.item() == pytest.approx(wanted, abs=2e-5), (dtype, factor)
                (at_p,) = torch.autograd.grad(value, p)
                q = (ordinary / ordinary.sum() / count).double().repeat(count)
                if factor > 1e-40 and factor * count < 2e38:  # the gradient itself is in range
                    log = torch.where(q > 0, (q * q.numel()).log(), wanted)
                    scaled = at_p.double() * factor * 6 * count
                    assert torch.allclose(scaled, log - wanted, rtol=1e-3, atol=1e-4)
                assert not at_p.isnan().any()
    assert kl_categorical(probs=torch.tensor([3e38, 3e38])) == 0
    assert kl_categorical(probs=torch.tensor([1e-44])) < 2e-6
    mixed = torch.tensor([[3e38, 0.0], [1e-44, 3e-44], [1.0, 3.0]])
    rows = kl_categorical(probs=mixed)
    assert torch.allclose(rows, torch.tensor([0.6931, 0.1308, 0.1308]), atol=1e-4)


def test_a_prior_at_the_ends_of_the_range_is_normalised_too():
    wanted = kl_categorical(torch.zeros(2), prior=torch.tensor([1.0, 3.0]))
    for factor in (1e-44, 1e-30, 1e30, 1e38):
        prior = (torch.tensor([1.0, 3.0]) * factor).requires_grad_()
        value = kl_categorical(torch.zeros(2), prior=prior)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-5)
        (at_prior,) = torch.autograd.grad(value, prior)
        assert not at_prior.isnan().any()
