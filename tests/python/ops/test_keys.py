# SPDX-License-Identifier: Apache-2.0
"""Keys: PyTorch's stateless keys, and 128 random bits of a generator."""

import threading

import numpy as np
import oracle
import pytest
import torch
from common import assert_same_bits, make_key, ops, stateless

import torch_gumbel
from torch_gumbel import gumbel_softmax


def test_a_key_is_on_the_cpu_under_any_default_device():
    with torch.device("meta"):
        assert torch_gumbel.key(3).device.type == "cpu"


SEEDS = [0, 5, -1, -(2**63), 2**63, 2**64 - 1]
KEYS = [(5, 0), (0, 0), (2**64 - 1, 2**64 - 1), (0x0123456789ABCDEF, 2**32 - 1)]
FROZEN_FOLD = (0x11D85194C417681D, 0xF739E278FBD62C3B)  # of (5, 0) with 0


def pairs(keys: torch.Tensor) -> list[tuple[int, int]]:
    return [tuple(pair) for pair in keys.reshape(-1, 2).tolist()]


@pytest.mark.parametrize("seed", SEEDS)
def test_key_is_the_seed_at_offset_zero(seed):
    got = torch_gumbel.key(seed)
    assert got.dtype == torch.uint64 and got.tolist() == [seed % 2**64, 0]
    if (theirs := stateless("key")) is not None and 0 <= seed < 2**63:
        assert torch.equal(got, theirs(seed))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=r"key: seed must be in \[-2\*\*63, 2\*\*64\), got"):
        torch_gumbel.key(seed)


def test_split_and_fold_in_have_frozen_values():
    assert pairs(torch_gumbel.split(make_key(5), 1)) == [FROZEN_FOLD]
    assert pairs(torch_gumbel.fold_in(make_key(5), 0)) == [FROZEN_FOLD]


@pytest.mark.parametrize("pair", KEYS)
def test_split_is_that_of_torch_and_of_the_oracle(pair):
    got = torch_gumbel.split(make_key(*pair), 5)
    assert got.shape == (5, 2) and got.dtype == torch.uint64
    assert pairs(got) == [oracle.fold_in(pair, i) for i in range(5)]
    if (theirs := stateless("split")) is not None:
        assert torch.equal(got, theirs(make_key(*pair), 5))


@pytest.mark.parametrize("pair", KEYS)
def test_the_words_that_a_key_draws_are_the_keys_that_split_makes_of_it(pair):
    """Hence a key is used for sampling or splitting; and fold_in(key, i) is split(key, n)[i]."""
    drawn = oracle.words(pair, np.arange(12)).reshape(3, 2, 2)
    keys = torch_gumbel.split(make_key(*pair), 3)
    wanted = [tuple(int(low) | int(high) << 32 for low, high in block) for block in drawn]
    assert pairs(keys) == wanted
    assert torch.equal(torch_gumbel.fold_in(make_key(*pair), 2), keys[2])


@pytest.mark.parametrize("data", [0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -1])
@pytest.mark.parametrize("pair", KEYS)
def test_fold_in_is_that_of_torch_and_of_the_oracle(pair, data):
    key = make_key(*pair)
    got = torch_gumbel.fold_in(key, data)
    assert pairs(got) == [oracle.fold_in(pair, data % 2**64)]
    as_tensor = torch.tensor(data % 2**64, dtype=torch.uint64)
    assert torch.equal(torch_gumbel.fold_in(key, as_tensor), got)
    assert torch.equal(torch_gumbel.fold_in(key, as_tensor.view(torch.int64)), got)
    if (theirs := stateless("fold_in")) is not None and 0 <= data < 2**63:
        assert torch.equal(got, theirs(key, data))


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
def test_batches_of_keys_are_split_and_folded_each(batch):
    keys = torch.randint(0, 2**62, (*batch, 2)).view(torch.uint64)
    split, folded = torch_gumbel.split(keys, 4), torch_gumbel.fold_in(keys, 3)
    assert split.shape == (4, *batch, 2) and folded.shape == (*batch, 2)
    assert pairs(split[3]) == pairs(folded) == [oracle.fold_in(p, 3) for p in pairs(keys)]
    if (theirs := stateless("split")) is not None:
        assert torch.equal(split, theirs(keys, 4))


def test_a_transposed_batch_of_keys_is_split_by_its_values():
    keys = torch.randint(0, 2**62, (2, 3)).view(torch.uint64).t()
    assert torch.equal(torch_gumbel.split(keys), torch_gumbel.split(keys.contiguous()))


def test_int64_keys_stay_int64_with_the_same_bits():
    key = make_key(5)
    for function in (torch_gumbel.split, lambda k: torch_gumbel.fold_in(k, 1)):
        got = function(key.view(torch.int64))
        assert got.dtype == torch.int64
        assert torch.equal(got.view(torch.uint64), function(key))


def two_words(generator: torch.Generator) -> list[int]:
    """random64 of the CPU generator equals random_ over the full range."""
    words = torch.empty(2, dtype=torch.int64)
    low = -(2**63)
    words.random_(low, None, generator=generator)
    return words.view(torch.uint64).tolist()


def test_new_key_is_two_words_of_the_generator():
    ours, theirs = (torch.Generator().manual_seed(7) for _ in range(2))
    for _ in range(3):
        assert torch_gumbel.new_key(ours).tolist() == two_words(theirs)
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_new_key_without_a_generator_moves_the_default_one():
    torch.manual_seed(3)
    first, second = torch_gumbel.new_key(), torch_gumbel.new_key()
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(torch_gumbel.new_key(), first)
    with_generator = torch_gumbel.new_key(torch.Generator().manual_seed(3))
    assert torch.equal(with_generator, first)


def test_a_call_with_a_key_moves_no_generator():
    before = torch.get_rng_state()
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()
    torch_gumbel.gumbel_softmax(x, hard=True, key=make_key(1)).sum().backward()
    torch_gumbel.gumbel_argmax(x, key=make_key(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_that_share_a_generator_get_each_key_once():
    shared, alone = (torch.Generator().manual_seed(11) for _ in range(2))
    drawn = []

    def work():
        drawn.extend([tuple(torch_gumbel.new_key(shared).tolist()) for _ in range(250)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = [tuple(torch_gumbel.new_key(alone).tolist()) for _ in range(2000)]
    assert sorted(drawn) == sorted(wanted)
    assert len(set(drawn)) == 2000


ERRORS = [
    (lambda: torch_gumbel.split(make_key(1), 0), ValueError, r"split: num must be > 0, got 0"),
    (lambda: torch_gumbel.split(make_key(1), -2), ValueError, r"split: num must be > 0, got -2"),
    (
        lambda: torch_gumbel.split(torch.zeros(2)),
        TypeError,
        r"split: key must be a uint64 or int64",
    ),
    (
        lambda: torch_gumbel.split(make_key(1)[:1]),
        ValueError,
        r"split: key must have shape \[\*batch, 2\], got \[1\]",
    ),
    (
        lambda: torch_gumbel.fold_in(torch.zeros(2, dtype=torch.int32), 1),
        TypeError,
        r"fold_in: key must be a uint64 or int64 tensor, got Int",
    ),
    (
        lambda: torch_gumbel.fold_in(make_key(1), 2**64),
        ValueError,
        r"fold_in: data must be in \[-2\*\*63, 2\*\*64\), got 18446744073709551616",
    ),
    (
        lambda: torch_gumbel.fold_in(make_key(1), torch.zeros(2, dtype=torch.int64)),
        ValueError,
        r"fold_in: data must be one value, got shape \[2\]",
    ),
    (
        lambda: torch_gumbel.fold_in(make_key(1), torch.tensor(1.0)),
        TypeError,
        r"fold_in: data must be an integer or a uint64 or int64 tensor, got Float",
    ),
    (
        lambda: torch_gumbel.new_key(torch.Generator(), "meta"),
        ValueError,
        r"new_key: generator must be on meta, got one on cpu",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors_name_what_was_wanted_and_what_came(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_key_can_be_drawn_for_another_device():
    assert torch_gumbel.new_key(device="meta").device.type == "meta"
    assert ops._new_key(torch.empty(0, device="meta"), None).shape == (2,)


@pytest.mark.parametrize("hard", [False, True])
def test_a_key_made_in_inference_mode_serves_training(hard):
    with torch.inference_mode():
        key = make_key(5)
    x, grad = torch.randn(4, 9, requires_grad=True), torch.randn(4, 9)
    (got,) = torch.autograd.grad(gumbel_softmax(x, 0.5, hard, key=key), x, grad)
    (wanted,) = torch.autograd.grad(gumbel_softmax(x, 0.5, hard, key=make_key(5)), x, grad)
    assert_same_bits(got, wanted)
