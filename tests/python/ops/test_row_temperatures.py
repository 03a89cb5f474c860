# SPDX-License-Identifier: Apache-2.0
"""Temperatures per row may have the shape of the rows, that of logits without the classes."""

import pytest
import torch
from common import assert_same_bits, make_key
from torch.func import grad, jvp, vmap

import torch_gumbel as tg

KEY = make_key(5)
MAKE = torch.Generator().manual_seed(1)
SHAPES = [((6, 5), -1), ((6, 5), 0), ((5, 5), 0), ((5, 5), 1), ((2, 5, 3, 4), 1), ((3, 1, 5), -1)]


def some(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=MAKE, dtype=dtype)


def case(shape, dim):
    """Logits, and temperatures of the rows' shape."""
    x = some(*shape)
    return x, some(*x.sum(dim).shape).abs() + 0.2


CALLS = {
    "soft": lambda x, t, dim: tg.gumbel_softmax(x, t, dim=dim, key=KEY),
    "hard": lambda x, t, dim: tg.gumbel_softmax(x, t, True, dim=dim, key=KEY),
    "recompute": lambda x, t, dim: tg.gumbel_softmax(x, t, True, dim=dim, recompute=True, key=KEY),
    "topk": lambda x, t, dim: tg.gumbel_topk(x, 2, dim, temperature=t, key=KEY)[0],
    "probabilities": lambda x, t, dim: tg.sample_categorical(x.exp(), t, dim=dim, key=KEY),
}
INDICES = {
    "index": lambda x, t, dim: tg.gumbel_argmax(x, dim, temperature=t, key=KEY),
    "indices": lambda x, t, dim: tg.gumbel_argmax(x, dim, num_samples=3, temperature=t, key=KEY),
}


@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
@pytest.mark.parametrize("name", [*CALLS, *INDICES])
def test_it_is_that_of_the_shape_with_size_1_at_dim(name, shape, dim):
    x, t = case(shape, dim)
    call = {**CALLS, **INDICES}[name]
    assert_same_bits(call(x, t, dim), call(x, t.unsqueeze(dim), dim))


@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_its_gradient_has_its_shape(name, shape, dim):
    x, t = case(shape, dim)
    weights = some(*CALLS[name](x, t, dim).shape)
    for wide in (False, True):
        leaf = (t.unsqueeze(dim) if wide else t).clone().requires_grad_()
        (CALLS[name](x, leaf, dim) * weights).sum().backward()
        assert leaf.grad.shape == leaf.shape
        if not wide:
            narrow = leaf.grad
    assert narrow.abs().sum() > 0
    assert_same_bits(narrow, leaf.grad.squeeze(dim))


def test_a_lookup_takes_it():
    x, codes, t = some(2, 3, 5), some(5, 4), some(2, 3).abs() + 0.2
    for hard in (True, False):
        leaf, wide = t.clone().requires_grad_(), t.unsqueeze(-1).requires_grad_()
        got, wanted = (
            tg.straight_through_lookup(x, codes, each, hard, key=KEY, return_index=True)
            for each in (leaf, wide)
        )
        assert_same_bits(got[0], wanted[0])
        assert torch.equal(got[1], wanted[1])
        got[0].square().sum().backward()
        wanted[0].square().sum().backward()
        torch.testing.assert_close(leaf.grad, wide.grad.squeeze(-1))


def test_broadcast_temperatures_keep_their_meaning():
    """A shape with both interpretations has the same values in both."""
    x = some(5, 5, 5)
    for dim, shape in [
        (0, (5, 5)),
        (1, (1, 5)),
        (2, (5, 1)),
        (1, (1, 1)),
        (0, (5,)),
        (2, (5, 5, 1)),
    ]:
        t = some(*shape).abs() + 0.2
        everywhere = t.expand([1 if i == dim else 5 for i in range(3)]).contiguous()
        for name, call in {**CALLS, **INDICES}.items():
            assert_same_bits(call(x, t, dim), call(x, everywhere, dim), f"{name} {dim} {shape}")


def test_integers_and_no_rows_at_all():
    x = some(3, 4)
    t = torch.tensor([1, 2, 3])
    assert_same_bits(
        tg.gumbel_softmax(x, t, key=KEY), tg.gumbel_softmax(x, t[:, None].double(), key=KEY)
    )
    assert tg.gumbel_softmax(x[:0], torch.ones(0), key=KEY).shape == (0, 4)
    assert tg.gumbel_argmax(x[:, :1], temperature=torch.ones(3), key=KEY).tolist() == [0, 0, 0]


def test_batched_keys_go_with_it():
    x, t, keys = some(3, 2, 4), some(3, 2).abs() + 0.2, tg.split(KEY, 3)
    for samples in (None, 3):
        drawn = tg.gumbel_argmax(x, temperature=t, num_samples=samples, key=keys)
        alone = [
            tg.gumbel_argmax(x[i], temperature=t[i], num_samples=samples, key=keys[i])
            for i in range(3)
        ]
        assert torch.equal(drawn, torch.stack(alone, 0 if samples is None else 1))


@pytest.mark.parametrize("name", [*CALLS, *INDICES])
def test_under_vmap_it_is_that_of_the_lane(name):
    call = {**CALLS, **INDICES}[name]
    x, t = some(3, 6, 5), some(3, 6).abs() + 0.2
    wanted = torch.stack([call(a, b, -1) for a, b in zip(x, t, strict=True)])
    assert torch.equal(vmap(lambda a, b: call(a, b, -1))(x, t), wanted)
    shared = torch.stack([call(a, t[0], -1) for a in x])
    assert torch.equal(vmap(lambda a: call(a, t[0], -1))(x), shared)


def test_func_transforms_take_it():
    x, t, weights = some(6, 5), some(6).abs() + 0.2, some(6, 5)

    def loss(x, t):
        return (tg.gumbel_softmax(x, t, key=KEY) * weights).sum()

    leaf = t.clone().requires_grad_()
    loss(x, leaf).backward()
    torch.testing.assert_close(grad(loss, 1)(x, t), leaf.grad)
    tangent = some(6)
    _, directional = jvp(lambda t: loss(x, t), (t,), (tangent,))
    torch.testing.assert_close(directional, (leaf.grad * tangent).sum())


def test_gradients_of_every_order():
    x, t = some(4, 3, dtype=torch.float64).requires_grad_(), torch.rand(4).double() + 0.5
    t.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, t: tg.gumbel_softmax(x, t, key=KEY), (x, t))
    assert torch.autograd.gradgradcheck(lambda x, t: tg.gumbel_softmax(x, t, key=KEY), (x, t))


def test_compiled_it_is_one_graph_for_any_number_of_rows():
    """Also where two sizes happen to be equal."""
    compiled = torch.compile(
        lambda x, t: [
            tg.gumbel_softmax(x, t, key=KEY),
            tg.gumbel_argmax(x, temperature=t, key=KEY),
        ],
        backend="aot_eager",
        fullgraph=True,
        dynamic=True,
    )
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rows in (6, 7, 9):
            x, t = some(rows, 3, 5), some(rows, 3).abs() + 0.2
            soft, index = compiled(x, t)
            assert_same_bits(soft, tg.gumbel_softmax(x, t, key=KEY))
            assert torch.equal(index, tg.gumbel_argmax(x, temperature=t, key=KEY))


def test_patch_leaves_shapes_of_tau_with_another_meaning_to_pytorch():
    """There a tensor broadcasts from the right: [5] is one value per class of [5, 5]."""
    x, t = some(5, 5), some(5).abs() + 0.2
    torch.manual_seed(3)
    wanted = torch.nn.functional.gumbel_softmax(x, t)
    torch.manual_seed(3)
    with tg.patch():
        assert torch.equal(torch.nn.functional.gumbel_softmax(x, t), wanted)
