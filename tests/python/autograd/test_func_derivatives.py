# SPDX-License-Identifier: Apache-2.0
"""torch.func: derivatives, alone and composed with each other and with vmap."""

import pytest
import torch
import torch.nn.functional as F
from common import assert_same_bits, make_key, ops
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.utils._pytree import tree_leaves

from torch_gumbel import gumbel_softmax

KEY = make_key(5)


def call(hard=False, **options):
    return lambda x: gumbel_softmax(x, 0.5, hard, **options)


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


def scalar(x, key, hard):
    weights = torch.arange(x.shape[-1], dtype=x.dtype)
    return (gumbel_softmax(x, 0.5, hard, key=key) * weights).sin().sum()


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(
    "transform",
    [grad, jacrev, jacfwd, hessian, lambda f: grad(lambda *a: grad(f)(*a).square().sum())],
    ids=["grad", "jacrev", "jacfwd", "hessian", "grad of grad"],
)
def test_vmap_of_a_derivative_is_a_loop(transform, hard):
    x, keys = torch.randn(3, 5, dtype=torch.float64), torch.randint(0, 2**60, (3, 2))
    derivative = transform(lambda x, key: scalar(x, key, hard))
    got = vmap(derivative)(x, keys)
    wanted = torch.stack([derivative(*element) for element in zip(x, keys, strict=True)])
    assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(wanted[0], derivative(x[0], keys[1]))  # the noise does matter


@pytest.mark.parametrize("hard", [False, True])
def test_derivatives_of_a_vmap_are_those_of_the_batched_call(hard):
    x, keys = torch.randn(3, 5, dtype=torch.float64), torch.randint(0, 2**60, (3, 2))

    def whole(x):
        return gumbel_softmax(x, 0.5, hard, key=keys)

    def elements(x):
        return vmap(lambda row, key: gumbel_softmax(row, 0.5, hard, key=key))(x, keys)

    assert torch.allclose(jacrev(elements)(x), jacrev(whole)(x), rtol=1e-12)
    assert torch.allclose(jacfwd(elements)(x), jacfwd(whole)(x), rtol=1e-12)


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
@pytest.mark.parametrize("hard", [False, True])
def test_jacobians_in_the_temperature_agree(hard, argnums):
    x, tau = torch.randn(2, 4, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)

    def draw(x, tau):
        return gumbel_softmax(x, tau, hard, key=KEY)

    pairs = zip(
        tree_leaves(jacrev(draw, argnums)(x, tau)),
        tree_leaves(jacfwd(draw, argnums)(x, tau)),
        strict=True,
    )
    for reverse, forward in pairs:
        assert torch.allclose(reverse, forward, rtol=1e-12, atol=1e-15)
        assert (reverse != 0).any()


linearize_warns = pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")


@linearize_warns
@pytest.mark.parametrize("hard", [False, True])
def test_linearize_is_jvp(hard):
    x, tangents = torch.randn(3, 4), torch.randn(2, 3, 4)
    y, linear = linearize(call(hard, key=KEY), x)
    for tangent in tangents:
        wanted = jvp(call(hard, key=KEY), (x,), (tangent,))
        assert_same_bits(y, wanted[0])
        assert_same_bits(linear(tangent), wanted[1])


@linearize_warns
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="linearize calls the function twice, with other noise",
)
def test_linearize_without_a_key():
    assert tangent_of_linearize_is_that_of_its_sample(call())


@linearize_warns
def test_control_linearize_of_every_random_function_is_of_another_sample():
    assert not tangent_of_linearize_is_that_of_its_sample(lambda x: F.gumbel_softmax(x, 0.5))
    assert tangent_of_linearize_is_that_of_its_sample(call(key=KEY))


def tangent_of_linearize_is_that_of_its_sample(function):
    x, tangent = torch.randn(3, 4), torch.randn(3, 4)
    y, linear = linearize(function, x)
    wanted = (y * (tangent - (y * tangent).sum(1, keepdim=True))) / 0.5
    return torch.allclose(linear(tangent), wanted, rtol=1e-4, atol=1e-6)
