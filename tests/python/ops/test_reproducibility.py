# SPDX-License-Identifier: Apache-2.0
"""The same key gives the same bits: threads, layouts, tau forms, calls, instruction sets."""

import pytest
import torch
from common import DTYPES, assert_same_bits, busy_threads, layouts, make_key, run_python

import torch_gumbel

KEY = make_key(5, 3)
LENGTHS = [1, 2, 3, 15, 16, 17, 31, 33, 64, 100, 255, 1000, 4097, 8191, 8192, 8193, 16385]


def everything(x, grad, tau=0.7, dim=-1, key=KEY):
    """Soft, hard, index, and the gradients of soft and hard."""
    results = {"index": torch_gumbel.gumbel_argmax(x, dim, key=key)}
    for hard in (False, True):
        leaf = x.detach().requires_grad_()
        y = torch_gumbel.gumbel_softmax(leaf, tau, hard, dim=dim, key=key)
        (dx,) = torch.autograd.grad(y, leaf, grad)
        results[f"hard={hard}"], results[f"gradient hard={hard}"] = y, dx
    return results


def assert_all_same(got, wanted, what=""):
    for name, value in wanted.items():
        assert_same_bits(got[name], value, f"{what} {name}")


SHAPES = [(300, 999), (20000, 7), (1, 300_000), (3, 30_000), (3, 50_000), (8, 8192), (40, 3000)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_and_two_threads_give_the_same_bits(shape, dtype, two_threads):
    x, grad = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    assert busy_threads(lambda: everything(x, grad)) == 2
    both = everything(x, grad)
    torch.set_num_threads(1)
    assert busy_threads(lambda: everything(x, grad)) == 1
    assert_all_same(both, everything(x, grad))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("part", ["soft", "hard", "index", "backward", "hard backward"])
def test_two_threads_share_every_op(part, dim, two_threads):
    x = torch.randn(400, 1000, requires_grad=True)
    grad = torch.randn_like(x)
    hard = part.startswith("hard")
    y = torch_gumbel.gumbel_softmax(x, 0.7, hard, dim=dim, key=KEY)

    def work():
        if part == "index":
            torch_gumbel.gumbel_argmax(x, dim, key=KEY)
        elif part.endswith("backward"):
            torch.autograd.grad(y, x, grad, retain_graph=True)
        else:
            torch_gumbel.gumbel_softmax(x.detach(), 0.7, hard, dim=dim, key=KEY)

    assert busy_threads(work) == 2


@pytest.mark.parametrize("tau", [0.7, 1])
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts_give_the_same_bits(dtype, dim, tau):
    shape = (3, 17, 6, 35)
    x, grad = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    wanted = everything(x, grad, tau, dim)
    for name, view in layouts(x).items():
        assert_all_same(everything(view, grad, tau, dim), wanted, name)
    for name, view in layouts(grad).items():
        assert_all_same(everything(x, view, tau, dim), wanted, f"grad {name}")


@pytest.mark.parametrize("k", [8193, 20_000])
def test_layouts_of_long_rows_give_the_same_bits(k):
    x, grad = torch.randn(3, k), torch.randn(3, k)
    wanted = everything(x, grad)
    for name, view in layouts(x).items():
        assert_all_same(everything(view, grad), wanted, name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_expanded_logits_and_gradients_are_read_by_their_strides(dtype):
    row, column = torch.randn(1, 100).to(dtype), torch.randn(50, 1).to(dtype)
    for x in (row.expand(50, 100), column.expand(50, 100)):
        grad = torch.randn((), dtype=torch.float32).to(dtype).expand(50, 100)
        assert_all_same(everything(x, grad), everything(x.contiguous(), grad.contiguous()))


@pytest.mark.parametrize("k", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_soft_bits_depend_only_on_the_row(k, dtype):
    """Rows of any batch, and of any position in it, have the bits of a batch of one."""
    x = torch.randn(9, k).to(dtype)
    keys = torch.randint(0, 2**62, (9, 2))
    whole = everything(x, x, key=keys)
    for i in (0, 4, 8):
        alone = everything(x[i], x[i], key=keys[i])
        assert_all_same({n: v[i] for n, v in whole.items()}, alone, f"row {i}")


@pytest.mark.parametrize("k", LENGTHS)
def test_moving_the_class_dimension_moves_the_result(k):
    """With one key per column only the strides differ."""
    x = torch.randn(k, 5)
    keys = torch.randint(0, 2**62, (5, 2))
    rows = everything(x.t(), x.t(), key=keys)
    for i in range(5):
        column = everything(x[:, i : i + 1], x[:, i : i + 1], dim=0, key=keys[i])
        assert_all_same(
            {n: v.reshape(-1) for n, v in column.items()},
            {n: v[i].reshape(-1) for n, v in rows.items()},
        )


def test_repeated_calls_give_the_same_bits(two_threads):
    x, grad = torch.randn(200, 1000), torch.randn(200, 1000)
    wanted = everything(x, grad)
    for _ in range(20):
        assert_all_same(everything(x, grad), wanted)


TAUS = {
    "0-d float64": lambda t: torch.tensor(t, dtype=torch.float64),
    "0-d float32": lambda t: torch.tensor(t, dtype=torch.float32),
    "0-d bfloat16": lambda t: torch.tensor(t, dtype=torch.bfloat16),
    "one value": lambda t: torch.full((1,), t),
    "per row": lambda t: torch.full((40, 1), t),
    "per row, float64": lambda t: torch.full((40, 1), t, dtype=torch.float64),
    "per row, float16": lambda t: torch.full((40, 1), t, dtype=torch.float16),
    "expanded": lambda t: torch.tensor(t).expand(40, 1),
}


@pytest.mark.parametrize("form", TAUS)
@pytest.mark.parametrize("tau", [0.5, 1, 2.5])
def test_the_form_of_tau_does_not_change_a_bit(form, tau):
    """The values are exact in every dtype of tau."""
    x, grad = torch.randn(40, 300), torch.randn(40, 300)
    assert_all_same(everything(x, grad, TAUS[form](float(tau))), everything(x, grad, tau))


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("k", [10, 40, 300, 3000])
def test_a_row_has_the_bits_of_its_temperature_alone(k, dim):
    shape = [24, 1, 25]
    shape[dim] = k
    x, grad = torch.randn(shape), torch.randn(shape)
    rows = [1 if d == dim else size for d, size in enumerate(shape)]
    taus = [0.5, 1.0, 2.0]
    which = torch.randint(3, rows)
    mixed = everything(x, grad, torch.tensor(taus)[which], dim)
    for i, tau in enumerate(taus):
        here = (which == i).expand(shape)
        for name, value in everything(x, grad, tau, dim).items():
            if name != "index":
                assert_same_bits(mixed[name][here], value[here], f"{tau} {name}")


@pytest.mark.parametrize("k", [9001, 300])
def test_soft_bits_depend_on_neither_layout_nor_the_temperatures_of_other_rows(k):
    x = torch.randn(k, 4, 24)
    taus = torch.where(torch.rand(1, 4, 24) < 0.5, 0.5, 1.0)
    y = torch_gumbel.gumbel_softmax(x, taus, dim=0, key=KEY)
    place = {"full_shape": [k, 4, 24], "start": [0, 0, 0]}
    for tau in (0.5, 1.0):
        alone = torch_gumbel.gumbel_softmax(x, tau, dim=0, key=KEY)
        assert_same_bits(y[:, taus[0] == tau], alone[:, taus[0] == tau], f"{tau}")
    transposed = x.movedim(0, -1).contiguous().movedim(-1, 0)
    assert_same_bits(torch_gumbel.gumbel_softmax(transposed, taus, dim=0, key=KEY), y, "transposed")
    one_of_many = torch.ops.torch_gumbel._gumbel_softmax(
        x[:, :1, :1].contiguous(), taus[:, :1, :1].contiguous(), KEY, 0, False, **place
    )
    assert_same_bits(one_of_many, y[:, :1, :1], "a row alone")


def test_an_integer_tensor_tau_is_its_value():
    x = torch.randn(4, 30)
    got = torch_gumbel.gumbel_softmax(x, torch.tensor(2), key=KEY)
    assert_same_bits(got, torch_gumbel.gumbel_softmax(x, 2, key=KEY))


def test_eager_and_operator_calls_give_the_same_bits():
    x = torch.randn(4, 30)
    op = torch.ops.torch_gumbel
    for tau in (0.5, torch.tensor(0.5), torch.full((4, 1), 0.5)):
        got = op.gumbel_softmax(x, tau, True, 1, key=KEY)
        assert_same_bits(got, torch_gumbel.gumbel_softmax(x, tau, True, dim=1, key=KEY))
    got = op.gumbel_argmax(x, 1, temperature=0.5, key=KEY)
    assert_same_bits(got, torch_gumbel.gumbel_argmax(x, 1, temperature=0.5, key=KEY))


DIGEST = """
import hashlib, torch, torch_gumbel
ops = torch.ops.torch_gumbel
digest = hashlib.sha256()
def add(*tensors):
    for t in tensors:
        digest.update(t.contiguous().view(torch.uint8).numpy().tobytes())
torch.manual_seed(0)
for k in (1, 5, 16, 33, 128, 1000, 8193):
    rows = 20000 // k + 3
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        x, key = (3 * torch.randn(rows, k)).to(dtype), torch_gumbel.key(k)
        for dim in (0, 1):
            add(torch_gumbel.gumbel_softmax(x, 0.3, True, dim=dim, key=key))
            add(torch_gumbel.gumbel_argmax(x, dim, temperature=0.6, key=key))
        add(ops._gumbel_noise(x, key), *ops._gumbel_max(x, torch.tensor(1.), key, 1, False))
print(torch_gumbel.build_info()["cpu_selected"], digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_noise_and_choices():
    builds = torch_gumbel.build_info()["cpu_builds"].split()
    assert "generic" in builds
    digests = {}
    for build in builds:
        done = run_python(DIGEST, TORCH_GUMBEL_CPU=build)
        assert done.returncode == 0, done.stderr[-2000:]
        selected, digests[build] = done.stdout.split()
        assert selected == build
    assert len(set(digests.values())) == 1, digests
