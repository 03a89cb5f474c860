# SPDX-License-Identifier: Apache-2.0
"""straight_through_lookup: a gather with the gradients of one_hot @ codebook."""

import pytest
import torch
from common import DTYPES, assert_same_bits, make_key, run_python, tau_of
from compiling import compiled, counted
from test_registration import opcheck

from torch_gumbel import (
    gumbel_argmax,
    gumbel_softmax,
    sample_gumbel,
    split,
    straight_through_lookup,
)

KEY = make_key(5)
NAN, INF = torch.nan, torch.inf
TAUS = {"number": 0.7, "scalar": torch.tensor(0.7), "rows": torch.tensor([[0.5], [1.0], [2.0]])}


def product(logits, codebook, tau=1.0, hard=True, key=KEY):
    """The definition, by a matrix product."""
    return gumbel_softmax(logits, tau, hard, key=key).to(codebook.dtype) @ codebook


def some(rows=3, k=7, d=4, dtype=torch.float64):
    return torch.randn(rows, k).to(dtype), torch.randn(k, d).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("codes_dtype", DTYPES, ids=str)
def test_a_hard_lookup_is_the_code_of_the_drawn_class(dtype, codes_dtype):
    logits, codebook = torch.randn(5, 6, 40).to(dtype), torch.randn(40, 4).to(codes_dtype)
    got, index = straight_through_lookup(logits, codebook, 0.5, key=KEY, return_index=True)
    assert got.dtype == codes_dtype and got.shape == (5, 6, 4)
    assert torch.equal(index, gumbel_argmax(logits, key=KEY))
    assert_same_bits(got, codebook[index])
    assert_same_bits(straight_through_lookup(logits, codebook, 0.5, key=KEY), got)


@pytest.mark.parametrize("form", TAUS)
def test_a_soft_lookup_is_the_mean_of_codes(form):
    logits, codebook = some()
    got, index = straight_through_lookup(
        logits, codebook, TAUS[form], False, key=KEY, return_index=True
    )
    torch.testing.assert_close(got, product(logits, codebook, TAUS[form], False))
    assert torch.equal(index, gumbel_argmax(logits, key=KEY))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("form", TAUS)
@pytest.mark.parametrize("flat", [False, True])
def test_gradients_are_those_of_the_product(flat, form, hard):
    logits, codebook = some()
    codebook = codebook[:, 0].clone() if flat else codebook
    tau = TAUS[form]
    leaves = [logits.requires_grad_(), codebook.requires_grad_()]
    if form != "number":
        tau = tau.double().clone().requires_grad_()
        leaves.append(tau)
    wanted = product(logits, codebook, tau, hard)
    got = straight_through_lookup(logits, codebook, tau, hard, key=KEY)
    torch.testing.assert_close(got, wanted)
    weights = torch.randn_like(wanted)
    first = [torch.autograd.grad(y, leaves, weights, create_graph=True) for y in (got, wanted)]
    for ours, theirs in zip(*first, strict=True):
        torch.testing.assert_close(ours, theirs)
    second = [
        torch.autograd.grad(sum((g**2).sum() for g in grads), leaves, allow_unused=True)
        for grads in first
    ]
    for ours, theirs in zip(*second, strict=True):
        torch.testing.assert_close(
            torch.zeros(()) if ours is None else ours, torch.zeros(()) if theirs is None else theirs
        )


def test_soft_derivatives_pass_gradcheck():
    logits, codebook = (t.requires_grad_() for t in some())
    tau = TAUS["rows"].double().requires_grad_()

    def soft(logits, codebook, tau):
        return straight_through_lookup(logits, codebook, tau, False, key=KEY)

    torch.autograd.gradcheck(soft, (logits, codebook, tau), check_forward_ad=True)


@pytest.mark.parametrize("form", TAUS)
def test_tangents_are_those_of_the_product(form):
    logits, codebook = some()
    tau = TAUS[form].double() if form != "number" else torch.tensor(0.7).double()
    primals = (logits, codebook, tau)
    tangents = tuple(torch.randn_like(p) for p in primals)
    got = torch.func.jvp(lambda *p: straight_through_lookup(*p, key=KEY), primals, tangents)
    wanted = torch.func.jvp(product, primals, tangents)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_is_differentiated_by_torch_func_and_vmapped():
    logits, codebook = some(12)
    batch, keys = logits.view(4, 3, 7), split(KEY, 4)

    def loss(look):
        return lambda x, c, key: (look(x, c, 0.7, key=key) ** 2).sum()

    both = [
        torch.func.vmap(torch.func.grad(loss(f), (0, 1)), (0, None, 0))(batch, codebook, keys)
        for f in (straight_through_lookup, product)
    ]
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs)
    books = torch.randn(4, 7, 2).double()
    got, index = torch.func.vmap(
        lambda x, c, key: straight_through_lookup(x, c, key=key, return_index=True)
    )(batch, books, keys)
    for i in range(4):
        element = straight_through_lookup(batch[i], books[i], key=keys[i], return_index=True)
        assert torch.equal(got[i], element[0]) and torch.equal(index[i], element[1])


def test_vmap_draws_by_its_rule_of_randomness():
    x, codebook = torch.zeros(64, 50), torch.arange(50.0)
    draw = {
        how: torch.func.vmap(lambda x: straight_through_lookup(x, codebook), randomness=how)(x)
        for how in ("same", "different")
    }
    assert (draw["same"] == draw["same"][0]).all() and len(draw["different"].unique()) > 20


@pytest.mark.parametrize("hard", [False, True])
def test_compiled_it_equals_eager_and_an_annealed_tau_does_not_recompile(hard):
    def draw(x, c, tau):
        return straight_through_lookup(x, c, tau, hard, key=KEY)

    def step(function, x, c, tau):
        y = function(x, c, tau)
        return (y, *torch.autograd.grad((y**2).sum(), (x, c)))

    run, counter = counted(draw)
    x, c = (t.float().requires_grad_() for t in some(30, 40))
    for tau in (1.0, 0.9, 0.5, 0.3):
        for got, wanted in zip(step(run, x, c, tau), step(draw, x, c, tau), strict=True):
            torch.testing.assert_close(got, wanted)
    assert counter.frame_count <= 2
    fresh = compiled(lambda x, c: straight_through_lookup(x, c))
    assert not torch.equal(fresh(x, c), fresh(x, c))


def test_ops_pass_opcheck():
    x, c = (t.float().requires_grad_() for t in some())
    ops = torch.ops.torch_gumbel
    rows = TAUS["rows"].clone().requires_grad_()
    opcheck(ops._straight_through_lookup.default, (x, c, rows, KEY))
    opcheck(ops._straight_through_lookup.default, (x.detach(), c.detach(), tau_of(0.7), KEY))
    for hard in (False, True):
        opcheck(ops.straight_through_lookup.default, (x, c, 0.7, hard), {"key": KEY})
        opcheck(ops.straight_through_lookup.tensor_tau, (x, c, rows, hard), {"key": KEY})


@pytest.mark.parametrize("hard", [False, True])
def test_rows_without_a_distribution_give_nan_and_index_0(hard):
    x, codebook = torch.randn(6, 9), torch.randn(9, 3)
    x[0, 8], x[1, 8], x[2] = NAN, INF, -INF
    tau = torch.ones(6, 1)
    tau[3] = -1
    got, index = straight_through_lookup(x, codebook, tau, hard, key=KEY, return_index=True)
    assert got[:4].isnan().all() and got[4:].isfinite().all()
    assert index[:3].eq(0).all() and torch.equal(index[4:], gumbel_argmax(x, key=KEY)[4:])


def test_rows_without_a_distribution_do_not_change_the_gradient_of_the_codebook():
    x, codebook = torch.randn(4, 9), torch.randn(9, 3, requires_grad=True)
    x[0] = NAN
    y, index = straight_through_lookup(x, codebook, key=KEY, return_index=True)
    (grad,) = torch.autograd.grad(y, codebook, torch.ones_like(y))
    wanted = torch.zeros(9, 3).index_add(0, index[1:], torch.ones(3, 3))
    assert torch.equal(grad, wanted)


def test_masked_codes_are_never_looked_up_and_have_no_gradient():
    x = torch.zeros(500, 6)
    x[:, 1::2] = -INF
    x.requires_grad_()
    codebook = torch.randn(6, 2, requires_grad=True)
    y, index = straight_through_lookup(x, codebook, key=KEY, return_index=True)
    assert (index % 2 == 0).all() and len(index.unique()) == 3
    at_x, at_codes = torch.autograd.grad((y**2).sum(), (x, codebook))
    assert (at_x[:, 1::2] == 0).all() and (at_codes[1::2] == 0).all()
    assert at_x.isfinite().all() and (at_codes[::2] != 0).all()


@pytest.mark.parametrize("codes", [torch.arange(9.0), torch.arange(9.0)[:, None]], ids=["1d", "2d"])
def test_numbers_as_codes_are_the_straight_through_index(codes):
    x = torch.randn(50, 9, requires_grad=True)
    value, index = straight_through_lookup(x, codes, 0.5, key=KEY, return_index=True)
    assert value.shape == (50, *codes.shape[1:])
    assert torch.equal(value.flatten(), index.float())
    (grad,) = torch.autograd.grad(value.sum(), x)
    y = gumbel_softmax(x.detach(), 0.5, key=KEY)
    k = torch.arange(9.0)
    torch.testing.assert_close(grad, y * (k - (y * k).sum(-1, keepdim=True)) / 0.5)


Y = torch.tensor([0.1339, 0.1746, 0.6375, 0.0120, 0.0408])
PUBLISHED = torch.tensor([0.1158, -0.0234, -0.0854, -0.0016, -0.0055])


def test_the_recipe_of_one_soft_coordinate_has_the_published_gradient():
    """k + y[..., 0] - y[..., 0].detach(), k and y of one key."""
    logits = (Y.log() - sample_gumbel(5, key=KEY)).requires_grad_()
    y = gumbel_softmax(logits, key=KEY)
    k = gumbel_argmax(logits, key=KEY)
    torch.testing.assert_close(y, Y / Y.sum(), rtol=1e-5, atol=1e-6)
    value = k + y[..., 0] - y[..., 0].detach()
    assert value == 2
    (grad,) = torch.autograd.grad(value, logits, retain_graph=True)
    assert (grad - PUBLISHED).abs().max() < 5e-4
    (of_square,) = torch.autograd.grad(value**2, logits)
    assert (of_square - 4 * PUBLISHED).abs().max() < 2e-3


def test_the_straight_through_index_has_the_gradient_of_the_full_soft_sample():
    logits = (Y.log() - sample_gumbel(5, key=KEY)).requires_grad_()
    k = torch.arange(5.0)
    value = straight_through_lookup(logits, k, key=KEY)
    assert value == 2
    y = Y / Y.sum()
    (grad,) = torch.autograd.grad(value**2, logits)
    torch.testing.assert_close(grad, 4 * y * (k - (y * k).sum()), rtol=1e-4, atol=1e-5)


def test_a_scalar_is_a_row_of_one_class():
    logit = torch.tensor(0.3, requires_grad=True)
    y = straight_through_lookup(logit, torch.tensor([[1.0, 2.0]]))
    assert y.tolist() == [1, 2]
    assert torch.autograd.grad(y.sum(), logit)[0] == 0
    assert straight_through_lookup(logit, torch.tensor([4.0])) == 4


ZERO, ONE = torch.zeros(3), torch.ones(3)
WRONG = [
    (TypeError, "codebook must be float32, .* got Long", (ZERO, torch.arange(3))),
    (ValueError, r"codebook must have 3 rows .* got shape \[4, 2\]", (ZERO, torch.ones(4, 2))),
    (ValueError, r"codebook must have shape \[K, D\] or \[K\]", (ZERO, torch.ones(3, 2, 1))),
    (ValueError, "codebook must be on cpu, got meta", (ZERO, ONE.to("meta"))),
]


@pytest.mark.parametrize(("error", "message", "args"), WRONG, ids=lambda v: str(v)[:40])
def test_wrong_arguments_are_refused_and_nothing_is_drawn(error, message, args):
    before = torch.get_rng_state()
    with pytest.raises(error, match=f"^straight_through_lookup: {message}"):
        straight_through_lookup(*args)
    assert torch.equal(torch.get_rng_state(), before)


PEAK = """
import torch
from torch_gumbel import key, straight_through_lookup
torch.set_num_threads(1)
x, codebook = torch.zeros(1024, 8192).fill_(0.5).requires_grad_(), torch.randn(8192, 64)
straight_through_lookup(x[:8], codebook, key=key(1))

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

before = resident("VmRSS")
drawn = straight_through_lookup(x, codebook, key=key(1))
print(resident("VmHWM") - before)
"""


def test_nothing_of_the_size_of_the_logits_is_made_forward():
    """32 MB of logits; 256 KB of codes."""
    done = run_python(PEAK)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 3 << 20
