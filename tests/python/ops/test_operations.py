# SPDX-License-Identifier: Apache-2.0
"""Tests that every public operation passes, over the table in support/operations.py."""

import pytest
import torch
from common import DTYPES, assert_same_results, make_key
from compiling import compiled
from operation import Inputs
from operations import ALL, FORMS, OVERLOADS, SAMPLE_GUMBEL, TABLE, form_id, ops
from test_registration import opcheck
from torch.utils._pytree import tree_leaves, tree_map

import torch_gumbel
from torch_gumbel import new_key, split

KEY = make_key(5)
RANDOM = [form for form in [*FORMS, (SAMPLE_GUMBEL, {})] if form[0].random]
operations = pytest.mark.parametrize("operation", TABLE, ids=form_id)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


class Seen(torch.overrides.TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


class Marked(torch.Tensor):
    pass


def call(operation, inputs, **options):
    return operation.function(*operation.arguments(inputs), **(options or operation.options(KEY)))


def test_the_table_has_every_public_op():
    names = [n for n in torch._C._dispatch_get_all_op_names() if n.startswith("torch_gumbel::")]
    public = {
        n.removeprefix("torch_gumbel::") for n in names if not n.startswith("torch_gumbel::_")
    }
    assert public == {f"{o.name}.{v}".removesuffix(".default") for o, v in OVERLOADS}
    assert {o.name for o, _ in OVERLOADS} <= set(torch_gumbel.__all__)
    for operation in ALL:
        of_temperature = {f"tensor_{operation.temperature}"} if operation.temperature else set()
        assert operation.overloads.keys() == {"default"} | of_temperature


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(("operation", "overload"), OVERLOADS, ids=form_id)
def test_every_overload_passes_opcheck(operation, overload, requires_grad):
    inputs = Inputs(requires_grad=requires_grad)
    op, args = getattr(getattr(ops, operation.name), overload), operation.overloads[overload]
    opcheck(op, args(inputs), operation.options(KEY))
    if operation.random and not (operation.keyed or overload != "default" or requires_grad):
        opcheck(op, args(inputs))  # it seeds the generator before each run


@pytest.mark.parametrize("operation", ALL, ids=form_id)
def test_a_function_mode_sees_the_call(operation):
    given = operation.given(Inputs())
    with Seen() as seen:
        operation.function(**given)
    assert operation.name in seen.names


@operations
def test_a_subclass_is_preserved(operation):
    x, *rest = operation.arguments(Inputs())
    result = operation.function(x.as_subclass(Marked), *rest)
    assert all(isinstance(t, Marked) for t in tree_leaves(result))


@operations
def test_fx_records_the_function(operation):
    rest = operation.arguments(Inputs())[1:]
    graph = torch.fx.symbolic_trace(lambda x: operation.function(x, *rest)).graph
    assert operation.function in [node.target for node in graph.nodes]


@operations
def test_vmap_equals_a_loop(operation):
    batch, keys = [Inputs() for _ in range(5)], split(KEY, 5)
    x, *rest = zip(*map(operation.arguments, batch), strict=True)
    rest = [each[0] for each in rest]

    def one(x, key):
        return operation.function(x, *rest, **operation.options(key))

    got = torch.func.vmap(one)(torch.stack(x), keys)
    wanted = [one(*each) for each in zip(x, keys, strict=True)]
    for i, each in enumerate(wanted):
        torch.testing.assert_close(tree_map(lambda t, i=i: t[i], got), each)


@dtypes
@operations
def test_meta_results_have_the_shapes_and_dtypes_of_real_ones(operation, dtype):
    args = operation.arguments(Inputs(dtype))
    key = operation.options(KEY)
    real = tree_leaves(operation.function(*args, **key))
    on_meta = tree_map(lambda a: a.to("meta") if isinstance(a, torch.Tensor) else a, args)
    meta = tree_leaves(operation.function(*on_meta, **key))
    assert [(t.shape, t.dtype) for t in meta] == [(t.shape, t.dtype) for t in real]


@operations
def test_results_are_differentiable_as_stated(operation):
    results = tree_leaves(call(operation, Inputs(requires_grad=True)))
    assert results[0].requires_grad == operation.differentiable
    assert all(r.requires_grad == r.is_floating_point() for r in results[1:])


@operations
def test_compiled_it_equals_eager(operation):
    inputs = Inputs()
    args, key = operation.arguments(inputs), operation.options(KEY)
    got = compiled(lambda *a: operation.function(*a, **key))(*args)
    assert_same_results(got, operation.function(*args, **key))


@pytest.mark.parametrize(("operation", "options"), RANDOM, ids=form_id)
def test_a_call_draws_one_key_of_its_generator_and_none_with_a_key(operation, options):
    given, draw = operation.given(Inputs(), **options), operation.function
    ours, theirs = (torch.Generator().manual_seed(7) for _ in range(2))
    drawn = draw(**given, generator=ours)
    before = torch.get_rng_state()
    assert_same_results(drawn, draw(**given, key=new_key(theirs)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(ours.get_state(), theirs.get_state())
    torch.manual_seed(7)
    assert_same_results(draw(**given), drawn)
    assert torch.equal(torch.get_rng_state(), ours.get_state())


@pytest.mark.parametrize("operation", [o for o in TABLE if o.takes_zero and o.random], ids=form_id)
def test_at_temperature_zero_nothing_is_random(operation):
    given = operation.given(Inputs(), **{operation.temperature: 0})
    assert_same_results(*(operation.function(**given, key=key) for key in split(KEY)))


@operations
def test_a_wrong_first_argument_is_a_type_error_that_names_the_function(operation):
    x, *rest = operation.arguments(Inputs())
    before = torch.get_rng_state()
    for wrong in (x.tolist(), x.long()):
        with pytest.raises(TypeError, match=f"^{operation.name}: "):
            operation.function(wrong, *rest)
    assert torch.equal(torch.get_rng_state(), before)
