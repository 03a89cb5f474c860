# SPDX-License-Identifier: Apache-2.0
"""More than 2^31 elements, in all and in one row. Expanded logits need no memory of that size."""

import time

import numpy as np
import oracle
import pytest
import torch
from common import assert_same_bits, make_key, noise, ops, tau_of

from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(5, 3)
ONE = tau_of(1.0)
OVER = 2**31 + 4096


@pytest.mark.parametrize("start", [2**31 - 5, 2**32 - 5, 2**33 + 1, 2**40 + 3, 2**62])
def test_positions_beyond_32_bits_have_their_own_words(start):
    got = noise(torch.empty(40), KEY, full_shape=[2**62 + 100], start=[start])
    wanted = oracle.noise_at((5, 3), np.arange(start, start + 40, dtype=np.uint64))
    assert np.abs(got.double().numpy() - wanted).max() < 4e-6
    shape, at = [2**22, 2**40], [3, start % 2**40 if start < 2**62 else 17]
    rows = noise(torch.empty(2, 40), KEY, full_shape=shape, start=at)
    for i in range(2):
        place = (3 + i) * 2**40 + at[1]
        wanted = oracle.noise_at((5, 3), np.arange(place, place + 40, dtype=np.uint64))
        assert np.abs(rows[i].double().numpy() - wanted).max() < 4e-6


def test_more_than_two_to_the_31_elements_of_logits():
    rows, k = OVER // 1024, 1024
    x = torch.zeros(1, 1, dtype=torch.float16).expand(rows, k)
    index = gumbel_argmax(x, key=KEY)
    for first in (0, rows - 5):
        at = {"full_shape": [rows, k], "start": [first, 0]}
        wanted = ops._gumbel_max(torch.zeros(5, k), ONE, KEY, 1, False, **at)[1]
        assert torch.equal(index[first : first + 5], wanted)


def best_of_shards(length, pieces):
    step, best = -(-length // pieces), (-torch.inf, 0)
    for start in range(0, length, step):
        part = torch.zeros(1).expand(min(step, length - start))
        value, index = ops._gumbel_max(part, ONE, KEY, 0, False, full_shape=[length], start=[start])
        best = max(best, (value.item(), int(index) + start), key=lambda pair: pair[0])
    return best


def test_one_row_of_more_than_two_to_the_31_classes():
    x = torch.zeros(1).expand(OVER)
    value, index = ops._gumbel_max(x, ONE, KEY, 0, False)
    assert (value.item(), index.item()) == best_of_shards(OVER, 16)


@pytest.mark.slow
@pytest.mark.parametrize("hard", [False, True])
def test_more_than_two_to_the_31_elements_of_samples(hard):
    """4.3 GB of output."""
    rows, k = OVER // 1024, 1024
    y = gumbel_softmax(torch.zeros(1, 1, dtype=torch.float16).expand(rows, k), 0.5, hard, key=KEY)
    for first in (0, rows // 2, rows - 5):
        at = {"full_shape": [rows, k], "start": [first, 0]}
        part = torch.zeros(5, k, dtype=torch.float16)
        assert_same_bits(
            y[first : first + 5], ops._gumbel_softmax(part, tau_of(0.5), KEY, 1, hard, **at)
        )


@pytest.mark.slow
@pytest.mark.parametrize("dim", [0, 1])
def test_more_than_two_to_the_31_rows(dim):
    """4.3 GB of output; one class, along either dimension."""
    shape = (OVER, 1) if dim == 1 else (1, OVER)
    x = torch.zeros(1, 1, dtype=torch.float16).expand(shape)
    y = gumbel_softmax(x, hard=True, dim=dim, key=KEY)
    assert y.shape == x.shape and bool((y == 1).all())


@pytest.mark.parametrize("hard", [False, True])
def test_the_time_of_a_long_row_grows_as_its_length(hard):
    def per_class(classes):
        x = torch.zeros(classes)
        key = make_key(5)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            gumbel_softmax(x, hard=hard, key=key)
            times.append(time.perf_counter() - start)
        return min(times) / classes

    # Outputs of 32 MiB and more are new pages at every call, which cost more than the sample; both
    # lengths have it. A cost per tile that grows with the number of tiles makes this ratio 8.
    assert per_class(2**26) < 3 * per_class(2**23)
