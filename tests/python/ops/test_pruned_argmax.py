# SPDX-License-Identifier: Apache-2.0
"""The pruned search finds the first maximum of logits + noise, as an unpruned one does."""

import pytest
import torch
from common import HALVES, compute_type, make_key, noise, ops, tau_of

from torch_gumbel import gumbel_argmax, gumbel_softmax

ELEMENTS = 400_000
LENGTHS = [255, 256, 257, 2047, 2048, 2049, 8192, 8193, 40_000]


def flat(rows, k):
    return torch.full((rows, k), 0.25)


def rising(rows, k):
    return torch.randn(rows, k).sort(1).values


def falling(rows, k):
    return torch.randn(rows, k).sort(1, descending=True).values


def masked(rows, k):
    return torch.randn(rows, k).masked_fill(torch.rand(rows, k) < 0.9, -torch.inf)


def peaked(rows, k):
    x = torch.randn(rows, k)
    x[torch.arange(rows), torch.randint(k, (rows,))] += 12
    return x


def tied(rows, k):
    return (torch.randn(rows, k) * 2).round() / 2


def around(level):
    """Differences of a few ulps of the level, most below one ulp of the noise."""

    def make(rows, k):
        start = torch.tensor(level, dtype=torch.float32)
        steps = torch.randint(-3, 4, (rows, k), dtype=torch.int32)
        return (start.view(torch.int32) + steps).view(torch.float32)

    return make


def level(value):
    return lambda rows, k: value + torch.randn(rows, k)


LOGITS = {
    "random": torch.randn,
    "wide": lambda rows, k: 20 * torch.randn(rows, k),
    "flat": flat,
    "rising": rising,
    "falling": falling,
    "masked": masked,
    "peaked": peaked,
    "tied": tied,
    "at 1e5": level(1e5),
    "at 1e6": level(1e6),
    "at 1e7": level(1e7),
    "at -1e7": level(-1e7),
    "ulps at 1e5": around(1e5),
    "ulps at 1e6": around(1e6),
    "ulps at 1e7": around(1e7),
    "ulps near the largest": around(3.4e38),
    "spread to the largest": lambda rows, k: (2 * torch.rand(rows, k) - 1) * 3.4e38,
    "subnormal": lambda rows, k: torch.randn(rows, k) * 1e-40,
}


def first_maximum(x, key):
    scores = x.to(compute_type(x.dtype)) + noise(x, key)
    return torch.from_numpy(scores.numpy().argmax(axis=-1))  # numpy gives the first


def assert_first_maximum(x, key):
    got, wanted = gumbel_argmax(x, key=key), first_maximum(x, key)
    rows = (x > -torch.inf).any(-1)  # a row of masks alone has index 0 by definition
    differ = (got != wanted) & rows
    assert not differ.any(), f"{int(differ.sum())} rows, first {differ.nonzero()[0].tolist()}"
    assert (got[~rows] == 0).all()
    return wanted


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("k", [*LENGTHS, 3, 16, 33, 100])
def test_index_is_the_first_maximum_of_the_scores(k, kind):
    x = LOGITS[kind](max(8, ELEMENTS // k), k)
    wanted = assert_first_maximum(x, make_key(7, k))
    y = gumbel_softmax(x, hard=True, key=make_key(7, k))
    rows = (x > -torch.inf).any(-1)
    assert torch.equal(y.argmax(-1)[rows], wanted[rows])


@pytest.mark.parametrize("kind", ["random", "tied", "at 1e6"])
def test_every_length_up_to_three_hundred(kind):
    for k in range(1, 301):
        assert_first_maximum(LOGITS[kind](60, k), make_key(7, k))


@pytest.mark.parametrize("k", [5, 100, 2049, 8193])
@pytest.mark.parametrize("kind", ["random", "flat", "tied", "masked", "falling", "at 1e5"])
@pytest.mark.parametrize("dtype", [torch.float64, *HALVES], ids=str)
def test_the_other_dtypes_take_the_argmax_of_their_own_scores(dtype, kind, k):
    x = LOGITS[kind](max(8, ELEMENTS // 4 // k), k).to(dtype).clamp(max=6e4)
    assert_first_maximum(x, make_key(7, k))


@pytest.mark.parametrize("k", [3, 33, 300, 8193])
def test_half_logits_at_65504(k):
    x = torch.full((max(8, 50_000 // k), k), 65504.0, dtype=torch.float16)
    x[1::2] -= 32 * torch.randint(0, 2, x[1::2].shape)
    assert_first_maximum(x, make_key(7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_ties_go_to_the_first(dtype):
    """At the largest float the noise is below the rounding (at 65504 it is not): all scores tie."""
    top = torch.finfo(dtype).max
    for k in (2, 17, 100, 2049, 9000):
        x = torch.full((20, k), -top, dtype=dtype)
        start = torch.randint(k, (20,))
        x[torch.arange(k) >= start.unsqueeze(1)] = top
        assert torch.equal(gumbel_argmax(x, key=make_key(7)), start)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("kind", ["random", "tied", "ulps at 1e6"])
def test_strided_rows_choose_the_same(kind, dim):
    x = LOGITS[kind](77, 1200).t() if dim == 0 else LOGITS[kind](77, 2400)[:, ::2]
    scores = (x + noise(x, make_key(7))).contiguous()
    wanted = torch.from_numpy(scores.numpy().argmax(axis=dim))
    assert torch.equal(gumbel_argmax(x, dim, key=make_key(7)), wanted)


@pytest.mark.parametrize("k", [33, 2049, 9000])
def test_the_value_is_the_best_score(k):
    x = torch.randn(50, k)
    value, index = ops._gumbel_max(x, tau_of(1.0), make_key(7), 1, True)
    scores = x + noise(x, make_key(7))
    assert torch.equal(value, scores.max(1, keepdim=True).values)
    assert torch.equal(index, scores.argmax(1, keepdim=True))
