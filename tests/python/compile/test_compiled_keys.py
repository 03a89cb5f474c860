# SPDX-License-Identifier: Apache-2.0
"""Keys inside compiled functions: made, drawn, split, folded, and passed as arguments."""

import pytest
import torch
from common import assert_same_bits, make_key
from compiling import compiled, counted
from torch.utils._pytree import tree_leaves

from torch_gumbel import fold_in, gumbel_softmax, key, new_key, split

KEY = make_key(5)
SEEDS = [0, 5, -7, -(2**63), 2**63 - 1, 2**63, 2**64 - 1]
BACKENDS = ["aot_eager", "inductor"]
DTYPES_OF_KEYS = [torch.uint64, torch.int64]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_key_made_in_the_graph_has_the_words_of_eager(backend):
    """Inductor refuses a uint64 constant: "Promotion for uint16, uint32, uint64 types"."""

    def draw(x):
        keys = [key(seed) for seed in SEEDS]
        derived = [(fold_in(k, seed), split(k, 2)) for k, seed in zip(keys, SEEDS, strict=True)]
        return keys, derived, [gumbel_softmax(x, hard=True, key=k) for k in keys]

    x = torch.randn(3, 40)
    results = tree_leaves(compiled(draw, backend)(x)), tree_leaves(draw(x))
    for got, wanted in zip(*results, strict=True):
        assert_same_bits(got, wanted)
    assert [k.tolist() for k in draw(x)[0]] == [[seed % 2**64, 0] for seed in SEEDS]


def test_another_seed_is_not_another_graph():
    run, counter = counted(key)
    for seed in range(-5, 15):
        assert_same_bits(run(seed), key(seed))
    assert counter.frame_count <= 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_step_folded_in_is_not_another_graph(backend):
    def draw(x, step):
        return gumbel_softmax(x, 0.5, True, key=fold_in(KEY, step))

    run, counter = counted(draw, backend)
    x = torch.randn(3, 40)
    for step in range(20):
        assert_same_bits(run(x, step), draw(x, step))
    assert counter.frame_count <= 2


@pytest.mark.parametrize("function", [key, lambda n: fold_in(KEY, n)], ids=["key", "fold_in"])
def test_numbers_beyond_int64_come_and_go(function):
    run = compiled(function, "inductor")
    for number in [3, 2**63, -1, 7]:
        assert_same_bits(run(number), function(number))


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_a_number_out_of_range_shows_its_message_when_compiled(number):
    for who, function in (("key", key), ("fold_in", lambda n: fold_in(KEY, n))):
        with pytest.raises(Exception, match=rf"{who}: \w+ must be in \[-2\*\*63, 2\*\*64\), got"):
            compiled(function)(number)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tensor_is_folded_in_in_the_graph(backend):
    run, counter = counted(lambda data: fold_in(KEY, data), backend)
    for data in (3, 4, 5):
        assert_same_bits(run(torch.tensor(data)), fold_in(KEY, data))
    assert counter.frame_count == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_drawn_in_the_graph_are_those_of_eager_under_one_seed(backend):
    def draw(x):
        drawn = new_key()
        first, second = split(drawn)
        return (
            drawn,
            split(drawn, 3),
            fold_in(drawn, 2),
            *(gumbel_softmax(x, 0.5, key=k) for k in (first, second, split(new_key(), 3))),
        )

    run, x = compiled(draw, backend), torch.randn(3, 40)
    torch.manual_seed(3)
    wanted = draw(x)
    torch.manual_seed(3)
    for got, value in zip(run(x), wanted, strict=True):
        assert_same_bits(got, value)
    assert not torch.equal(run(x)[0], run(x)[0])


class Sampler(torch.nn.Module):
    def __init__(self, key):
        super().__init__()
        self.register_buffer("key", key)

    def forward(self, x):
        return gumbel_softmax(x, 0.5, True, key=self.key)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES_OF_KEYS, ids=str)
def test_a_key_comes_as_buffer_argument_or_global(dtype, backend):
    x, given = torch.randn(3, 40, requires_grad=True), KEY.view(dtype)
    wanted = gumbel_softmax(x, 0.5, True, key=KEY)
    (gradient,) = torch.autograd.grad(wanted, x, torch.arange(120.0).view(3, 40))
    runs = [
        compiled(Sampler(given), backend),
        compiled(lambda x: gumbel_softmax(x, 0.5, True, key=given), backend),
        lambda x: compiled(lambda x, k: gumbel_softmax(x, 0.5, True, key=k), backend)(x, given),
    ]
    for run in runs:
        got = run(x)
        assert_same_bits(got.detach(), wanted.detach())
        grad = torch.autograd.grad(got, x, torch.arange(120.0).view(3, 40))[0]
        assert_same_bits(grad, gradient)


@pytest.mark.parametrize("dtype", DTYPES_OF_KEYS, ids=str)
def test_another_key_is_the_same_graph(dtype):
    run, counter = counted(lambda x, k: gumbel_softmax(x, 0.5, True, key=k))
    x = torch.randn(3, 40)
    for seed in range(5):
        given = key(seed).view(dtype)
        assert_same_bits(run(x, given), gumbel_softmax(x, 0.5, True, key=given))
    assert counter.frame_count == 1


def test_a_key_that_a_buffer_advances_draws_anew():
    """In place: the next call reads the key that this call wrote."""

    class Stream(Sampler):
        def forward(self, x):
            following, now = split(self.key)
            self.key.copy_(following)
            return gumbel_softmax(x, 0.5, True, key=now)

    eager, x = Stream(key(3)), torch.randn(3, 40)
    run = compiled(Stream(key(3)), "inductor")
    samples = [run(x) for _ in range(3)]
    for sample in samples:
        assert_same_bits(sample, eager(x))
    assert not torch.equal(samples[0], samples[1])


def test_new_key_of_a_generator_is_refused_in_one_graph_and_works_across_a_break():
    def draw(x, generator):
        return gumbel_softmax(x * 2, 0.5, key=new_key(generator)) + 1

    ours, theirs = (torch.Generator().manual_seed(4) for _ in range(2))
    x = torch.randn(3, 40)
    with pytest.raises(Exception, match=r"new_key: torch.compile cannot trace a generator"):
        compiled(draw)(x, ours)
    torch._dynamo.reset()
    run = torch.compile(draw, backend="aot_eager")
    for _ in range(3):
        assert_same_bits(run(x, ours), draw(x, theirs))
