# SPDX-License-Identifier: Apache-2.0
"""Checks of the functions around the op on DTensors of two ranks (run by test_distributed.py)."""

import pytest
import torch
from common import make_key
from dtensor_checks import distributed
from torch.distributed.tensor import Shard

from torch_gumbel import (
    gumbel_argmax,
    gumbel_like,
    gumbel_topk,
    kl_categorical,
    perplexity,
    sample_categorical,
    straight_through_lookup,
)

KEY = make_key(5)


def check_several_draws_and_temperatures_are_those_of_one_process(rank):
    x, rows = torch.randn(6, 9), torch.rand(6, 1)
    rows[2] = 0
    for cut in (0, 1):
        part = distributed(x, Shard(cut))
        for temperature in (0.7, 0, rows):
            options = {"num_samples": 3, "temperature": temperature, "key": KEY}
            wanted, got = gumbel_argmax(x, **options), gumbel_argmax(part, **options)
            assert got.shape == wanted.shape
            assert torch.equal(got.full_tensor(), wanted), (cut, temperature)
    keys = torch.randint(0, 2**60, (6, 2))
    with pytest.raises(ValueError, match="num_samples of a DTensor wants one key"):
        gumbel_argmax(part, num_samples=3, key=keys)


def check_functions_that_know_nothing_of_parts_refuse_them(rank):
    part = distributed(torch.rand(6, 5), Shard(0))
    for call in [
        lambda x: gumbel_topk(x, 2),
        gumbel_like,
        lambda x: sample_categorical(x, 0.5),
        kl_categorical,
        perplexity,
        lambda x: straight_through_lookup(x, torch.ones(5)),
    ]:
        with pytest.raises(TypeError, match="wanted a plain tensor, got a DTensor"):
            call(part)
