# SPDX-License-Identifier: Apache-2.0
"""Gates have their distributions, and checks that say so catch what public code does wrong.

Keys are fixed. A check that compares a share or a mean with its exact value allows 4.9 standard
errors: a correct sampler fails it for one random key in 10^6.
"""

import math

import pytest
import torch
from common import DTYPES, make_key

import torch_gumbel as tg
from torch_gumbel import fold_in, gumbel_sigmoid, hard_concrete

KEY = make_key(20_161_102)
ERRORS = 4.9
DRAWS = 1 << 20


def ours(x, key):
    return gumbel_sigmoid(x, hard=True, key=key)


def of_one_gumbel(x, key):
    return (x + tg.gumbel_like(x, key=key) > 0).to(x.dtype)


def logistic(v):
    return v.log() - (-v).log1p()


def of_clamped_uniform(x, key):
    v = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)).clamp(1e-6, 1 - 1e-6)
    return (x + logistic(v) > 0).to(x.dtype)


def of_bfloat16_uniform(x, key):
    v = torch.rand(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.bfloat16)
    return (x + logistic(v.float()) > 0).to(x.dtype)


def share_is_right(sampler, logit, dtype=torch.float32, draws=DRAWS):
    x = torch.full((draws,), logit, dtype=dtype)
    p = 1 / (1 + math.exp(-logit))
    share = sampler(x, fold_in(KEY, 1)).double().mean().item()
    return abs(share - p) <= ERRORS * math.sqrt(p * (1 - p) / draws)


def far_gates_open(sampler, draws=1 << 24):
    """At logit -14 a gate opens with probability 8.3e-7, 14 times in 2^24 draws: none at all in one
    run of 10^6."""
    return bool(sampler(torch.full((draws,), -14.0), fold_in(KEY, 2)).any())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("logit", [0.0, 2.0, -6.0])
def test_a_hard_gate_opens_with_its_probability(logit, dtype):
    assert share_is_right(ours, logit, dtype)


def test_far_gates_open_and_close():
    assert far_gates_open(ours)
    assert far_gates_open(lambda x, key: 1 - ours(-x, key))


def test_the_faults_of_public_code_are_caught():
    assert not share_is_right(of_one_gumbel, 0.0) and not share_is_right(of_one_gumbel, 2.0)
    assert not share_is_right(of_bfloat16_uniform, -6.0)
    assert share_is_right(of_clamped_uniform, -6.0) and not far_gates_open(of_clamped_uniform)


# (logit, tau): E y, Var y, E y (1 - y) / tau, by quadrature.
MOMENTS = {
    (0.0, 1.0): (0.5, 1 / 12, 1 / 6),
    (0.0, 0.5): (0.5, 0.14269908, 0.21460184),
    (1.0, 1.0): (0.66130311, 0.07303373, 0.15094758),
    (2.0, 1.0): (0.79448681, 0.04994909, 0.11332842),
}


def is_mean(values, wanted):
    error = values.std() / math.sqrt(values.numel())
    return bool((values.mean() - wanted).abs() <= ERRORS * error)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("logit", "tau"), MOMENTS)
def test_soft_gates_have_their_moments_and_slopes(logit, tau, dtype):
    mean, variance, slope = MOMENTS[logit, tau]
    x = torch.full((DRAWS,), logit, dtype=dtype, requires_grad=True)
    y = gumbel_sigmoid(x, tau, key=KEY)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    y = y.detach().double()
    assert is_mean(y, mean) and is_mean((y - mean) ** 2, variance)
    assert is_mean(gradient.double(), slope)
    assert not is_mean(y, mean + 0.005) and not is_mean(gradient.double(), 1.01 * slope)


# log alpha: P(z = 0), P(z = 1), E z, Var z at the defaults.
CONCRETE = {
    0.0: (0.1681778, 0.1681778, 0.5, 0.148018),
    1.0: (0.0692288, 0.3546648, 0.707054, 0.122534),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("logit", CONCRETE)
def test_hard_concrete_gates_have_their_masses_and_moments(logit, dtype):
    closed, opened, mean, variance = CONCRETE[logit]
    z = hard_concrete(torch.full((DRAWS,), logit, dtype=dtype), key=KEY).double()
    assert is_mean((z == 0).double(), closed)
    if dtype in (torch.float32, torch.float64):  # half types round the last numbers below 1 to it
        assert is_mean((z == 1).double(), opened)
    assert is_mean(z, mean) and is_mean((z - mean) ** 2, variance)
    assert not is_mean((z == 0).double(), 1 - closed)  # the wrong sign of tau log(-lower / upper)
