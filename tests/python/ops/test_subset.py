# SPDX-License-Identifier: Apache-2.0
"""gumbel_subset: relaxed samples of k different classes."""

import pytest
import torch
from common import DTYPES, HALVES, assert_same_bits, compute_type, layouts, make_key, noise
from compiling import compiled

from torch_gumbel import fold_in, gumbel_softmax, gumbel_subset, gumbel_topk

KEY = make_key(11)
NAN, INF = torch.nan, torch.inf
ops = torch.ops.torch_gumbel
CASES = [
    ((5, 9), 1, 4, 0.7),
    ((3, 40, 4), 1, 7, 1.0),
    ((2, 1000), -1, 8, 0.3),
    ((2, 5000), -1, 3, 2.0),
    ((4, 6), 0, 4, 0.1),
    ((1, 80), 1, 70, 1.0),  # more rounds than the kernels run
]


def reference(scores, tau, k, dim):
    """The definition in float64; log(1 - a) of a class with most of a round from the others."""
    masked = scores == -INF
    r, y = scores.double().masked_fill(masked, 0), 0
    for _ in range(k):
        u = (r / tau).masked_fill(masked, -INF)
        u = u - u.detach().amax(dim, keepdim=True)
        a = u.softmax(dim)
        y = y + a
        first = torch.zeros_like(u).scatter(dim, u.argmax(dim, keepdim=True), 1.0).bool()
        others = torch.where(first, -INF, u).logsumexp(dim, keepdim=True)
        large = first & (a > 0.5)
        r = r + torch.where(large, others - u.logsumexp(dim, keepdim=True), (-a * ~large).log1p())
    return y


@pytest.mark.parametrize(("shape", "dim", "k", "tau"), CASES, ids=str)
def test_it_is_k_softmaxes_of_one_draw_with_their_gradients(shape, dim, k, tau):
    x, t = torch.randn(shape).mul(2), torch.tensor(tau, dtype=torch.float64)
    grad = torch.randn(shape)

    def run(values, temperature, function):
        given = [values.requires_grad_(), temperature.clone().requires_grad_()]
        y = function(*given)
        return y, *torch.autograd.grad(y, given, grad.to(y.dtype))

    scores = x + noise(x, KEY)
    wanted = run(scores.double(), t, lambda s, t: reference(s, t, k, dim))
    for view in layouts(x).values() if k < 70 else [x]:
        got = run(
            view.detach().clone() if view.is_contiguous() else view.detach(),
            t,
            lambda v, t: gumbel_subset(v, k, t, dim=dim, key=KEY),
        )
        assert torch.allclose(got[0].double(), wanted[0], atol=2e-5, rtol=2e-5)
        assert (got[0] >= 0).all() and ((got[0].sum(dim) - k).abs() < 1e-5 * max(k / 8, 1)).all()
        size = wanted[1].abs().max()
        assert torch.allclose(got[1].double(), wanted[1], atol=3e-4 * size, rtol=1e-3)
        assert torch.allclose(got[2], wanted[2], rtol=3e-3, atol=1e-2)


@pytest.mark.parametrize("tau", [0.02, 0.3, 1.0, 3.0])
def test_a_class_that_stands_out_keeps_the_weight_of_the_others(tau):
    """log(1 - a) where a rounds to 1, and where every other weight is 0 in float32."""
    for gap in (5.0, 20.0, 60.0, 200.0):
        row = [gap, 0.0, -1.0, -INF, -0.5 * gap]
        s = torch.tensor([row], dtype=torch.float64, requires_grad=True)
        t = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
        grad = torch.tensor([[0.3, -1.0, 2.0, 5.0, 1.0]], dtype=torch.float64)
        wanted = reference(s, t, 3, 1)
        wanted_grads = torch.autograd.grad(wanted, [s, t], grad)
        for dtype, error in ((torch.float64, 1e-9), (torch.float32, 3e-4)):
            x = s.detach().to(dtype).requires_grad_()
            u = t.detach().clone().requires_grad_()
            y = ops._gumbel_subset(x, u, 3, 1)
            assert torch.allclose(y.double(), wanted, atol=error, rtol=error)
            got = torch.autograd.grad(y, [x, u], grad.to(dtype))
            for g, w in zip(got, wanted_grads, strict=True):
                assert torch.allclose(g.double(), w.double(), rtol=30 * error, atol=30 * error)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_class_is_gumbel_softmax_in_bits(dtype):
    x = torch.randn(6, 40).to(dtype)
    rows = torch.rand(6, 1) + 0.2
    for tau in (0.5, rows):
        for hard in (False, True):
            got = gumbel_subset(x, 1, tau, hard, key=KEY)
            assert_same_bits(got, gumbel_softmax(x, tau, hard, key=KEY))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hard_samples_are_ones_at_the_indices_of_gumbel_topk_with_the_soft_gradient(dtype):
    x = torch.randn(50, 33).to(dtype)
    for k in (2, 8, 33):
        hard = gumbel_subset(x, k, 0.5, hard=True, key=KEY)
        wanted = torch.zeros_like(x).scatter(1, gumbel_topk(x, k, key=KEY)[1], 1.0)
        assert_same_bits(hard, wanted)
        grads, weights = [], torch.randn(50, 33).to(dtype)
        for kind in (False, True):
            given = x.clone().requires_grad_()
            y = gumbel_subset(given, k, 0.5, kind, key=KEY)
            (y * weights).sum().backward()
            grads.append(given.grad)
        assert_same_bits(y.detach(), wanted)
        assert_same_bits(*grads)


def test_the_soft_sample_goes_to_the_hard_one_with_tau():
    x = torch.randn(300, 20)
    hard = gumbel_subset(x, 4, hard=True, key=KEY)
    taus = (1.0, 0.1, 0.01, 1e-4)
    far = [(gumbel_subset(x, 4, t, key=KEY) - hard).abs().amax(1).mean() for t in taus]
    assert far[0] > far[1] > 2 * far[2] and far[3] < 0.02
    assert ((gumbel_subset(x, 4, 1e-30, key=KEY) - hard).abs().amax(1) < 1e-6).all()


def test_an_entry_can_exceed_one():
    y = gumbel_subset(torch.tensor([30.0, 0.0, 0.0]), 2, key=KEY)
    assert y[0] > 1.3 and y.sum() == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_without_k_finite_classes_are_nan(dtype, hard):
    """The rounds alone would give (1.76, 1.24) to 2 open classes and k = 3."""
    rows = [[0.0, 1, -INF, -INF], [0.0, 1, NAN, 2], [0.0, INF, 1, 2], [-INF] * 4, [3.0, 1, -INF, 2]]
    x = torch.tensor(rows).to(dtype).requires_grad_()
    y = gumbel_subset(x, 3, 0.7, hard, key=KEY)
    assert y[:4].isnan().all() and y[4].isfinite().all() and y[4, 2] == 0
    (y * torch.randn(5, 4).to(dtype)).sum().backward()
    assert x.grad[:4].isnan().all() and x.grad[4].isfinite().all() and x.grad[4, 2] == 0
    t = torch.tensor([[1.0], [0.0], [-1.0], [INF], [NAN]])
    undefined = gumbel_subset(torch.zeros(5, 4, dtype=dtype), 2, t, hard, key=KEY)
    assert undefined[0].isfinite().all() and undefined[1:].isnan().all()


def test_all_classes_hard_are_ones():
    assert (gumbel_subset(torch.randn(40, 7), 7, hard=True) == 1).all()


def test_hard_samples_include_classes_as_draws_without_replacement_do():
    """Within 5 standard errors of every class: false alarm 2e-6. Conditional Poisson sampling, the
    law of SIMPLE, is rejected."""
    n, theta = 400_000, torch.tensor([0.5, 0.3, 0.2]).log()
    share = gumbel_subset(theta.expand(n, 3), 2, hard=True, key=KEY).double().mean(0)
    wanted = torch.tensor([0.8392857142857143, 0.675, 0.4857142857142857], dtype=torch.float64)
    error = (wanted * (1 - wanted) / n).sqrt()
    assert ((share - wanted) / error).abs().max() < 5
    other = torch.tensor([0.8064516, 0.6774194, 0.5161290], dtype=torch.float64)
    assert ((share - other) / error).abs().max() > 20


@pytest.mark.parametrize("k", [2, 3])
def test_derivatives_to_second_order_and_forward_mode(k):
    x = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    tau = (torch.rand(1, 1, dtype=torch.float64) + 0.5).requires_grad_()

    def call(x, tau):
        return gumbel_subset(x, k, tau, key=KEY)

    assert torch.autograd.gradcheck(call, (x, tau), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, (x, tau))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_types_are_computed_in_float32(dtype):
    x = torch.randn(20, 64).to(dtype)
    wide = gumbel_subset(x.float(), 5, 0.5, key=KEY)
    assert_same_bits(gumbel_subset(x, 5, 0.5, key=KEY), wide.to(dtype))
    assert (
        ops._gumbel_subset(x.to(compute_type(dtype)), torch.tensor(0.5), 5, 1).dtype == wide.dtype
    )


def test_the_backward_keeps_nothing_of_the_caller():
    x = torch.randn(3, 50)
    leaf = x.clone().requires_grad_()
    gumbel_subset(leaf, 5, key=KEY).square().sum().backward()
    edited = x.clone().requires_grad_()
    inner = edited * 1
    y = gumbel_subset(inner, 5, key=KEY)
    inner.detach().fill_(NAN)
    y.square().sum().backward()
    assert_same_bits(edited.grad, leaf.grad)


@pytest.mark.parametrize("k", [0, -1, 5, 2**40])
def test_k_out_of_range_is_refused_before_a_key_is_drawn(k):
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=rf"^gumbel_subset: k must be in \[1, 4\], got {k}$"):
        gumbel_subset(torch.zeros(3, 4), k)
    with pytest.raises(TypeError, match=r"^gumbel_subset: k must be an integer, got float"):
        gumbel_subset(torch.zeros(3, 4), 2.0)
    with pytest.raises(IndexError):
        gumbel_subset(torch.zeros(3, 0), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_compiles_and_has_a_draw_per_key():
    x = torch.randn(4, 6)
    run = compiled(lambda x, key: gumbel_subset(x, 3, 0.5, hard=True, key=key))
    for i in range(2):
        key = fold_in(KEY, i)
        assert_same_bits(run(x, key), gumbel_subset(x, 3, 0.5, hard=True, key=key))
    assert gumbel_subset(torch.tensor(1.0), 1).item() == 1
    assert gumbel_subset(torch.zeros(0, 4), 2).shape == (0, 4)
