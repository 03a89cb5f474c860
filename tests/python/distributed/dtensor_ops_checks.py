# SPDX-License-Identifier: Apache-2.0
"""Checks of the other ops on DTensors of two ranks (run by test_distributed.py)."""

import pytest
import torch
from common import make_key
from dtensor_checks import distributed
from operation import Inputs
from operations import TABLE
from torch.distributed.tensor import Replicate, Shard

from torch_gumbel import gumbel_argmax, gumbel_softmax
from torch_gumbel.distributed import vocab_parallel_gumbel_argmax, vocab_parallel_gumbel_softmax

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
    with pytest.raises(ValueError, match="num_samples of a DTensor needs one key"):
        gumbel_argmax(part, num_samples=3, key=keys)


def check_temperatures_of_the_rows_shape_are_those_of_one_process(rank):
    for shape, dim in [((6, 9), 1), ((4, 6, 3), 1), ((6, 6), 0)]:
        x, weights = torch.randn(shape), torch.randn(shape)
        rows = torch.rand(x.sum(dim).shape) + 0.2
        for cut in range(len(shape)):
            part = distributed(x, Shard(cut))
            for whole in (False, True):  # a DTensor of its own, or the same tensor on every rank
                wanted_rows = rows.clone().requires_grad_()
                own = (distributed(rows, Replicate()) if whole else rows.clone()).requires_grad_()
                wanted = gumbel_softmax(x, wanted_rows, dim=dim, key=KEY)
                got = gumbel_softmax(part, own, dim=dim, key=KEY)
                torch.testing.assert_close(got.full_tensor(), wanted)
                (wanted * weights).sum().backward()
                (got * distributed(weights, Shard(cut))).sum().backward()
                gradient = own.grad.full_tensor() if whole else own.grad
                assert own.grad.shape == rows.shape
                torch.testing.assert_close(gradient, wanted_rows.grad)
            for samples in (None, 3):
                options = {"temperature": rows, "num_samples": samples, "key": KEY}
                wanted, got = gumbel_argmax(x, dim, **options), gumbel_argmax(part, dim, **options)
                assert torch.equal(got.full_tensor(), wanted), (shape, dim, cut, samples)


def check_rows_cut_by_class_take_temperatures_of_their_shape(rank):
    x, rows, weights = torch.randn(6, 8), torch.rand(6) + 0.2, torch.randn(6, 8)
    here = slice(4 * rank, 4 * rank + 4)
    wanted_rows, own = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    wanted = gumbel_softmax(x, wanted_rows, key=KEY)
    got = vocab_parallel_gumbel_softmax(x[:, here], own, key=KEY)
    torch.testing.assert_close(got, wanted[:, here])
    (wanted * weights).sum().backward()
    (got * weights[:, here]).sum().backward()
    torch.testing.assert_close(own.grad, wanted_rows.grad)
    index = vocab_parallel_gumbel_argmax(x[:, here], temperature=rows, key=KEY)
    assert torch.equal(index, gumbel_argmax(x, temperature=rows, key=KEY))


def check_no_generator_advances_if_arguments_are_wrong_or_memory_is_lacking(rank):
    x = torch.randn(6, 8)
    part, before = distributed(x, Shard(0)), torch.get_rng_state()
    for error, call in [
        (RuntimeError, lambda: gumbel_argmax(part, num_samples=1 << 50)),
        (RuntimeError, lambda: vocab_parallel_gumbel_argmax(x.expand(1 << 40, 6, 8))),
        (RuntimeError, lambda: vocab_parallel_gumbel_softmax(x.expand(1 << 40, 6, 8))),
        (TypeError, lambda: vocab_parallel_gumbel_softmax(x, dim="x")),
        (TypeError, lambda: vocab_parallel_gumbel_argmax(x, 0.5)),
        (TypeError, lambda: vocab_parallel_gumbel_argmax(x, first_class="0", classes=16)),
        (TypeError, lambda: gumbel_argmax(part, "x")),
        (TypeError, lambda: gumbel_softmax(part, dim=0.5)),
    ]:
        with pytest.raises(error):
            call()
    assert torch.equal(torch.get_rng_state(), before)


def check_functions_without_sharding_refuse_dtensors(rank):
    refusing = [operation for operation in TABLE if not operation.takes_dtensors]
    assert len(refusing) >= 7
    for operation in refusing:
        x, *rest = operation.arguments(Inputs())
        message = f"^{operation.name}: wanted a plain tensor, got a DTensor"
        with pytest.raises(TypeError, match=message):
            operation.function(distributed(x, Shard(0)), *rest)
