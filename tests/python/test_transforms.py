# SPDX-License-Identifier: Apache-2.0
"""torch.func: vmap with its randomness rules, batched keys, and derivatives composed."""

import pytest
import torch
from common import DTYPES, assert_same_bits, make_key, ops
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils._pytree import tree_leaves

from torch_gumbel import fold_in, gumbel_argmax, gumbel_softmax, new_key, split

KEY = make_key(5)


def call(hard=False, **options):
    return lambda x: gumbel_softmax(x, 0.5, hard, **options)


@pytest.mark.parametrize("draw", [gumbel_softmax, gumbel_argmax])
def test_vmap_refuses_a_keyless_call_in_error_mode(draw):
    x, before = torch.randn(3, 4), torch.get_rng_state()
    with pytest.raises(RuntimeError, match=r"vmap: torch_gumbel was called without a key"):
        vmap(draw)(x)
    assert torch.equal(torch.get_rng_state(), before)


def test_vmap_same_gives_each_lane_one_noise():
    y = vmap(call(True), randomness="same")(torch.zeros(50, 8))
    assert (y == y[0]).all()


def test_vmap_different_gives_each_lane_its_own_noise():
    y = vmap(call(), randomness="different")(torch.zeros(50, 8))
    assert len({tuple(row) for row in y.tolist()}) == 50


def test_vmap_different_splits_one_key_of_the_generator():
    x = torch.randn(6, 3, 4)
    torch.manual_seed(1)
    y = vmap(call(), randomness="different")(x)
    torch.manual_seed(1)
    assert_same_bits(y, gumbel_softmax(x, 0.5, key=split(new_key(), 6)))


def test_vmap_same_draws_one_key_of_the_generator():
    x = torch.randn(6, 3, 4)
    torch.manual_seed(1)
    y = vmap(call(), randomness="same")(x)
    torch.manual_seed(1)
    key = new_key()
    assert_same_bits(y, torch.stack([gumbel_softmax(lane, 0.5, key=key) for lane in x]))


def test_nested_vmap_different_gives_every_lane_its_own_noise():
    y = vmap(vmap(call(), randomness="different"), randomness="different")(torch.zeros(5, 6, 8))
    assert len({tuple(row) for row in y.reshape(30, 8).tolist()}) == 30


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("in_dim", [0, 1, -1])
def test_vmap_over_logits_is_a_loop(in_dim, hard, dtype):
    x = torch.randn(5, 5, 5).to(dtype)
    got = vmap(call(hard, key=KEY), in_dims=in_dim)(x)
    wanted = [gumbel_softmax(lane, 0.5, hard, key=KEY) for lane in x.unbind(in_dim)]
    assert_same_bits(got, torch.stack(wanted))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("batch", [(3,), (3, 4)])
def test_batched_keys_are_a_loop_over_slices(batch, hard):
    keys = torch.randint(0, 2**60, (*batch, 2))
    x = torch.randn(*batch, 2, 7)
    got = gumbel_softmax(x, 0.5, hard, key=keys)
    padded = gumbel_softmax(x, 0.5, hard, key=keys.view(*batch, 1, 1, 2))
    flat = zip(x.reshape(-1, 2, 7), keys.reshape(-1, 2), strict=True)
    wanted = torch.stack([gumbel_softmax(lane, 0.5, hard, key=key) for lane, key in flat])
    assert_same_bits(got, wanted.view(x.shape))
    assert_same_bits(padded, got)


def test_vmap_over_keys_is_the_batched_key():
    keys, x = torch.randint(0, 2**60, (3, 2)), torch.randn(3, 4, 7)
    got = vmap(lambda x, key: gumbel_softmax(x, 0.5, key=key))(x, keys)
    assert_same_bits(got, gumbel_softmax(x, 0.5, key=keys))
    index = vmap(lambda x, key: gumbel_argmax(x, key=key))(x, keys)
    assert torch.equal(index, gumbel_argmax(x, key=keys))


def test_vmap_over_the_key_alone_repeats_the_logits():
    keys, x = torch.randint(0, 2**60, (9, 2)), torch.randn(4, 7)
    got = vmap(lambda key: gumbel_softmax(x, 0.5, True, key=key))(keys)
    assert_same_bits(got, gumbel_softmax(x.expand(9, 4, 7), 0.5, True, key=keys))


def test_nested_vmap_over_keys_and_logits_is_a_loop():
    keys, x = torch.randint(0, 2**60, (3, 2)), torch.randn(4, 7)
    got = vmap(lambda key: vmap(lambda row: gumbel_softmax(row, 0.5, key=key))(x))(keys)
    wanted = [[gumbel_softmax(row, 0.5, key=key) for row in x] for key in keys]
    assert_same_bits(got, torch.stack([torch.stack(rows) for rows in wanted]))


@pytest.mark.parametrize("lane", [(), (1,), (4, 1)], ids=str)
@pytest.mark.parametrize("hard", [False, True])
def test_vmap_over_tau_is_a_loop(hard, lane):
    x, taus = torch.randn(4, 7), torch.rand(3, *lane) + 0.3

    def run(tau):
        return gumbel_softmax(x, tau, hard, key=KEY)

    assert_same_bits(vmap(run)(taus), torch.stack([run(tau) for tau in taus]))
    both = vmap(lambda x, tau: gumbel_softmax(x, tau, hard, key=KEY), in_dims=(None, 0))(x, taus)
    assert_same_bits(both, vmap(run)(taus))


def test_vmap_over_logits_and_tau_is_a_loop():
    x, taus = torch.randn(3, 2, 4, 7), torch.rand(3, 4, 1) + 0.3
    got = vmap(lambda x, tau: gumbel_softmax(x, tau, key=KEY))(x, taus)
    wanted = [gumbel_softmax(lane, tau, key=KEY) for lane, tau in zip(x, taus, strict=True)]
    assert_same_bits(got, torch.stack(wanted))


def test_vmap_over_scalars_gives_ones():
    for hard in (False, True):
        assert vmap(call(hard, key=KEY))(torch.randn(5)).tolist() == [1] * 5
    assert vmap(lambda x: gumbel_argmax(x, key=KEY))(torch.randn(5)).tolist() == [0] * 5


def test_vmap_reaches_every_private_op():
    x, keys, t = torch.randn(3, 4, 7), torch.randint(0, 2**60, (3, 2)), torch.tensor(0.7)
    functions = [
        lambda x, k: ops._gumbel_noise(x, k),
        lambda x, k: ops._gumbel_softmax_lse(x, t, k, 1),
        lambda x, k: ops._gumbel_argmax(x, t, k, 0, False),
        lambda x, k: ops._gumbel_argmax(x, t, k, 1, True),
        lambda x, k: ops._gumbel_softmax_backward(x, x.softmax(1), t, 1, tau_grad=True),
        lambda x, k: ops._gumbel_softmax_hard_backward(x, x, t, k, 1, tau_grad=True),
        lambda x, k: (split(k, 5), fold_in(k, 3)),
    ]
    for function in functions:
        got = tree_leaves(vmap(function)(x, keys))
        lanes = [tree_leaves(function(*lane)) for lane in zip(x, keys, strict=True)]
        for value, parts in zip(got, zip(*lanes, strict=True), strict=True):
            assert_same_bits(value, torch.stack(parts))


def test_vmap_over_the_data_of_fold_in_is_a_loop():
    data = torch.arange(4)
    got = vmap(lambda d: fold_in(KEY, d))(data)
    assert torch.equal(got, torch.stack([fold_in(KEY, int(d)) for d in data]))


@pytest.mark.parametrize("hard", [False, True])
def test_func_grad_and_vjp_are_autograd(hard):
    x, w = torch.randn(4, 7), torch.randn(4, 7)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(gumbel_softmax(leaf, 0.5, hard, key=KEY), leaf, w)
    assert_same_bits(grad(lambda x: (call(hard, key=KEY)(x) * w).sum())(x), wanted)
    assert_same_bits(vjp(call(hard, key=KEY), x)[1](w)[0], wanted)


@pytest.mark.parametrize("hard", [False, True])
def test_jacobians_agree_and_are_those_of_the_softmax(hard):
    x = torch.randn(6, dtype=torch.float64)
    function, y = call(hard, key=KEY), gumbel_softmax(x, 0.5, key=KEY)
    wanted = (torch.diag(y) - torch.outer(y, y)) / 0.5
    tangent = torch.randn(6, dtype=torch.float64)
    for jacobian in (jacrev(function)(x), jacfwd(function)(x)):
        assert torch.allclose(jacobian, wanted, rtol=1e-12, atol=1e-15)
    assert torch.allclose(jvp(function, (x,), (tangent,))[1], wanted @ tangent, rtol=1e-12)


@pytest.mark.parametrize("hard", [False, True])
def test_hessians_of_every_order_of_modes_agree(hard):
    x = torch.randn(5, dtype=torch.float64)
    w = torch.randn(5, dtype=torch.float64)

    def loss(x):
        return (gumbel_softmax(x, 0.5, hard, key=KEY) * w).sum()

    noise = ops._gumbel_noise(x, KEY)
    wanted = hessian(lambda x: (((x + noise) / 0.5).softmax(-1) * w).sum())(x)
    for outer, inner in [(jacfwd, jacrev), (jacrev, jacrev), (jacrev, jacfwd), (jacfwd, jacfwd)]:
        got = outer(inner(loss))(x)
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-12), (outer, inner)


def test_per_sample_gradients_are_a_loop():
    x, w, keys = torch.randn(5, 3, 4), torch.randn(3, 4), torch.randint(0, 2**60, (5, 2))

    def loss(x, key, tau):
        return (gumbel_softmax(x, tau, key=key) * w).sum()

    taus = torch.rand(5) + 0.5
    got = vmap(grad(loss, argnums=(0, 2)))(x, keys, taus)
    lanes = [grad(loss, argnums=(0, 2))(*lane) for lane in zip(x, keys, taus, strict=True)]
    assert_same_bits(got[0], torch.stack([a for a, _ in lanes]))
    assert torch.allclose(got[1], torch.stack([b for _, b in lanes]), rtol=1e-5)


def test_vmap_in_chunks_with_a_key_is_the_whole():
    x, keys = torch.randn(7, 4), torch.randint(0, 2**60, (7, 2))
    run = vmap(lambda x, key: gumbel_softmax(x, key=key), chunk_size=2)
    assert_same_bits(run(x, keys), gumbel_softmax(x, key=keys))
