# SPDX-License-Identifier: Apache-2.0
"""sample_gumbel and gumbel_like: the noise of the kernels."""

import pytest
import torch
from common import DTYPES, assert_same_bits, compute_type, make_key, noise
from compiling import compiled

from torch_gumbel import gumbel_argmax, gumbel_like, sample_gumbel, split

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
