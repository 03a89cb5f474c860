# SPDX-License-Identifier: Apache-2.0
"""Gates against their formulas: values, ends, keys, layouts, arguments."""

import math
from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
from common import assert_same_bits, compute_type, layouts, make_key
from gates import FORMS, KEY, dtypes, forms, scores_of, some
from torch.autograd import gradcheck

import torch_gumbel as tg
from torch_gumbel import fold_in, gumbel_sigmoid, hard_concrete, hard_concrete_penalty, split

INF, NAN = torch.inf, torch.nan


@dtypes
@pytest.mark.parametrize("tau", [1.0, 0.4, 3.0, 1e-30, 1e30])
def test_a_soft_gate_is_its_formula(dtype, tau):
    """To a rounding of logit, noise, and score each, over the temperature."""
    x = some(50, 101, dtype=dtype)
    got, z = gumbel_sigmoid(x, tau, key=KEY), scores_of(x) / tau
    unit = 2**-50 if dtype == torch.float64 else 2**-22
    slack = unit * (4 + ((2 * x.double().abs() + z.abs() * tau) / tau).clamp(max=1e300))
    wanted, finfo = z.sigmoid(), torch.finfo(dtype)
    error = (got.double() - wanted).abs() - wanted * (slack + finfo.eps / 2)
    assert (error <= max(finfo.tiny * finfo.eps, 1e-38)).all()


@dtypes
@pytest.mark.parametrize("threshold", [0.5, 0.1, 0.9])
def test_a_hard_gate_says_whether_the_soft_one_exceeds_the_threshold(dtype, threshold):
    x, tau = some(50, 101, dtype=dtype), 0.7
    got = gumbel_sigmoid(x, tau, True, threshold, key=KEY)
    margin = scores_of(x) - tau * math.log(threshold / (1 - threshold))
    assert ((got == 0) | (got == 1)).all()
    sure = margin.abs() > 1e-5
    assert torch.equal((got == 1)[sure], (margin > 0)[sure]) and sure.float().mean() > 0.99
    if threshold == 0.5:
        assert_same_bits(got, gumbel_sigmoid(x, 20, True, key=KEY))


@dtypes
def test_a_hard_concrete_gate_is_stretched_and_clamped(dtype):
    x = some(50, 101, dtype=dtype, scale=1.0)
    for lower, upper in ((-0.1, 1.1), (-0.2, 1.0), (-3.0, 2.0)):
        got = hard_concrete(x, 0.5, lower, upper, key=KEY)
        wanted = (scores_of(x) / 0.5).sigmoid() * (upper - lower) + lower
        atol = max(torch.finfo(dtype).eps, 2e-6 if dtype != torch.float64 else 1e-13)
        torch.testing.assert_close(got.double(), wanted.clamp(0, 1), rtol=0, atol=atol)
        assert (got == 0).any() and (upper == 1 or (got == 1).any())


@pytest.mark.parametrize(("at", "low"), [(1_817_428, True), (40_785_674, False)])
def test_words_of_both_ends_are_extended(at, low):
    """Under the key (123, 0) the words at these positions lie within 256 of either end."""
    word = int(oracle.words((123, 0), np.array([at]))[0])
    assert (word < 256) if low else (word >= 2**32 - 256)
    key, wide_key = make_key(123, at // 4), (123, at // 4)
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(at % 4 + 1, dtype=dtype) + (8 if low else -8)
        z = scores_of(x, wide_key)[-1]
        assert abs(z - x[-1]) > 16.6
        for tau in (1.0, 4.0):
            y = gumbel_sigmoid(x, tau, key=key)[-1]
            assert y.item() == pytest.approx((z / tau).sigmoid().item(), rel=1e-5)
        assert gumbel_sigmoid(x, hard=True, key=key)[-1] == (z > 0)
        leaf = x.clone().requires_grad_()
        gumbel_sigmoid(leaf, 4.0, recompute=True, key=key).sum().backward()
        slope = (z / 4).sigmoid() * (-z / 4).sigmoid() / 4
        assert leaf.grad[-1].item() == pytest.approx(slope.item(), rel=1e-4)


@forms
@dtypes
def test_infinite_logits_give_0_and_1_with_no_gradient_and_nan_gives_nan(form, dtype):
    x = torch.tensor([-INF, INF, NAN, 0.0], dtype=dtype, requires_grad=True)
    for tau in (1.0, 0.3, torch.tensor([0.5, 0.5, 0.5, 1.0])):
        y = FORMS[form](x, tau, key=KEY)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert y[0] == 0 and y[1] == 1 and y[2].isnan() and not y[3].isnan()
        assert (grad[:2] == 0).all() and grad[3].isfinite()


@forms
def test_a_bad_entry_of_a_tensor_of_temperatures_gives_nan(form):
    tau = torch.tensor([1.0, 0.0, -1.0, NAN, INF])
    assert FORMS[form](torch.zeros(5), tau, key=KEY).isnan().tolist() == [False] + [True] * 4


@forms
@dtypes
def test_every_layout_batch_of_keys_and_number_of_threads_has_the_same_bits(form, dtype):
    x, tau = some(6, 5, 7, 8, dtype=dtype), 0.7
    wanted = FORMS[form](x, tau, key=KEY)
    for name, view in layouts(x).items():
        assert_same_bits(FORMS[form](view, tau, key=KEY), wanted, name)
    large = some(300, 1001, dtype=dtype)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = FORMS[form](large, tau, key=KEY)
    finally:
        torch.set_num_threads(threads)
    assert_same_bits(FORMS[form](large, tau, key=KEY), alone)
    keys = split(KEY, 30).view(6, 5, 2)
    for i, j in ((0, 0), (3, 4)):
        drawn = FORMS[form](x, tau, key=keys)[i, j]
        assert_same_bits(drawn, FORMS[form](x[i, j], tau, key=keys[i, j]))
    each = FORMS[form](x[:, 0, 0, 0], tau, key=keys[:, 0])  # a key per element
    assert_same_bits(each[3], FORMS[form](x[3, 0, 0, 0], tau, key=keys[3, 0]))


@forms
def test_a_temperature_of_any_shape_that_broadcasts(form):
    x = some(6, 5, 7)
    for shape in ((7,), (5, 1), (6, 1, 1), (6, 5, 7), (1,), ()):
        tau = torch.rand(shape, generator=torch.Generator().manual_seed(2)) + 0.5
        leaves = [t.clone().requires_grad_() for t in (tau, tau.expand(x.shape))]
        got, wanted = (FORMS[form](x, leaf, key=KEY) for leaf in leaves)
        torch.testing.assert_close(got, wanted, rtol=2e-6, atol=1e-7)
        for y in (got, wanted):
            (y * x.cos()).sum().backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad.sum_to_size(shape))


def test_the_penalty_is_the_probability_of_an_open_gate():
    x = torch.zeros((), dtype=torch.float64)
    assert hard_concrete_penalty(x).item() == pytest.approx(1 - 0.1681778, abs=1e-7)
    assert hard_concrete_penalty(x + 1).item() == pytest.approx(1 - 0.0692288, abs=1e-7)
    x, tau = some(4, dtype=torch.float64).requires_grad_(), torch.tensor(0.5, requires_grad=True)
    assert gradcheck(lambda x: hard_concrete_penalty(x, 0.5, -0.3, 2.0), (x,))
    hard_concrete_penalty(x, tau).sum().backward()
    wanted = -(math.log(0.1 / 1.1)) * (lambda p: (p * (1 - p)).sum())(
        hard_concrete_penalty(x, 0.5).detach()
    )
    assert tau.grad.item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("value", [0, 1, -0.5, NAN, INF])
def test_a_threshold_is_between_0_and_1(value):
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"^gumbel_sigmoid: threshold must be in \(0, 1\), got"):
        gumbel_sigmoid(torch.zeros(3), threshold=value)
    assert torch.equal(torch.get_rng_state(), before)


def test_limits_are_checked_and_numbers_of_any_type_are_taken():
    x, before = torch.zeros(3), torch.get_rng_state()
    for call in (hard_concrete, hard_concrete_penalty):
        for name, values in (("lower", [0, 0.1, NAN, -INF]), ("upper", [0.9, NAN, INF])):
            for value in values:
                with pytest.raises(ValueError, match=f"^{call.__name__}: {name} must be"):
                    call(x, **{name: value})
        with pytest.raises(ValueError, match="upper - lower must be at most 1e6"):
            call(x, lower=-1e7)
        with pytest.raises(TypeError, match=f"^{call.__name__}: lower must be a number, got str"):
            call(x, lower="1")
    with pytest.raises(
        TypeError, match=r"^gumbel_sigmoid: threshold must be a number, got NoneType"
    ):
        gumbel_sigmoid(x, threshold=None)
    assert torch.equal(torch.get_rng_state(), before)
    wanted = gumbel_sigmoid(x, 0.5, True, 0.25, key=KEY)
    for quarter in (Fraction(1, 4), np.float32(0.25)):
        assert_same_bits(gumbel_sigmoid(x, 0.5, True, quarter, key=KEY), wanted)


def test_nothing_and_scalars():
    assert gumbel_sigmoid(torch.zeros(0, 3)).shape == (0, 3)
    empty = torch.zeros(3, 0, requires_grad=True)
    gumbel_sigmoid(empty, torch.ones(3, 1, requires_grad=True)).sum().backward()
    y = gumbel_sigmoid(torch.tensor(0.3), key=KEY)
    assert y.shape == () and y == gumbel_sigmoid(torch.tensor([0.3]), key=KEY)
    assert compute_type(torch.float16) == torch.float32


def test_vmap_over_scalars_is_a_call_with_a_key_per_element():
    x, keys = some(5), split(KEY, 5)
    got = torch.vmap(lambda x, k: gumbel_sigmoid(x, 0.5, key=k))(x, keys)
    assert_same_bits(got, gumbel_sigmoid(x, 0.5, key=keys))


def test_a_checkpoint_draws_the_same_gates():
    from torch.utils.checkpoint import checkpoint

    x = some(20).requires_grad_()
    for hard in (False, True):

        def loss(x, hard=hard):
            return (gumbel_sigmoid(x, 0.5, hard, key=fold_in(KEY, 3)) * x).sum()

        (wanted,) = torch.autograd.grad(loss(x), x)
        (got,) = torch.autograd.grad(checkpoint(loss, x, use_reentrant=False), x)
        assert_same_bits(got, wanted)


def test_the_first_class_of_two_has_the_distribution_of_a_gate():
    """Not its bits: its noise is the difference of two."""
    x = torch.full((400_000,), 0.7)
    gates = gumbel_sigmoid(x, 0.6, key=KEY)
    pairs = tg.gumbel_softmax(torch.stack([x, 0 * x], -1), 0.6, key=fold_in(KEY, 1))[:, 0]
    for t in (0.1, 0.5, 0.9):
        shares = [(y > t).double().mean().item() for y in (gates, pairs)]
        wanted = 1 / (1 + math.exp(0.6 * math.log(t / (1 - t)) - 0.7))
        sigma = math.sqrt(wanted * (1 - wanted) / len(x))
        assert all(abs(share - wanted) < 4.9 * sigma for share in shares)  # false alarm 1e-6 each
