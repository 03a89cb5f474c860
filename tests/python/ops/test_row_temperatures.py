# SPDX-License-Identifier: Apache-2.0
"""Temperatures per row may have the shape of the rows, that of logits without the classes."""

import operations
import pytest
import torch
from common import assert_same_bits, assert_same_results, make_key
from operation import Inputs
from operations import form_id
from torch.func import grad, jvp, vmap
from torch.utils._pytree import tree_leaves, tree_map

import torch_gumbel as tg

KEY = make_key(5)
MAKE = torch.Generator().manual_seed(1)
SHAPES = [((6, 5), -1), ((6, 5), 0), ((5, 5), 0), ((5, 5), 1), ((2, 5, 3, 4), 1), ((3, 1, 5), -1)]


FORMS = [form for form in operations.OF_ROWS if form[0].temperature]
forms = pytest.mark.parametrize(("operation", "options"), FORMS, ids=form_id)


def some(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=MAKE, dtype=dtype)


def drawn(operation, options, inputs, t, **changes):
    """The results at temperatures t."""
    temperature = {operation.temperature: t}
    given = operation.given(inputs, **temperature, **options, **changes)
    return operation.function(**given, **operation.options(KEY))


CASES = [
    (operation, options, shape, dim)
    for operation, options in FORMS
    for shape, dim in SHAPES
    if "dim" in operation.parameters or dim in (-1, len(shape) - 1)
]


@pytest.mark.parametrize(("operation", "options", "shape", "dim"), CASES, ids=form_id)
def test_it_is_that_of_the_shape_with_size_1_at_dim(operation, options, shape, dim):
    """Results, and a gradient of its shape."""
    inputs = Inputs(shape=shape, dim=dim)
    leaves = [t.clone().requires_grad_() for t in (inputs.rows.squeeze(dim), inputs.rows)]
    narrow, wide = (drawn(operation, options, inputs, leaf) for leaf in leaves)
    assert_same_results(narrow, wide)
    if operation.differentiable:
        for results in (narrow, wide):
            sum((y * y.detach().cos()).sum() for y in tree_leaves(results)).backward()
        assert leaves[0].grad.abs().sum() > 0
        assert_same_bits(leaves[0].grad, leaves[1].grad.squeeze(dim))


BROADCAST = [(0, (5, 5)), (1, (1, 5)), (2, (5, 1)), (1, (1, 1)), (0, (5,)), (2, (5, 5, 1))]


@forms
def test_broadcast_temperatures_keep_their_meaning(operation, options):
    """A shape with both interpretations has the same values in both."""
    for dim, shape in BROADCAST:
        if dim != 2 and "dim" not in operation.parameters:
            continue
        inputs, t = Inputs(shape=(5, 5, 5), dim=dim), some(*shape).abs() + 0.2
        everywhere = t.expand(inputs.rows.shape).contiguous()
        got, wanted = (drawn(operation, options, inputs, each) for each in (t, everywhere))
        assert_same_results(got, wanted, f"{dim} {shape}")


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


@forms
def test_under_vmap_it_is_that_of_the_lane(operation, options):
    inputs = Inputs(shape=(6, 5))
    x = torch.stack([operation.given(Inputs(shape=(6, 5)))[operation.first] for _ in range(3)])
    t = some(3, 6).abs() + 0.2

    def call(x, t):
        return drawn(operation, options, inputs, t, **{operation.first: x})

    for dims in ((0, 0), (0, None)):
        each = t if dims[1] == 0 else t[:1].expand(3, 6)
        got = vmap(call, dims)(x, t if dims[1] == 0 else t[0])
        for i in range(3):
            assert_same_results(tree_map(lambda y, i=i: y[i], got), call(x[i], each[i]))


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
