# SPDX-License-Identifier: Apache-2.0
"""Checks of log_prob_entropy of rows sharded by class or by row (run by test_distributed.py)."""

import math

import torch
from common import DTYPES
from dtensor_checks import distributed
from process_group_checks import collectives, mine
from torch.distributed.tensor import DTensor, Replicate, Shard
from vocab_parallel_checks import SHAPES, cut, refused

from torch_gumbel import log_prob_entropy
from torch_gumbel.distributed import vocab_parallel_log_prob_entropy


def some(shape, dim, dtype):
    """Logits of which some are masked, and a class of each row."""
    x = 3 * torch.randn(shape, dtype=torch.float64)
    if x.size(dim) > 2:
        x.select(dim, 1).fill_(-math.inf)
    rows = [n for i, n in enumerate(shape) if i != dim % len(shape)]
    return x.to(dtype), torch.randint(x.size(dim), rows)


def check_log_probabilities_are_those_of_one_process(rank):
    for dtype in DTYPES:
        for shape, dim in SHAPES:
            x, index = some(shape, dim, dtype)
            tau = torch.rand(index.shape) + 0.5
            weights = torch.randn(2, *index.shape)
            leaf, t = x.clone().requires_grad_(), tau.clone().requires_grad_()
            wanted = log_prob_entropy(leaf, index, dim, temperature=t)
            grads = [w.to(wanted[0]) for w in weights]
            right = torch.autograd.grad(wanted, (leaf, t), [g.nan_to_num() for g in grads])
            part, own = cut(x, dim).requires_grad_(), tau.clone().requires_grad_()
            got = log_prob_entropy(part, index, dim, temperature=own)
            close = {"rtol": 1e-5, "atol": 1e-6}
            for ours, theirs in zip(got, wanted, strict=True):
                assert ours.placements == (Replicate(),) and ours.shape == theirs.shape
                torch.testing.assert_close(ours.to_local(), theirs, **close)
            ours = torch.autograd.grad(
                got, (part, own), [distributed(g, Replicate()) for g in grads]
            )
            rounding = {"rtol": 1e-2, "atol": 1e-3} if dtype.itemsize == 2 else close
            torch.testing.assert_close(ours[0].full_tensor(), right[0], **rounding)
            torch.testing.assert_close(ours[1], right[1], rtol=1e-4, atol=1e-5)


def check_log_probabilities_of_rows_sharded_by_row(rank):
    x, index = some((6, 9), 1, torch.float32)
    wanted = log_prob_entropy(x, index)
    for given in (index, distributed(index, Replicate()), distributed(index, Shard(0))):
        got, sent, _ = collectives(lambda g=given: log_prob_entropy(distributed(x, Shard(0)), g))
        assert sent <= 2  # those that distribute x
        for ours, theirs in zip(got, wanted, strict=True):
            assert isinstance(ours, DTensor) and ours.placements == (Shard(0),)
            torch.testing.assert_close(ours.full_tensor(), theirs)


def check_log_probabilities_over_a_process_group(rank):
    """One all-gather forward; nothing backward at the logits, one all-reduce at a temperature."""
    x, index = some((6, 8), 1, torch.float32)
    x[0], x[1, :3], x[2, :3], x[3, 5] = -math.inf, -math.inf, math.nan, math.inf
    leaf, t = x.clone().requires_grad_(), torch.tensor(0.7, requires_grad=True)
    wanted = log_prob_entropy(leaf, index, temperature=t)
    part, begin = mine(x, rank)
    place = {"first_class": begin, "classes": 8}
    own, tau = part.clone().requires_grad_(), torch.tensor(0.7, requires_grad=True)
    got, sent, _ = collectives(
        lambda: vocab_parallel_log_prob_entropy(own, index, temperature=tau, **place)
    )
    assert sent == 1
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    ones = [torch.ones(6)] * 2
    (right,) = torch.autograd.grad(wanted, leaf, ones)
    found, sent, _ = collectives(lambda: torch.autograd.grad(got, own, ones, retain_graph=True))
    assert sent == 0
    torch.testing.assert_close(found[0], mine(right, rank)[0], equal_nan=True)
    assert collectives(lambda: torch.autograd.grad(got, tau, ones))[1] == 1


def check_second_derivatives_of_log_probabilities(rank):
    x, index = some((4, 8), 1, torch.float64)
    index[0] = 1  # masked
    weights = torch.randn(4, 8, dtype=torch.float64)

    def second(call, x, weights):
        leaf = x.clone().requires_grad_()
        tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        both = call(leaf, tau)
        ones = [torch.ones(4, dtype=torch.float64)] * 2
        (grad,) = torch.autograd.grad(both, leaf, ones, create_graph=True)
        # Of a sum over all ranks, each of which has its part of it.
        return torch.autograd.grad((grad * weights).sum(), (leaf, tau))

    wanted = second(lambda x, t: log_prob_entropy(x, index, temperature=t), x, weights)
    (part, begin), (mine_of_weights, _) = mine(x, rank), mine(weights, rank)
    got = second(
        lambda x, t: vocab_parallel_log_prob_entropy(
            x, index, temperature=t, first_class=begin, classes=8
        ),
        part,
        mine_of_weights,
    )
    torch.testing.assert_close(got[0], mine(wanted[0], rank)[0])
    torch.testing.assert_close(got[1], wanted[1])


def check_a_wrong_index_is_refused_on_every_rank(rank):
    x = torch.zeros(3, 4)
    refused(
        IndexError,
        "log_prob_entropy: index must be in [0, 8), got 8",
        lambda: vocab_parallel_log_prob_entropy(x, torch.tensor([0, 7, 8])),
    )
    refused(
        ValueError,
        "log_prob_entropy: index must have shape [3]",
        lambda: vocab_parallel_log_prob_entropy(x, torch.zeros(2).long()),
    )
    refused(
        TypeError,
        "wanted a plain tensor",
        lambda: vocab_parallel_log_prob_entropy(distributed(x, Shard(1)), torch.zeros(3).long()),
    )
    refused(IndexError, "got 4", lambda: log_prob_entropy(cut(x), torch.tensor([0, 4, 1])))
