# SPDX-License-Identifier: Apache-2.0
"""Rows with masks, NaN, infinities, and extreme logits: values, and no effect on other rows."""

import pytest
import torch
from common import DTYPES, assert_same_bits, make_key

from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(5)
INF, NAN = torch.inf, torch.nan
LENGTHS = [4, 33, 100, 8200]
AT = 3  # the special row, among ordinary ones


def put(places, rest=None):
    def fill(row):
        if rest is not None:
            row.fill_(rest)
        for place, value in places.items():
            row[place] = value

    return fill


def extreme(sign_of_rest):
    def fill(row):
        top = torch.finfo(row.dtype).max
        row.fill_(sign_of_rest * top)
        row[1] = top

    return fill


def smallest(row):
    row.fill_(torch.finfo(row.dtype).smallest_normal / 4)  # subnormal


WITHOUT_DISTRIBUTION = {
    "all -inf": put({}, -INF),
    "NaN first": put({0: NAN}),
    "NaN inside": put({2: NAN}),
    "NaN last": put({-1: NAN}),
    "all NaN": put({}, NAN),
    "NaN among -inf": put({1: NAN}, -INF),
    "NaN beside +inf": put({1: NAN, 2: INF}),
    "one +inf": put({1: INF}),
    "+inf last": put({-1: INF}),
    "two +inf": put({0: INF, -1: INF}),
    "all +inf": put({}, INF),
    "+inf among -inf": put({1: INF}, -INF),
    "+inf and -inf": put({0: INF, 1: -INF}),
}

WITH_DISTRIBUTION = {
    "all largest": extreme(1),
    "one largest among -largest": extreme(-1),
    "one largest among zeros": extreme(0),
    "all -largest": lambda row: row.fill_(-torch.finfo(row.dtype).max),
    "all 65504": put({}, 65504.0),
    "subnormal": smallest,
    "minus zero": put({}, -0.0),
    "one finite": put({2: 1.5}, -INF),
    "one -largest among -inf": lambda row: put({2: -torch.finfo(row.dtype).max}, -INF)(row),
    "two finite": put({0: 1.0, -1: 2.0}, -INF),
}


def rows_with(fill, dtype, k):
    x = torch.randn(7, k).to(dtype)
    clean = x.clone()
    fill(x[AT])
    return x, clean


def results_of(x, grad):
    out = {}
    for hard in (False, True):
        leaf = x.clone().requires_grad_()
        y = gumbel_softmax(leaf, 0.7, hard, key=KEY)
        out[f"sample hard={hard}"] = y.detach()
        out[f"gradient hard={hard}"] = torch.autograd.grad(y, leaf, grad)[0]
    out["index"] = gumbel_argmax(x, key=KEY)
    return out


@pytest.mark.parametrize("k", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("row", WITHOUT_DISTRIBUTION)
def test_a_row_without_distribution_is_nan_as_in_pytorch(row, dtype, k):
    x, clean = rows_with(WITHOUT_DISTRIBUTION[row], dtype, k)
    grad = torch.randn(7, k).to(dtype)
    assert torch.softmax(x[AT].float(), 0).isnan().all()
    got, wanted = results_of(x, grad), results_of(clean, grad)
    neighbours = [i for i in range(7) if i != AT]
    for name, value in got.items():
        assert_same_bits(value[neighbours], wanted[name][neighbours], name)
        if name == "index":
            assert value[AT] == 0
        else:
            assert value[AT].isnan().all(), name


@pytest.mark.parametrize("k", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("row", WITH_DISTRIBUTION)
def test_an_extreme_row_with_a_distribution_is_one(row, dtype, k):
    x, clean = rows_with(WITH_DISTRIBUTION[row], dtype, k)
    grad = torch.randn(7, k).to(dtype)
    got, wanted = results_of(x, grad), results_of(clean, grad)
    neighbours = [i for i in range(7) if i != AT]
    for name, value in got.items():
        assert_same_bits(value[neighbours], wanted[name][neighbours], name)
        assert torch.isfinite(value[AT].double()).all(), name
    index = got["index"][AT]
    one_hot = torch.nn.functional.one_hot(index, k).to(dtype)
    assert torch.equal(got["sample hard=True"][AT], one_hot)
    total = got["sample hard=False"][AT].double().sum().item()
    # a flat half row of many classes rounds each of them to half an ulp
    slack = 8 * torch.finfo(dtype).eps + k * 2.0**-25 * (dtype == torch.float16)
    assert total == pytest.approx(1, abs=slack)
    assert x[AT, index] > -INF


@pytest.mark.parametrize("k", [2, 5, 16, 17, 64, 300, 9000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [0, 1])
def test_a_masked_class_has_probability_and_gradient_exactly_zero(dim, dtype, k):
    x = torch.randn(40, k)
    masked = torch.rand(40, k) < 0.5
    masked[torch.arange(40), torch.randint(k, (40,))] = False
    x = x.masked_fill(masked, -INF).to(dtype)
    if dim == 0:
        x, masked = x.t().contiguous(), masked.t()
    grad = torch.randn(x.shape).to(dtype)
    for hard in (False, True):
        leaf = x.clone().requires_grad_()
        y = gumbel_softmax(leaf, 0.5, hard, dim=dim)
        (gradient,) = torch.autograd.grad(y, leaf, grad)
        for value in (y.detach(), gradient):
            assert torch.isfinite(value).all()
            assert (value[masked] == 0).all()
    index = gumbel_argmax(x, dim, keepdim=True)
    assert not masked.gather(dim, index).any()


MASKED = [0, 7, 19]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tau", [1e-6, 1e6, 1e-40, 1e300])
def test_masks_hold_at_every_tau(tau, dtype):
    x = torch.randn(50, 20).index_fill(1, torch.tensor(MASKED), -INF).to(dtype)
    y = gumbel_softmax(x, tau)
    assert (y[:, MASKED] == 0).all() and torch.isfinite(y).all()
    assert (gumbel_softmax(x, tau, True)[:, MASKED] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1e-30, 1e-6, 1e6, 1e-40, 1e300])
def test_masks_hold_at_every_temperature_of_the_index(temperature, dtype):
    x = torch.randn(50, 20).index_fill(1, torch.tensor(MASKED), -INF).to(dtype)
    index = gumbel_argmax(x, temperature=temperature)
    assert not torch.isin(index, torch.tensor(MASKED)).any()


def test_a_masked_class_is_never_drawn_in_two_million_rows():
    x = torch.zeros(5).index_fill(0, torch.tensor([1, 4]), -INF).expand(2_000_000, 5)
    counts = torch.bincount(gumbel_argmax(x), minlength=5)
    assert counts[1] == counts[4] == 0 and counts.sum() == 2_000_000


@pytest.mark.parametrize("k", [3, 33, 9000])
def test_nan_reaches_only_the_gradient_of_its_own_row(k):
    x = torch.randn(5, k, requires_grad=True)
    grad = torch.randn(5, k)
    clean = torch.autograd.grad(gumbel_softmax(x, key=KEY), x, grad)[0]
    grad[2, 1] = NAN
    got = torch.autograd.grad(gumbel_softmax(x, key=KEY), x, grad)[0]
    assert got[2].isnan().all()
    assert_same_bits(got[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])


@pytest.mark.parametrize("fill", [*WITHOUT_DISTRIBUTION.values()], ids=[*WITHOUT_DISTRIBUTION])
def test_the_index_of_a_row_without_a_distribution_is_zero_at_every_temperature(fill):
    x, _ = rows_with(fill, torch.float32, 40)
    for temperature in (1e-30, 0.5, 1e30):
        assert gumbel_argmax(x, temperature=temperature)[AT] == 0
