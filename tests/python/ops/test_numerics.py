# SPDX-License-Identifier: Apache-2.0
"""Limits of float32: extreme temperatures and logits, and visible rounding."""

import contextlib

import pytest
import torch
from common import DTYPES, make_key, noise, ops, tau_of

from torch_gumbel import gumbel_argmax, gumbel_softmax, gumbel_topk, straight_through_lookup

KEY = make_key(5)
INF = torch.inf
FAR = torch.tensor([-300.0, -1.0, -2.0, -200.0])


@contextlib.contextmanager
def flushed_subnormals():
    assert torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("temperature", [1e-25, 1e-37, 1e-40, 1e-44, 1e-46, 1e-300])
def test_the_limit_of_a_falling_temperature_is_the_argmax(temperature, as_tensor):
    if as_tensor:
        temperature = torch.tensor(temperature, dtype=torch.float64)
    for dtype in DTYPES:
        for x in (FAR, -FAR, FAR * 50, torch.tensor([200.0, 300.0, -INF, 100.0])):
            for k, row in ((4, x), (3000, torch.cat([x, torch.full((2996,), -6e4)]))):
                rows = row.to(dtype).expand(2, k).contiguous()
                wanted = int(rows[0].argmax())
                assert (
                    gumbel_argmax(rows, temperature=temperature, key=KEY).tolist() == [wanted] * 2
                )
                assert gumbel_argmax(rows.t(), 0, temperature=temperature)[1] == wanted
            order = gumbel_topk(x.to(dtype), 4, temperature=temperature, key=KEY)[1]
            assert torch.equal(order, x.argsort(descending=True))


@pytest.mark.parametrize("temperature", [1e-46, 1e39, 1e-300, 1e300])
def test_equal_logits_of_zero_are_drawn_uniformly_at_every_temperature(temperature):
    x = torch.zeros(3000, 3)
    for given in (temperature, torch.tensor(temperature, dtype=torch.float64)):
        values, indices = gumbel_topk(x, 2, temperature=given, key=KEY)
        assert values.isfinite().all() and (indices[:, 0].bincount(minlength=3) > 850).all()
        assert torch.equal(indices[:, 0], gumbel_argmax(x, temperature=given, key=KEY))


def test_flushed_subnormals_draw_no_mask_and_make_no_nan():
    x = torch.tensor([-INF, 0.0, 1.0]).expand(500, 3)
    row = torch.tensor([-INF, 0.0, 1e308, 1.7e308], dtype=torch.float64)
    with flushed_subnormals():
        for temperature in (1e38, 3e38, 1e39, 1e300, torch.tensor(1e38)):
            counts = gumbel_argmax(x, temperature=temperature).bincount(minlength=3)
            assert counts[0] == 0 and counts[1:].min() > 150, temperature
            assert gumbel_argmax(x.t(), 0, temperature=temperature).min() == 1
            assert (gumbel_topk(x, 2, temperature=temperature)[1] > 0).all()
        for tau in (1e38, 1e300):
            y = gumbel_softmax(x, tau)
            assert (y[:, 0] == 0).all() and torch.allclose(y[:, 1:], torch.tensor(0.5))
        y = gumbel_softmax(row, 1e308)
        assert torch.allclose(y, (row / 1e308).softmax(0)) and y[0] == 0


HUGE = torch.tensor([3.4e38, -3.4e38, 0.0, 1e37, -INF, -2e38])


def rows_of(x, dim):
    return [1 if i == dim else n for i, n in enumerate(x.shape)]


def cases_of_huge_tau():
    for tau in (3e38, 1e38, 2e37, 1e39, 1e300):
        yield HUGE, tau
    yield HUGE.double() * 5e269, 1.7e308
    yield HUGE.double(), 2e37
    yield (0.9 * HUGE).bfloat16(), 1e38


@pytest.mark.parametrize(("row", "tau"), [*cases_of_huge_tau()], ids=lambda v: str(v)[:20])
def test_logits_count_at_temperatures_of_their_size(row, tau):
    wide = row.double()
    wanted = (wide / tau).softmax(0)
    near = {"rtol": 1e-5, "atol": torch.finfo(row.dtype).eps + 1e-7}
    many = torch.cat([row, torch.full((9000,), -INF, dtype=row.dtype)])
    for x, dim in ((row.expand(3, 6), 1), (row[:, None].expand(6, 20), 0), (many[None], 1)):
        for t in (
            tau,
            torch.full(rows_of(x, dim), tau, dtype=torch.float64),
        ):
            y = gumbel_softmax(x, t, dim=dim, key=KEY).double().movedim(dim, -1)[..., :6]
            assert torch.allclose(y, wanted.expand_as(y), **near), (x.shape, y, wanted)
    y, lse = ops._gumbel_softmax_lse(row, tau_of(tau), KEY, 0)
    assert torch.allclose(lse.double(), (wide / tau).logsumexp(0), **near)
    grad = torch.arange(6.0).to(row.dtype)
    if tau > 3.4e38 and row.dtype != torch.float64:
        return  # a gradient underflows in float32
    for recompute in (False, True):
        leaf = row.clone().requires_grad_()
        t = tau_of(tau).requires_grad_()
        gumbel_softmax(leaf, t, True, recompute=recompute, key=KEY).backward(grad)
        s = wanted @ grad.double()
        assert leaf.grad.isfinite().all() and leaf.grad[4] == 0
        at_tau = -(wanted * (grad.double() - s) * wanted.clamp(min=1e-300).log()).sum() / tau
        assert torch.allclose(t.grad * tau, at_tau * tau, rtol=2e-2, atol=1e-6)


def test_a_huge_temperature_of_one_row_does_not_change_others():
    x = torch.randn(5, 40)
    tau = torch.full((5, 1), 0.7)
    clean = gumbel_softmax(x, tau, key=KEY)
    tau[2] = 3e38
    y = gumbel_softmax(x, tau, key=KEY)
    assert torch.equal(y[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])
    assert torch.allclose(y[2], torch.tensor(1 / 40))
    x[2, 1] = torch.nan
    assert gumbel_softmax(x, tau, key=KEY)[2].isnan().all()
    tau[2] = INF
    assert gumbel_softmax(torch.randn(5, 40), tau, key=KEY)[2].isnan().all()


# Exactness: docs/internals/design.md, "Exactness has a domain".


@pytest.mark.parametrize(
    ("offset", "temperature"), [(20.0, 1e-5), (1e6, 1.0), (-1e6, 1.0), (2.0**12, 1.0), (0.0, 1.0)]
)
def test_probabilities_change_by_no_more_than_the_stated_bound(offset, temperature):
    rows = 1_000_000
    x = torch.full((rows, 2), offset)
    drawn = gumbel_argmax(x, temperature=temperature, key=KEY)
    size = max(abs(offset) / temperature, 1)
    shift, noise_of_mean = 0.5 - drawn.double().mean().item(), 5 * 0.5 / rows**0.5
    assert -noise_of_mean < shift < size * 2.0**-24 + noise_of_mean
    # Two equal classes tie with a quarter of the rounding unit, and the first one wins.
    unit = torch.finfo(torch.float32).eps * 2.0 ** torch.tensor(size).log2().floor().item()
    assert abs(shift - unit / 8) < noise_of_mean + unit / 40


@pytest.mark.parametrize("tau", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e5])
def test_a_hard_sample_is_the_one_hot_of_the_soft_one_but_for_near_ties(offset, tau):
    x = torch.randn(100_000, 32) + offset
    soft, index = gumbel_softmax(x, tau, key=KEY), gumbel_argmax(x, key=KEY)
    exact = (x.double() + noise(x, KEY).double()).topk(2).values
    bound = 2.0**-22 * max(8, tau, exact.abs().max().item())
    differ = soft.argmax(-1) != index
    assert ((exact[:, 0] - exact[:, 1])[differ] < bound).all()
    assert differ.any() == (offset == 1e5 and tau == 1)
    hard = gumbel_softmax(x, tau, True, key=KEY)
    assert torch.equal(hard.argmax(-1), index)


def test_class_positions_that_32_bits_do_not_hold_are_refused():
    x = torch.zeros(1, 1).expand(2**31, 2)
    for call in (ops._gumbel_argmax, ops._gumbel_max):
        with pytest.raises(
            ValueError, match=r"at most 2\^31 - 1 classes where dim is not the last"
        ):
            call(x, torch.tensor(1.0).double(), KEY, 0, False)


@pytest.mark.parametrize("hard", [False, True])
def test_the_index_is_0_if_a_temperature_is_invalid(hard):
    x, codebook = torch.zeros(3, 3), torch.ones(3, 2)
    tau = torch.tensor([[-1.0], [0.5], [torch.nan]])
    for t in (tau, torch.tensor(-1.0), torch.tensor(0.0)):
        out, index = straight_through_lookup(x, codebook, t, hard, key=KEY, return_index=True)
        bad = (~(t > 0)).flatten().expand(3) if t.dim() == 0 else ~(t > 0).flatten()
        assert (index[bad] == 0).all() and out[bad].isnan().all() and out[~bad].isfinite().all()
        assert torch.equal(index[~bad], gumbel_argmax(x, key=KEY)[~bad])


# Sums over rows.


def gradients_by(threads, shape, tau_shape):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        tau = torch.full(tau_shape, 0.7, requires_grad=True)
        weights = torch.linspace(-1, 1, x.numel()).view(shape)
        found = []
        for hard in (False, True):
            y = gumbel_softmax(x, tau, hard, key=KEY)
            first = torch.autograd.grad((y * weights).sum(), (x, tau), create_graph=True)
            again = (first[0] * weights).sum() + first[1].sum()
            found += [*first, *torch.autograd.grad(again, (x, tau))]
        return [each.detach() for each in found]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("shape", "tau_shape"),
    [((40_000, 55), ()), ((40_001, 3, 5), (3, 1)), ((40_001, 3, 5), (1, 1, 1)), ((1, 300_001), ())],
    ids=str,
)
def test_gradients_have_the_same_bits_with_any_number_of_threads(shape, tau_shape):
    one = gradients_by(1, shape, tau_shape)
    for threads in (3, 8):
        for a, b in zip(one, gradients_by(threads, shape, tau_shape), strict=True):
            assert torch.equal(a, b)
