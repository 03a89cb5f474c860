# SPDX-License-Identifier: Apache-2.0
"""sample_categorical: samples from probabilities, with exact zeros."""

import numpy as np
import pytest
import torch
from common import DTYPES, assert_same_bits, make_key
from compiling import compiled
from test_statistics import p_chi_square, rejected
from torch.distributions import Distribution

from torch_gumbel import fold_in, gumbel_softmax, sample_categorical, split

KEY = make_key(5)
NAN, INF = torch.nan, torch.inf


@pytest.fixture(autouse=True)
def validation():
    """PyTorch's default; torch.compile, in any test, disables it for the process."""
    Distribution.set_default_validate_args(__debug__)


def some_probs(*shape, dtype=torch.float32):
    """Unnormalized probabilities, a third of them 0, no row all 0."""
    p = torch.rand(*shape, dtype=torch.float64) * 3
    p[torch.rand(shape) < 0.33] = 0
    p.select(-1, 0).fill_(0.7)
    return p.to(dtype)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_it_is_gumbel_softmax_of_the_logarithm(dtype, hard):
    p = some_probs(5, 40, dtype=dtype)
    wide = p.double() if dtype == torch.float64 else p.float()
    got = sample_categorical(p, 0.7, hard, key=KEY)
    assert got.dtype == dtype and got.is_contiguous()
    assert_same_bits(got, gumbel_softmax(wide.log(), 0.7, hard, key=KEY).to(dtype))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_zeros_are_exact_zeros_with_a_gradient_of_exactly_zero(dim, hard):
    p = some_probs(6, 6, 6).movedim(-1, dim).detach().requires_grad_()
    y = sample_categorical(p, 0.5, hard, dim, key=KEY)
    (grad,) = torch.autograd.grad(y, p, torch.randn(6, 6, 6))
    zero = p == 0
    assert zero.any() and (y[zero] == 0).all() and (grad[zero] == 0).all()
    assert grad.isfinite().all() and (grad[~zero] != 0).any()
    torch.testing.assert_close(y.sum(dim), torch.ones(6, 6))


def test_the_scale_of_a_row_changes_nothing_but_rounding():
    p = some_probs(50, 9, dtype=torch.float64)
    y = sample_categorical(p, 0.5, key=KEY)
    torch.testing.assert_close(sample_categorical(p / p.sum(-1, keepdim=True), 0.5, key=KEY), y)


@pytest.mark.parametrize("hard", [False, True])
def test_gradients_are_right(hard):
    """The gradient of the soft sample; a hard one has the same."""
    p = some_probs(3, 5, dtype=torch.float64).clamp_min(0.05).requires_grad_()
    tau = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    soft = lambda p, tau: sample_categorical(p, tau, key=KEY, validate_args=False)  # noqa: E731
    torch.autograd.gradcheck(soft, (p, tau), check_forward_ad=True)
    torch.autograd.gradgradcheck(soft, (p, tau))
    weights = torch.randn(3, 5, dtype=torch.float64)
    wanted = torch.autograd.grad(soft(p, tau), (p, tau), weights)
    y = sample_categorical(p, tau, hard, key=KEY)
    for got, right in zip(torch.autograd.grad(y, (p, tau), weights), wanted, strict=True):
        torch.testing.assert_close(got, right)


BAD_ROWS = {
    "negative": ([0.5, -0.5, 1.0], r"probs must be >= 0 and finite, got -0.5 as the least"),
    "NaN": ([0.5, NAN, 1.0], "probs must be >= 0 and finite, got -?nan"),
    "infinite": ([0.5, INF, 1.0], "probs must be >= 0 and finite, got .* inf as the largest"),
    "zeros": ([0.0, 0.0, 0.0], "probs must have a positive value in every row, got a row of zeros"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_are_refused_with_validation_and_nan_without(kind):
    values, message = BAD_ROWS[kind]
    p = torch.tensor([[0.2, 0.3, 0.5], values])
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=f"^sample_categorical: {message}"):
        sample_categorical(p, 1.0)
    assert torch.equal(torch.get_rng_state(), before)
    for hard in (False, True):
        y = sample_categorical(p, 1.0, hard, validate_args=False, key=KEY)
        assert y[1].isnan().all()
        assert_same_bits(y[0], sample_categorical(p[:1], 1.0, hard, key=KEY)[0])


def test_validation_follows_torch_distributions():
    p = torch.tensor([-1.0, 1.0])
    with pytest.raises(ValueError, match="probs must be >= 0"):
        sample_categorical(p, 1.0)
    Distribution.set_default_validate_args(False)
    assert sample_categorical(p, 1.0).isnan().all()
    with pytest.raises(ValueError, match="probs must be >= 0"):
        sample_categorical(p, 1.0, validate_args=True)


def test_it_vmaps_and_compiles():
    p, keys = some_probs(4, 5, 6), split(KEY, 4)
    got = torch.func.vmap(lambda p, key: sample_categorical(p, 0.5, key=key))(p, keys)
    assert_same_bits(got, sample_categorical(p, 0.5, key=keys))
    run = compiled(lambda p, t: sample_categorical(p, t, True, key=KEY))
    for temperature in (0.5, 0.9):
        assert_same_bits(run(p, temperature), sample_categorical(p, temperature, True, key=KEY))
    with pytest.raises(Exception, match=r"sample_categorical: torch\.compile cannot check values"):
        compiled(lambda p: sample_categorical(p, 1.0, validate_args=True))(p)
    assert sample_categorical(torch.ones(2, 3, device="meta"), 1.0).shape == (2, 3)


def test_draws_follow_the_probabilities_and_zeros_are_never_drawn():
    """4e6 draws of a row that sums to 4: false alarm 1e-6."""
    p, counts, rows = torch.tensor([1.0, 0.0, 2.0, 0.25, 0.75]), np.zeros(5), 1_000_000
    for i in range(4):
        y = sample_categorical(p.expand(rows, 5), 0.7, True, key=fold_in(KEY, i))
        counts += y.sum(0).numpy()
    assert counts[1] == 0
    kept = [0, 2, 3, 4]
    assert not rejected(counts[kept], p[kept].double().numpy() / 4)


def test_at_tau_0_001_the_uniform_distribution_of_five_holds():
    """tau 0.001, 1,000 draws: chi-square, false alarm 1e-6. Samples are corners."""
    y = sample_categorical(torch.full((1000, 5), 0.2), 0.001, key=KEY)
    assert y.isfinite().all() and (y.amax(-1) > 0.5).all()
    counts = torch.bincount(y.argmax(-1), minlength=5).numpy().astype(np.float64)
    assert p_chi_square(counts, np.full(5, 0.2)) > 1e-6
