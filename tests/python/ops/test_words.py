# SPDX-License-Identifier: Apache-2.0
"""Noise is a pure function of a key and the row-major position in the logical shape."""

import itertools
import math

import numpy as np
import oracle
import pytest
import torch
from common import FORMS, assert_same_bits, layouts, make_key, noise, ops, stateless, tau_of

SHAPES = [(1,), (7,), (5, 13), (2, 3, 5, 7)]
# The first words of seed 5 at some offsets, as torch.func._random.bits gives them.
FROZEN = {
    0: [0xC417681D, 0x11D85194, 0xFBD62C3B, 0xF739E278, 0x58E37BC0, 0x27FA600A],
    3: [0xAB8A161E, 0xB175B163, 0x05BC469F, 0xF1DA3947, 0xAEEDA30A, 0x1F45F61D],
    2**40: [0x1DFEE55B, 0x1B1E3F8F, 0xAB5FF2C9, 0x58AF5E4D, 0xF580264A, 0xF954B393],
    2**64 - 1: [0xCD3B5CFE, 0x519B8A39, 0xE52EDB08, 0x31ACA81C, 0xC417681D, 0x11D85194],
}
OFFSETS = list(FROZEN)

# The log of the noise is exact to 2^-24 max(1, |log|) before rounding, and E to two ulps.
BOUND32 = 2.0**-22
BOUND64 = 2.0**-50


def assert_noise_is(got: torch.Tensor, wanted: np.ndarray) -> None:
    bound = BOUND64 if got.dtype == torch.float64 else BOUND32
    error = np.abs(got.double().numpy() - wanted) / np.maximum(1, np.abs(wanted))
    assert got.shape == wanted.shape and error.max() <= bound, error.max()


def test_the_oracle_has_the_known_words():
    for offset, words in FROZEN.items():
        assert oracle.words((5, offset), np.arange(6)).tolist() == words
    zero = oracle.philox(np.zeros((1, 4), dtype=np.uint64), 0)[0]
    assert [int(w) for w in zero] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_words_of_the_oracle_are_those_of_torch(shape, offset):
    positions = np.arange(math.prod(shape)).reshape(shape)
    words = oracle.words((5, offset), positions)
    assert words.reshape(-1)[:6].tolist() == FROZEN[offset][: words.size]
    if (bits := stateless("bits")) is not None:
        theirs = bits(make_key(5, offset), shape, dtype=torch.uint32)
        assert words.tolist() == theirs.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("offset", [*OFFSETS, 2**32 - 1, 2**64 - 3])
@pytest.mark.parametrize("shape", [*SHAPES, (3, 301)])
def test_noise_is_that_of_the_words(shape, offset, dtype):
    got = noise(torch.empty(shape, dtype=dtype), make_key(5, offset))
    assert got.dtype == dtype
    assert_noise_is(got, oracle.noise((5, offset), shape, wide=dtype == torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_have_the_noise_of_float32(dtype):
    key = make_key(5, 3)
    got = noise(torch.empty(9, 31, dtype=dtype), key)
    assert_same_bits(got, noise(torch.empty(9, 31), key))


@pytest.mark.parametrize("offset", [2**32 - 1, 2**64 - 1])
def test_counter_carries_into_its_high_word_and_wraps_at_the_end(offset):
    got = noise(torch.empty(40), make_key(9, offset))
    after = (offset + 1) % 2**64
    assert_same_bits(got[4:], noise(torch.empty(36), make_key(9, after)))


def test_words_below_256_are_extended_by_a_second_word():
    """128 * 2^20 words hold 8 of probability 2^-24 on average; none with probability e^-8."""
    like, found = torch.empty(2**20), 0
    for start in range(0, 2**27, 2**20):
        got = noise(like, make_key(5), full_shape=[2**27], start=[start])
        for at in (got > 16.6).nonzero().flatten().tolist():
            word = int(oracle.words((5, 0), np.array([start + at]))[0])
            wanted = oracle.noise_at((5, 0), np.array([start + at]))
            assert_noise_is(got[at : at + 1], wanted)
            found += word < oracle.EXTEND_BELOW
    assert found >= 1


def test_int64_keys_are_the_same_bits_as_uint64_keys():
    key = make_key(2**63 + 5, 2**64 - 2)
    like = torch.empty(4, 33)
    assert_same_bits(noise(like, key.view(torch.int64)), noise(like, key))


@pytest.mark.parametrize("batch", [(3,), (3, 2)])
def test_a_batched_key_draws_each_slice_independently(batch):
    keys = torch.randint(-(2**63), 2**63 - 1, (*batch, 2))
    got = noise(torch.empty(*batch, 5, 7), keys)
    for at in itertools.product(*map(range, batch)):
        assert_same_bits(got[at], noise(torch.empty(5, 7), keys[at]), str(at))


def test_a_batched_key_may_have_any_strides():
    keys = torch.randint(0, 2**62, (2, 3)).t()
    assert not keys.is_contiguous()
    got = noise(torch.empty(3, 11), keys)
    assert_same_bits(got, noise(torch.empty(3, 11), keys.contiguous()))


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_for_every_dim_the_noise_of_an_element_is_that_of_its_position(dim):
    """At logits 0 and tau 1, log y + lse is the noise."""
    shape = (2, 3, 5, 7)
    for name, x in layouts(torch.zeros(shape, dtype=torch.float64)).items():
        y, lse = ops._gumbel_softmax_lse(x, tau_of(1.0), make_key(5, 3), dim)
        got = (y.log() + lse).numpy()
        error = np.abs(got - oracle.noise((5, 3), shape, wide=True))
        assert error.max() < 1e-13, name


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
@pytest.mark.parametrize("hard", [False, True])
def test_strides_do_not_change_a_bit(dim, hard):
    x = torch.randn(2, 33, 5, 17)
    wanted = ops._gumbel_softmax(x, tau_of(0.7), make_key(5), dim, hard)
    for name, view in layouts(x).items():
        got = ops._gumbel_softmax(view, tau_of(0.7), make_key(5), dim, hard)
        assert_same_bits(got, wanted, name)
        pair = ops._gumbel_softmax_hard_soft(view, tau_of(0.7), make_key(5), dim)
        assert_same_bits(pair[0 if hard else 1], wanted, name)


CUTS = {"rows": (4, 1), "classes": (1, 4), "both": (2, 2)}


def shards(shape, pieces):
    """Uneven parts of a two-dimensional shape: (start, size) of each."""
    edges = [
        [0, *sorted({max(1, n * i // p - 1) for i in range(1, p)}), n]
        for n, p in zip(shape, pieces, strict=True)
    ]
    for r, c in itertools.product(*[itertools.pairwise(e) for e in edges]):
        yield (r[0], c[0]), (r[1] - r[0], c[1] - c[0])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_four_shards_have_the_noise_of_the_global_tensor(cut, dtype):
    shape = (10, 83)
    whole = noise(torch.empty(shape, dtype=dtype), make_key(5))
    pieces = list(shards(shape, CUTS[cut]))
    assert len(pieces) == 4
    for start, size in pieces:
        part = noise(torch.empty(size, dtype=dtype), make_key(5), full_shape=shape, start=start)
        (r, c), (h, w) = start, size
        assert_same_bits(part, whole[r : r + h, c : c + w], f"{start} {size}")


@pytest.mark.parametrize("batch", [(), (2,)])
def test_shards_of_classes_give_the_argmax_of_the_global_tensor(batch):
    x, keys = torch.randn(*batch, 6, 90), torch.randint(0, 2**60, (*batch, 2))
    dim, full, one = x.dim() - 1, [6, 90], tau_of(1.0)
    value, index = ops._gumbel_max(x, one, keys, dim, False)
    parts = [
        ops._gumbel_max(x[..., a:b], one, keys, dim, False, full_shape=full, start=[0, a])
        for a, b in [(0, 31), (31, 32), (32, 90)]
    ]
    values = torch.stack([v for v, _ in parts])
    indices = torch.stack([i + a for (_, i), a in zip(parts, [0, 31, 32], strict=True)])
    best = values.argmax(0, keepdim=True)
    assert_same_bits(values.max(0).values, value)
    assert torch.equal(indices.gather(0, best).squeeze(0), index)


@pytest.mark.parametrize("form", FORMS)
def test_shards_of_rows_give_sample_and_gradient_of_the_global_tensor(form):
    x, grad = torch.randn(8, 45), torch.randn(8, 45)
    tau, key = tau_of(0.6), make_key(5)

    def run(part, start, g):
        leaf, place = part.clone().requires_grad_(), {"full_shape": [8, 45], "start": start}
        if form == "hard":
            y = ops._gumbel_softmax_hard(leaf, tau, key, 1, **place)
        else:
            y = ops._gumbel_softmax(leaf, tau, key, 1, form != "soft", **place)
        return torch.cat([y, *torch.autograd.grad(y, leaf, g)], 1)

    whole = run(x, [0, 0], grad)
    parts = torch.cat([run(x[a : a + 2], [a, 0], grad[a : a + 2]) for a in range(0, 8, 2)])
    assert_same_bits(parts, whole)
