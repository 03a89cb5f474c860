# SPDX-License-Identifier: Apache-2.0
"""categorical_elbo and perplexity."""

import math

import pytest
import torch
from common import DTYPES, compute_type
from compiling import compiled
from test_kl import some_prior

from torch_gumbel import categorical_elbo, kl_categorical, perplexity


def test_compiled_they_equal_eager():
    both = compiled(lambda p: (perplexity(p), categorical_elbo(torch.zeros(3), p.log())))
    p = torch.rand(3, 4, 5)
    each = perplexity(p), categorical_elbo(torch.zeros(3), p.log())
    for got, wanted in zip(both(p), each, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("batch", [(), (3,), (3, 4), (3, 4, 5)])
def test_the_elbo_takes_the_divergence_of_all_latents(batch):
    logits, prior = torch.randn(3, 4, 5, 6).double(), some_prior(6)
    likelihood = torch.randn(batch).double()
    each = kl_categorical(logits, prior=prior)
    wanted = likelihood - each.reshape(*batch, -1).sum(-1)
    torch.testing.assert_close(categorical_elbo(likelihood, logits, prior), wanted)


@pytest.mark.parametrize("shape", [(4,), (3, 4, 6), (2, 4)], ids=str)
def test_a_likelihood_must_lead_the_logits(shape):
    with pytest.raises(
        ValueError, match=r"^categorical_elbo: log_likelihood must have the leading"
    ):
        categorical_elbo(torch.zeros(shape), torch.zeros(3, 4, 6))


def test_the_elbo_bounds_the_evidence():
    """A toy model: uniform prior on 5 codes, p(x | k) given; the exact posterior reaches it."""
    log_joint = torch.randn(5, dtype=torch.float64)
    evidence = log_joint.logsumexp(0) - math.log(5)
    for logits, equal in ((log_joint, True), (torch.randn(5).double(), False)):
        likelihood = (logits.softmax(0) * log_joint).sum()
        gap = evidence - categorical_elbo(likelihood, logits)
        assert abs(gap) < 1e-12 if equal else gap > 1e-3


def test_perplexity_counts_codes_in_use():
    codes = torch.eye(8)[torch.arange(40) % 5]
    torch.testing.assert_close(perplexity(codes), torch.tensor(5.0))
    torch.testing.assert_close(perplexity(torch.eye(8)[[3, 3]]), torch.tensor(1.0))
    torch.testing.assert_close(perplexity(torch.eye(8)), torch.tensor(8.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_perplexity_is_exp_of_the_entropy_of_the_mean(dtype):
    """As wav2vec 2.0's, over a batch of two groups."""
    codes = torch.rand(50, 2, 9).softmax(-1).to(dtype)
    mean = codes.double().mean(0)
    wanted = (-(mean * mean.log()).sum(-1)).exp()
    got = perplexity(codes, over=0)
    assert got.shape == (2,) and got.dtype == compute_type(dtype)
    tolerance = {"rtol": 1e-2, "atol": 0} if dtype in (torch.float16, torch.bfloat16) else {}
    torch.testing.assert_close(got.double(), wanted, **(tolerance or {"rtol": 1e-5, "atol": 0}))
    torch.testing.assert_close(perplexity(codes.movedim(-1, 0), 0, over=[1]), got)
    assert perplexity(codes, over=()).shape == (50, 2)


def test_perplexity_has_a_gradient_at_codes_never_used():
    codes = torch.eye(4)[[0, 1, 1]].double().requires_grad_()
    (grad,) = torch.autograd.grad(perplexity(codes), codes)
    assert grad.isfinite().all() and (grad[:, 2:] == 0).all() and (grad[:, :2] != 0).all()
    with pytest.raises(ValueError, match=r"^perplexity: over must not name the class dimension 1"):
        perplexity(codes, over=[0, -1])
