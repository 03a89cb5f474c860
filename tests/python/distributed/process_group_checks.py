# SPDX-License-Identifier: Apache-2.0
"""Checks of plain tensors over a process group of two (run by test_distributed.py)."""

import torch
import torch.distributed as dist
from common import make_key
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from vocab_parallel_checks import refused

from torch_gumbel import fold_in, gumbel_argmax, gumbel_softmax, new_key
from torch_gumbel.distributed import (
    rank_key,
    shared_key,
    vocab_parallel_gumbel_argmax,
    vocab_parallel_gumbel_softmax,
)

KEY = make_key(5)


def collectives(call):
    with CommDebugMode() as counted:
        result = call()
    counts = {str(op).split(".")[-1]: n for op, n in counted.get_comm_counts().items()}
    return result, sum(counts.values()), counts


def check_the_number_of_collectives(rank):
    x = torch.randn(6, 4)

    place = {"key": KEY, "first_class": 4 * rank, "classes": 8}

    def draw(leaf, hard, tau=0.7):
        return vocab_parallel_gumbel_softmax(leaf, tau, hard, **place)

    assert collectives(lambda: draw(x, False))[1] == 1
    assert collectives(lambda: draw(x, True))[1] == 1
    assert collectives(lambda: vocab_parallel_gumbel_argmax(x, **place))[1] == 1
    assert collectives(lambda: vocab_parallel_gumbel_argmax(x, key=KEY))[1] == 2
    leaf, tau = x.clone().requires_grad_(), torch.tensor(0.7, requires_grad=True)
    for hard in (False, True):
        y, sent, _ = collectives(lambda hard=hard: draw(leaf, hard, tau))
        assert sent == 1
        back = collectives(lambda y=y: torch.autograd.grad(y, (leaf, tau), torch.ones_like(y)))
        assert back[1] == 1
    # with a key, rows that are not sharded by class need no communication
    rows = distribute_tensor(x, init_device_mesh("cpu", (2,)), [Shard(0)]).requires_grad_()
    assert collectives(lambda: gumbel_softmax(rows, key=KEY).sum().to_local())[1] == 0


def check_a_default_device_changes_nothing(rank):
    x, place = torch.randn(6, 4), {"key": KEY, "first_class": 4 * rank, "classes": 8}
    for hard in (False, True):
        wanted = vocab_parallel_gumbel_softmax(x, 0.7, hard, **place)
        with torch.device("meta"):
            assert torch.equal(vocab_parallel_gumbel_softmax(x, 0.7, hard, **place), wanted)
            index = vocab_parallel_gumbel_argmax(x, temperature=0.7, **place)
        assert torch.equal(index, vocab_parallel_gumbel_argmax(x, temperature=0.7, **place))


UNEVEN = (3, 5)


def mine(x, rank):
    begin = rank * UNEVEN[0]
    return x[..., begin : begin + UNEVEN[rank]].contiguous(), begin


def check_plain_tensors_over_a_process_group(rank):
    x = torch.randn(6, 8)
    index = gumbel_argmax(x, temperature=0.7, key=KEY)
    for hard in (False, True):
        wanted = gumbel_softmax(x, 0.7, hard, key=KEY)
        half = x[:, rank * 4 : rank * 4 + 4]
        got = vocab_parallel_gumbel_softmax(half, 0.7, hard, key=KEY)
        assert torch.allclose(got, wanted[:, rank * 4 : rank * 4 + 4], rtol=1e-5)
        part, begin = mine(x, rank)
        place = {"first_class": begin, "classes": 8, "group": dist.group.WORLD}
        got = vocab_parallel_gumbel_softmax(part, 0.7, hard, key=KEY, **place)
        assert torch.allclose(got, mine(wanted, rank)[0], rtol=1e-5)
        for where in (place, {}):
            chosen = vocab_parallel_gumbel_argmax(part, temperature=0.7, key=KEY, **where)
            assert torch.equal(chosen, index)
            again = vocab_parallel_gumbel_softmax(part, 0.7, hard, key=KEY, **where)
            assert torch.equal(again, got)
    kept = vocab_parallel_gumbel_argmax(half, keepdim=True, temperature=0.7, key=KEY)
    assert torch.equal(kept, index.unsqueeze(-1))


def check_classes_in_the_other_order_of_ranks(rank):
    x = torch.randn(6, 8)
    begin = 4 * (1 - rank)
    place = {"first_class": begin, "classes": 8}
    chosen = vocab_parallel_gumbel_argmax(x[:, begin : begin + 4], key=KEY, **place)
    assert torch.equal(chosen, gumbel_argmax(x, key=KEY))


def check_one_class_on_each_rank_may_have_no_dimension(rank):
    x = torch.randn(2)
    index = gumbel_argmax(x, key=KEY)
    assert vocab_parallel_gumbel_argmax(x[rank], key=KEY) == index
    assert vocab_parallel_gumbel_argmax(x[rank], keepdim=True, key=KEY).shape == ()
    for hard in (False, True):
        y = vocab_parallel_gumbel_softmax(x[rank], 0.7, hard, key=KEY)
        wanted = gumbel_softmax(x, 0.7, hard, key=KEY)[rank]
        assert y.shape == () and torch.allclose(y, wanted, rtol=1e-5)


def check_a_compiled_call_needs_its_position_and_equals_eager(rank):
    x = torch.randn(6, 8)
    half = x[:, rank * 4 : rank * 4 + 4].clone().requires_grad_()

    def draw(x, **place):
        return vocab_parallel_gumbel_softmax(x, 0.7, True, key=KEY, **place)

    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    y = compiled(half, first_class=4 * rank, classes=8)
    assert torch.equal(y, draw(half)) and y.requires_grad
    words = "torch.compile needs first_class= and classes="
    refused(Exception, words, lambda: compiled(half))


def check_a_rank_outside_the_group_gets_an_error(rank):
    groups = [dist.new_group([i]) for i in range(2)]
    own, other = groups[rank], groups[1 - rank]
    x = torch.randn(6, 4)
    assert torch.equal(
        vocab_parallel_gumbel_argmax(x, key=KEY, group=own), gumbel_argmax(x, key=KEY)
    )
    words = "this rank is not in the group"
    refused(ValueError, words, lambda: rank_key(KEY, other))
    refused(ValueError, words, lambda: shared_key(group=other))
    refused(ValueError, words, lambda: vocab_parallel_gumbel_softmax(x, group=other))


def check_batches_of_keys_over_a_process_group(rank):
    x, keys = torch.randn(3, 2, 8), torch.randint(0, 2**60, (3, 2))
    half = x[..., rank * 4 : rank * 4 + 4]
    for given in (keys, keys.view(3, 1, 1, 2)):
        chosen = vocab_parallel_gumbel_argmax(half, key=given)
        assert torch.equal(chosen, gumbel_argmax(x, key=keys))


def check_a_keyless_call_is_that_of_the_first_rank(rank):
    x = torch.randn(6, 8)
    half = x[:, rank * 4 : rank * 4 + 4]
    torch.manual_seed(0)
    wanted = gumbel_argmax(x), gumbel_softmax(x, hard=True), new_key()
    torch.manual_seed(rank)
    assert torch.equal(vocab_parallel_gumbel_argmax(half), wanted[0])
    hard = vocab_parallel_gumbel_softmax(half, hard=True)
    assert torch.equal(hard, wanted[1][:, rank * 4 : rank * 4 + 4])
    assert torch.equal(shared_key(), wanted[2])


def check_ranks_get_different_keys(rank):
    assert torch.equal(rank_key(KEY), fold_in(KEY, rank))
    assert not torch.equal(rank_key(KEY), fold_in(KEY, 1 - rank))


def check_wrong_arguments_are_refused(rank):
    x, before = torch.randn(6, 4), torch.get_rng_state()
    softmax, argmax = vocab_parallel_gumbel_softmax, vocab_parallel_gumbel_argmax
    both = "wanted both first_class and classes, or neither"
    refused(ValueError, both, lambda: softmax(x, first_class=0))
    refused(ValueError, both, lambda: argmax(x, classes=8))
    place = "classes [first_class, first_class + 4) must lie in [0, classes), got first_class 5"
    refused(ValueError, place, lambda: softmax(x, first_class=5, classes=8))
    refused(ValueError, "tau must be > 0", lambda: softmax(x, 0))
    refused(ValueError, "temperature must be >= 0", lambda: argmax(x, temperature=-1.0))
    refused(IndexError, "dim must be in [-2, 1], got 2", lambda: softmax(x, dim=2))
    refused(TypeError, "logits must be a tensor, got list", lambda: softmax([1.0]))
    refused(TypeError, "logits must be float32", lambda: argmax(x.long()))
    refused(
        ValueError,
        "wanted a key or a generator",
        lambda: softmax(x, key=KEY, generator=torch.default_generator),
    )
    assert torch.equal(torch.get_rng_state(), before)
