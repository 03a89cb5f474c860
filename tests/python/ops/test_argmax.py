# SPDX-License-Identifier: Apache-2.0
"""gumbel_argmax: several draws, temperatures per row, and greedy at 0."""

import pytest
import torch
from common import DTYPES, layouts, make_key, ops, run_python
from compiling import compiled, counted

from torch_gumbel import gumbel_argmax, split

KEY = make_key(5)
NAN, INF = torch.nan, torch.inf

# Every path of the kernels: small rows, whole rows, pruned, in tiles, and spatial.
SHAPES = [
    ((5, 7), 1),
    ((40, 33), 1),
    ((6, 100), -1),
    ((3, 9000), 1),
    ((50, 20), 0),
    ((3, 40, 33), 1),
    ((2, 600, 40), 1),
    ((2, 9000, 20), 1),
    ((4, 5, 3), 1),
]


def first_maximum(x, dim):
    return (x == x.amax(dim, keepdim=True)).int().argmax(dim)


def tied(shape, dtype):
    """Logits with many ties."""
    return torch.randint(0, 4, shape).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_temperature_zero_is_the_first_largest_logit(shape, dim, dtype):
    x = tied(shape, dtype)
    for view in layouts(x).values():
        for zero in (0, 0.0, torch.tensor(0.0), torch.zeros(1)):
            got = gumbel_argmax(view, dim, temperature=zero, key=KEY)
            assert torch.equal(got, first_maximum(x, dim))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_a_row_draws_by_its_own_temperature(shape, dim, dtype):
    x = torch.randn(shape).to(dtype)
    rows = list(shape)
    rows[dim] = 1
    which = torch.randint(0, 3, rows)
    values = (0.0, 0.5, 1.0)
    got = gumbel_argmax(x, dim, temperature=torch.tensor(values)[which], key=KEY)
    each = [gumbel_argmax(x, dim, keepdim=True, temperature=t, key=KEY) for t in values]
    wanted = torch.stack(each).gather(0, which[None])[0].squeeze(dim)
    assert torch.equal(got, wanted)
    assert torch.equal(each[0].squeeze(dim), first_maximum(x, dim))


@pytest.mark.parametrize("zero", [0, torch.zeros(6, 1)], ids=["number", "tensor"])
@pytest.mark.parametrize("k", [3, 40, 700, 9000])
def test_rows_without_a_distribution_are_0_at_temperature_zero(k, zero):
    x = torch.randn(6, k)
    x[0, -1], x[1, -1], x[2] = NAN, INF, -INF
    x[3, 0], x[4, :-1], x[5, 1] = -INF, -INF, 1e30
    got = gumbel_argmax(x, temperature=zero, key=KEY)
    assert got[:3].tolist() == [0, 0, 0]
    assert torch.equal(got[3:], x[3:].argmax(-1))


@pytest.mark.parametrize("bad", [-1.0, NAN, INF])
def test_a_bad_entry_leaves_its_rows_without_a_distribution(bad):
    x, temperature = torch.randn(4, 50), torch.ones(4, 1)
    x[:, 0] = -INF
    temperature[1] = bad
    got = gumbel_argmax(x, temperature=temperature, key=KEY)
    wanted = gumbel_argmax(x, key=KEY)
    wanted[1] = 0
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.float64], ids=str)
def test_a_temperature_of_any_real_dtype_is_taken(dtype):
    x, rows = torch.randn(3, 50), torch.tensor([[1], [2], [0]])
    got = gumbel_argmax(x, temperature=rows.to(dtype), key=KEY)
    each = [gumbel_argmax(x, temperature=t, key=KEY)[i] for i, t in enumerate((1, 2, 0))]
    assert torch.equal(got, torch.stack(each))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_samples_have_the_words_of_their_position(shape, dim, dtype):
    x = torch.randn(shape).to(dtype)
    dim = dim % len(shape)
    repeated = x.expand(3, *shape).contiguous()
    for keepdim in (False, True):
        got = gumbel_argmax(x, dim, keepdim, num_samples=3, temperature=0.7, key=KEY)
        wanted = gumbel_argmax(repeated, dim + 1, keepdim, temperature=0.7, key=KEY)
        assert got.is_contiguous() and torch.equal(got, wanted)


def test_one_sample_is_the_draw_of_the_same_key():
    x = torch.randn(7, 100)
    assert torch.equal(gumbel_argmax(x, num_samples=1, key=KEY)[0], gumbel_argmax(x, key=KEY))


@pytest.mark.parametrize("batch", [1, 2])
def test_with_batched_keys_each_slice_draws_independently(batch):
    x = torch.randn(4, 5, 6, 7)
    keys = torch.randint(0, 2**60, (*x.shape[:batch], 2))
    temperature = torch.rand(4, 5, 6, 1) + 0.5
    got = gumbel_argmax(x, num_samples=3, temperature=temperature, key=keys)
    flat, of_key, rows = (t.reshape(-1, *t.shape[batch:]) for t in (x, keys, temperature))
    each = [
        gumbel_argmax(flat[i], num_samples=3, temperature=rows[i], key=of_key[i])
        for i in range(len(flat))
    ]
    wanted = torch.stack(each, 1).reshape(got.shape)
    assert got.is_contiguous() and torch.equal(got, wanted)


def test_in_vmap_a_batch_element_draws_independently():
    x, keys = torch.randn(4, 5, 6), split(KEY, 4)
    temperature = torch.rand(4, 5, 1)

    def draw(x, temperature, key):
        return gumbel_argmax(x, num_samples=3, temperature=temperature, key=key)

    got = torch.func.vmap(draw)(x, temperature, keys)
    assert torch.equal(
        got, torch.stack([draw(*element) for element in zip(x, temperature, keys, strict=True)])
    )


def test_a_scalar_has_one_class():
    x = torch.tensor(0.3)
    assert gumbel_argmax(x, num_samples=3).tolist() == [0, 0, 0]
    assert gumbel_argmax(x, keepdim=True, num_samples=3).shape == (3,)
    assert gumbel_argmax(x, temperature=torch.tensor(0.0)) == 0


@pytest.mark.parametrize("value", [0, -1, -(2**40)])
def test_num_samples_must_be_positive(value):
    before = torch.get_rng_state()
    message = rf"^gumbel_argmax: num_samples must be > 0, got {value}$"
    with pytest.raises(ValueError, match=message):
        gumbel_argmax(torch.zeros(3, 4), num_samples=value)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("value", [1.5, "2", True, torch.tensor([2])], ids=repr)
def test_num_samples_must_be_an_integer(value):
    with pytest.raises(TypeError, match=r"^gumbel_argmax: num_samples must be an integer, got"):
        gumbel_argmax(torch.zeros(3, 4), num_samples=value)


def test_a_temperature_annealed_to_zero_does_not_recompile():
    def draw(x, temperature):
        return gumbel_argmax(x, num_samples=2, temperature=temperature, key=KEY)

    run, counter = counted(draw)
    x = torch.randn(30, 40)
    for temperature in (1.0, 0.9, 0.5, 0.1, 1e-3, 0.0):
        assert torch.equal(run(x, temperature), draw(x, temperature))
    # A zero is another graph: Dynamo specializes on 0.0 and 1.0.
    assert counter.frame_count <= 3


def test_compiled_with_temperatures_per_row_it_equals_eager():
    x, rows = torch.randn(5, 6), torch.rand(5, 1)
    rows[2] = 0
    run = compiled(lambda x, t: gumbel_argmax(x, num_samples=4, temperature=t, key=KEY))
    assert torch.equal(run(x, rows), gumbel_argmax(x, num_samples=4, temperature=rows, key=KEY))


def test_meta_tensors_have_the_shapes_of_real_ones():
    x = torch.randn(3, 4, 5)
    real = gumbel_argmax(x, 1, num_samples=6, key=KEY)
    meta = gumbel_argmax(x.to("meta"), 1, num_samples=6, key=KEY)
    assert (real.shape, real.stride(), real.dtype) == (meta.shape, meta.stride(), meta.dtype)


PEAK = """
import torch
from torch_gumbel import gumbel_argmax, key
torch.set_num_threads(1)
x = torch.zeros(16, 32000)
gumbel_argmax(x, num_samples=2, key=key(1))

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

before = resident("VmRSS")
drawn = gumbel_argmax(x, num_samples=64, key=key(1))
print(resident("VmHWM") - before, drawn.numel())
"""


def test_samples_take_no_memory_of_the_size_of_the_logits():
    """64 samples of 2 MB of logits; their indices are 8 KB."""
    done = run_python(PEAK)
    assert done.returncode == 0, done.stderr[-2000:]
    peak, numel = map(int, done.stdout.split())
    assert numel == 64 * 16 and peak < 1 << 20, peak


def test_private_argmax_at_temperature_zero_returns_the_logit():
    """The op whose results ranks compare if classes are sharded."""
    x = torch.randn(3, 50)
    value, index = ops._gumbel_max(x, torch.zeros((), dtype=torch.float64), KEY, 1, False)
    assert torch.equal(value, x.amax(1)) and torch.equal(index, x.argmax(1))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("classes", [1, 5, 33, 1000, 9000])
def test_the_index_equals_that_of_the_pair(classes, keepdim):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for inner in (1, 6, 20):  # contiguous, strided, and spatial
            x = torch.randn(4, classes, inner, dtype=dtype)
            x[0], x[1, :, 0] = -torch.inf, torch.nan
            for tau in (torch.tensor(0.7), torch.rand(4, 1, inner)):
                index = ops._gumbel_argmax(x, tau, KEY, 1, keepdim)
                assert torch.equal(index, ops._gumbel_max(x, tau, KEY, 1, keepdim)[1])
