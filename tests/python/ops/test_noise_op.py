# SPDX-License-Identifier: Apache-2.0
"""sample_gumbel, gumbel_like, and gumbel_at: the noise of the kernels."""

import pytest
import torch
from common import DTYPES, assert_same_bits, compute_type, make_key, noise
from compiling import compiled

from torch_gumbel import gumbel_argmax, gumbel_at, gumbel_like, sample_gumbel, split

KEY = make_key(5, 3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (7,), (3, 301), (2, 3, 5, 7), (0, 4), (3, 0)], ids=str)
def test_it_is_the_noise_of_the_kernels_in_bits(shape, dtype):
    """Half types have float32 noise, rounded."""
    got = sample_gumbel(shape, dtype=dtype, key=KEY)
    wanted = noise(torch.empty(shape, dtype=dtype), KEY)
    assert wanted.dtype == compute_type(dtype)
    assert_same_bits(got, wanted.to(dtype))
    assert got.is_contiguous() and not got.requires_grad
    assert_same_bits(gumbel_like(torch.ones(shape, dtype=dtype), key=KEY), got)


def test_an_index_is_the_argmax_with_it():
    x = torch.randn(40, 30)
    assert torch.equal((x + gumbel_like(x, key=KEY)).argmax(-1), gumbel_argmax(x, key=KEY))


def test_a_size_may_be_a_number():
    assert_same_bits(sample_gumbel(5, key=KEY), sample_gumbel((5,), key=KEY))
    assert_same_bits(sample_gumbel(torch.Size([2, 3]), key=KEY), sample_gumbel([2, 3], key=KEY))


def test_defaults_are_those_of_torch():
    assert sample_gumbel(3).dtype == torch.float32
    with torch.device("meta"):
        assert sample_gumbel(3).device.type == "meta"
    torch.set_default_dtype(torch.float64)
    try:
        assert sample_gumbel(3).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_like_takes_layout_and_dtype_of_neither_memory_nor_integers():
    x = torch.ones(4, 5).t()
    y = gumbel_like(x, dtype=torch.float16, key=KEY)
    assert y.shape == (5, 4) and y.is_contiguous() and y.dtype == torch.float16
    assert gumbel_like(torch.ones(2, dtype=torch.int64), dtype=torch.float32).shape == (2,)
    with pytest.raises(TypeError, match=r"^gumbel_like: dtype must be float32, .* got Long"):
        gumbel_like(torch.ones(2, dtype=torch.int64))


def test_batched_keys_give_each_slice_its_own():
    keys = split(KEY, 3)
    got = sample_gumbel((3, 4, 5), key=keys)
    assert_same_bits(got, torch.stack([sample_gumbel((4, 5), key=key) for key in keys]))


def test_in_vmap_lanes_draw_by_the_rule_of_randomness():
    x = torch.zeros(6, 4)
    elements = {
        how: torch.func.vmap(gumbel_like, randomness=how)(x) for how in ("same", "different")
    }
    assert (elements["same"] == elements["same"][0]).all()
    assert len({tuple(row) for row in elements["different"].tolist()}) == 6
    keys = split(KEY, 6)
    keyed = torch.func.vmap(lambda key: sample_gumbel(4, key=key))(keys)
    assert_same_bits(keyed, sample_gumbel((6, 4), key=keys))
    with pytest.raises(RuntimeError, match="vmap: torch_gumbel was called without a key"):
        torch.func.vmap(gumbel_like)(x)


def test_compiled_it_equals_eager_and_is_new_at_every_call():
    run = compiled(lambda x: (gumbel_like(x, key=KEY), sample_gumbel((2, 3), key=KEY)))
    x = torch.ones(3, 4)
    each = gumbel_like(x, key=KEY), sample_gumbel((2, 3), key=KEY)
    for got, wanted in zip(run(x), each, strict=True):
        assert_same_bits(got, wanted)
    fresh = compiled(lambda: sample_gumbel(8))
    assert not torch.equal(fresh(), fresh())


WRONG = [
    (ValueError, "size must not be negative, got", (-1,), {}),
    (ValueError, "size must not be negative, got", ((2, -3),), {}),
    (TypeError, "dtype must be float32, .* got Int", (3,), {"dtype": torch.int32}),
    (ValueError, r"key must have shape \[\*batch, 2\]", (3,), {"key": torch.zeros(3).long()}),
    (ValueError, r"key must have shape \[\*batch, 2\] with batch", ((3,),), {"key": split(KEY, 3)}),
    (TypeError, "key must be a uint64 or int64 tensor", (3,), {"key": torch.zeros(2)}),
    (
        ValueError,
        "wanted a key or a generator, got both",
        (3,),
        {"key": KEY, "generator": torch.default_generator},
    ),
]


@pytest.mark.parametrize(("error", "message", "args", "options"), WRONG, ids=lambda v: str(v)[:40])
def test_wrong_arguments_are_refused_and_nothing_is_drawn(error, message, args, options):
    before = torch.get_rng_state()
    with pytest.raises(error, match=f"^sample_gumbel: {message}"):
        sample_gumbel(*args, **options)
    assert torch.equal(torch.get_rng_state(), before)


def drawn_index(*shape):
    return torch.randint(shape[-1], (*shape[:-1], 5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(7,), (3, 301), (2, 3, 5, 7), (0, 4)], ids=str)
def test_the_noise_of_some_classes_is_that_of_all(shape, dtype):
    index = drawn_index(*shape)
    keys = [KEY, split(KEY, shape[0])] if len(shape) > 1 and shape[0] else [KEY]
    for key in keys:
        wanted = sample_gumbel(shape, dtype=dtype, key=key).gather(-1, index)
        strided = index.repeat_interleave(2, -1)[..., ::2]
        for given in (index, strided):
            assert_same_bits(gumbel_at(given, shape[-1], key=key, dtype=dtype), wanted)
    assert gumbel_at(index, shape[-1], key=KEY).dtype == torch.float32


def test_the_noise_of_a_million_positions_of_a_vocabulary_is_that_of_all():
    """Of [64, 151936], some of them words that a second one extends, row by row."""
    rows, classes, m = 64, 151_936, 15_625
    index, wanted = torch.randint(classes, (rows, m)), []
    for row in range(rows):
        place = {"full_shape": [rows, classes], "start": [row, 0]}
        of_row = noise(torch.empty(1, classes), KEY, **place)[0]
        index[row, :20] = of_row.topk(20).indices
        wanted.append(of_row[index[row]])
    assert_same_bits(gumbel_at(index, classes, key=KEY), torch.stack(wanted))


def test_a_class_that_is_none_has_no_noise():
    index = torch.tensor([[-1, 0, 3], [4, 2**62, -(2**63)]])
    got = gumbel_at(index, 4, key=KEY)
    assert got.isnan().tolist() == [[True, False, False], [True, True, True]]
    assert_same_bits(got[0, 1:], sample_gumbel((2, 4), key=KEY)[0, [0, 3]])
    assert_same_bits(gumbel_at(torch.tensor(2), 4, key=KEY), sample_gumbel(4, key=KEY)[2])


def test_its_time_does_not_depend_on_the_number_of_classes():
    index = torch.tensor([2**40 - 1])
    got = gumbel_at(index, 2**40, key=KEY)
    shard = {"full_shape": [2**40], "start": [2**40 - 1]}
    assert_same_bits(got, noise(torch.empty(1), KEY, **shard))


def test_the_noise_of_some_classes_under_vmap_and_compiled():
    keys, index = split(KEY, 6), drawn_index(6, 4)
    wanted = sample_gumbel((6, 4), key=keys).gather(-1, index)
    vmapped = torch.func.vmap(lambda i, key: gumbel_at(i, 4, key=key))
    assert_same_bits(vmapped(index, keys), wanted)
    assert_same_bits(vmapped(index[:, 0], keys), wanted[:, 0])
    run = compiled(lambda i, key: gumbel_at(i, 4, key=key))
    assert_same_bits(run(index, keys), wanted)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (TypeError, "index must be .* int64 tensor, got Int", {"index": torch.zeros(2).int()}),
        (ValueError, "num_classes must be > 0, got 0", {"num_classes": 0}),
        (TypeError, "dtype must be float32, .*, got Long", {"dtype": torch.int64}),
        (ValueError, r"key must have shape .*, got \[3\]", {"key": torch.zeros(3).long()}),
        (ValueError, "key must have shape .* got", {"key": split(KEY, 2)}),
    ],
)  # fmt: skip
def test_wrong_arguments_of_the_noise_of_some_classes(error, message, changes):
    given = {"index": torch.zeros(2, dtype=torch.int64), "num_classes": 4, "key": KEY}
    with pytest.raises(error, match=f"^gumbel_at: {message}"):
        gumbel_at(**{**given, **changes})
