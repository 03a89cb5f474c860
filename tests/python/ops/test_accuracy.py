# SPDX-License-Identifier: Apache-2.0
"""Soft values and gradients lie within stated bounds of the float64 oracle fed the same words.

float32, t = max(1, 1 / tau): |y - y64| <= 1.2e-5 t y64 + 1e-30;
|dlogits - dlogits64| <= 1.5e-5 t y64 max|grad| / tau + 1e-30;
|dtau - dtau64| <= 1.5e-5 t max|grad| sum(y64 |log y64|) / tau + 1e-30.
float64: the same with 1e-13 for the constants. Half types: one ulp of the half more.
"""

import numpy as np
import oracle
import pytest
import torch
from common import DTYPES, FORMS, HALVES, make_key

from torch_gumbel import gumbel_argmax, gumbel_softmax

SEED = (5, 3)
FLOOR = 1e-30
TAUS = [0.1, 0.3, 1.0, 3.0, 10.0]
LENGTHS = [2, 7, 33, 500, 10_000]
VALUE = {torch.float64: 1e-13}
GRADIENT = {torch.float64: 1e-13}


class Case:
    """Inputs in a dtype, the oracle's sample of the same values, and its bounds."""

    def __init__(self, dtype, k, tau, rows=6, spread=30.0, dim=-1):
        shape = (rows, k) if dim == -1 else (k, rows)
        self.dtype, self.tau, self.dim = dtype, tau, dim
        self.x = (torch.rand(shape) * 2 * spread - spread).to(dtype)
        self.grad = torch.randn(shape).to(dtype)
        wide = dtype == torch.float64
        self.oracle = oracle.Sample(
            self.x.double().numpy(), oracle.noise(SEED, shape, wide), tau, dim
        )
        self.g = self.grad.double().numpy()
        self.most = np.abs(self.g).max(axis=dim, keepdims=True)
        self.t = max(1, 1 / tau)

    def rounded(self, wanted, bound):
        """After rounding to a half type: one of its ulps more, or its smallest step."""
        if self.dtype not in (torch.float16, torch.bfloat16):
            return bound
        info = torch.finfo(self.dtype)
        step = info.smallest_normal * info.eps
        return bound + info.eps * np.abs(wanted) + step

    def bound_y(self):
        constant = VALUE.get(self.dtype, 1.2e-5)
        return self.rounded(self.oracle.y, constant * self.t * self.oracle.y + FLOOR)

    def bound_logits(self):
        constant = GRADIENT.get(self.dtype, 1.5e-5)
        scale = self.oracle.y * self.most / self.tau
        return self.rounded(self.oracle.grad_logits(self.g), constant * self.t * scale + FLOOR)

    def bound_tau(self):
        constant = GRADIENT.get(self.dtype, 1.5e-5)
        return constant * self.t * self.most * self.oracle.entropy() / self.tau + FLOOR

    def run(self, form):
        x = self.x.clone().requires_grad_()
        rows = list(x.shape)
        rows[self.dim] = 1
        tau = torch.full(rows, self.tau, dtype=torch.float64, requires_grad=True)
        options = {"dim": self.dim, "key": make_key(*SEED), **FORMS[form]}
        y = gumbel_softmax(x, tau, **options)
        dx, dtau = torch.autograd.grad(y, (x, tau), self.grad)
        return [value.detach().double().numpy() for value in (y, dx, dtau)]


def check(got, wanted, bound, what):
    excess = np.abs(got - wanted) / bound
    assert excess.shape == got.shape == wanted.shape
    at = np.unravel_index(np.nanargmax(excess), excess.shape)
    message = f"{what}: {got[at]} against {wanted[at]}, {excess[at]:.3g} of the bound at {at}"
    assert (excess <= 1).all(), message


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("k", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_soft_sample_and_gradients_are_within_the_bound(dtype, k, tau):
    case = Case(dtype, k, tau)
    y, dx, dtau = case.run("soft")
    check(y, case.oracle.y, case.bound_y(), "y")
    check(dx, case.oracle.grad_logits(case.g), case.bound_logits(), "dlogits")
    check(dtau, case.oracle.grad_tau(case.g), case.bound_tau(), "dtau")


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("k", LENGTHS)
@pytest.mark.parametrize(
    ("form", "dtype"),
    [("hard again", dtype) for dtype in DTYPES]
    + [("hard", dtype) for dtype in DTYPES if dtype not in HALVES],
    ids=str,
)
def test_hard_gradients_are_those_of_the_soft_sample(form, dtype, k, tau):
    """Half types: a recomputed sample stays in float32 until the gradient is rounded once; a saved
    one is rounded before, as the soft sample of a soft call."""
    case = Case(dtype, k, tau)
    y, dx, dtau = case.run(form)
    assert (y.sum(axis=-1) == 1).all()
    check(dx, case.oracle.grad_logits(case.g), case.bound_logits(), "dlogits")
    check(dtau, case.oracle.grad_tau(case.g), case.bound_tau(), "dtau")


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("k", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_samples_are_rounded_once(dtype, k, tau):
    case = Case(dtype, k, tau)
    y, _, _ = case.run("soft")
    check(y, case.oracle.y, case.bound_y(), "y")


@pytest.mark.parametrize("form", ["soft", "hard"])
@pytest.mark.parametrize("k", [7, 500])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_gradients_are_those_of_the_rounded_sample(dtype, k, form):
    """The backward from y reads the rounded y; relative to it, the same bounds hold."""
    case = Case(dtype, k, 0.5, spread=3.0)
    y, (_, dx, _) = case.run("soft")[0], case.run(form)
    inner = (y * case.g).sum(axis=-1, keepdims=True)
    wanted = y * (case.g - inner) / case.tau
    slack = 1.5e-5 * y * case.most / case.tau + FLOOR
    check(dx, wanted, case.rounded(wanted, slack), "dlogits")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_other_dimension_is_as_accurate(dtype):
    case = Case(dtype, 300, 0.3, rows=21, dim=0)
    y, dx, dtau = case.run("soft")
    check(y, case.oracle.y, case.bound_y(), "y")
    check(dx, case.oracle.grad_logits(case.g), case.bound_logits(), "dlogits")
    check(dtau, case.oracle.grad_tau(case.g), case.bound_tau(), "dtau")


def test_a_dropped_tail_of_three_elements_fails_the_check():
    """A kernel that ignores the last elements of a row before normalization."""
    for k in (7, 500, 10_000):
        case = Case(torch.float32, k, 1.0, spread=3.0)
        scaled = case.oracle.scores / case.tau
        powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        check(powers / powers.sum(axis=-1, keepdims=True), case.oracle.y, case.bound_y(), "y")
        dropped = powers.copy()
        dropped[2, -3:] = 0
        missing = powers / np.maximum(dropped.sum(axis=-1, keepdims=True), 1e-300)
        for wrong in (dropped / dropped.sum(axis=-1, keepdims=True), missing):
            with pytest.raises(AssertionError, match="of the bound at"):
                check(wrong, case.oracle.y, case.bound_y(), "y")


def test_a_gradient_without_its_last_three_terms_fails_the_check():
    case = Case(torch.float32, 500, 1.0, spread=3.0)
    y = case.oracle.y
    inner = (y[:, :-3] * case.g[:, :-3]).sum(axis=-1, keepdims=True)
    with pytest.raises(AssertionError, match="of the bound at"):
        check(y * (case.g - inner), case.oracle.grad_logits(case.g), case.bound_logits(), "dlogits")


def test_a_nan_fails_the_check():
    case = Case(torch.float32, 7, 1.0)
    wrong = case.oracle.y.copy()
    wrong[1, 1] = np.nan
    with pytest.raises(AssertionError, match="of the bound at"):
        check(wrong, case.oracle.y, case.bound_y(), "y")


def test_float64_choices_are_those_of_the_oracle():
    """Rows whose two largest scores are closer than 1e-9 depend on rounding: none of these are."""
    case = Case(torch.float64, 100, 1.0, rows=500, spread=2.0)
    two = np.sort(case.oracle.scores, axis=-1)[:, -2:]
    assert (two[:, 1] - two[:, 0]).min() > 1e-9
    index = gumbel_argmax(case.x, key=make_key(*SEED)).numpy()
    assert (index == case.oracle.index()).all()
