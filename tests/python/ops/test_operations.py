# SPDX-License-Identifier: Apache-2.0
"""Tests that every public operation passes, over the table in support/operations.py."""

import pytest
import torch
from common import DTYPES, assert_same_bits, make_key
from compiling import compiled
from operations import OPERATIONS, OVERLOADS, TABLE, Inputs, ops
from test_registration import opcheck
from torch.utils._pytree import tree_leaves, tree_map

import torch_gumbel
from torch_gumbel import split

KEY = make_key(5)
RANDOM = [operation for operation in TABLE if operation.random]
operations = pytest.mark.parametrize("operation", TABLE, ids=lambda o: o.name)
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


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(("operation", "overload"), OVERLOADS, ids=lambda v: getattr(v, "name", v))
def test_every_overload_passes_opcheck(operation, overload, requires_grad):
    inputs = Inputs(requires_grad=requires_grad)
    op, args = getattr(getattr(ops, operation.name), overload), operation.overloads[overload]
    opcheck(op, args(inputs), operation.options(KEY))
    if operation.random and overload == "default" and not requires_grad:
        opcheck(op, args(inputs))  # it seeds the generator before each run


@pytest.mark.parametrize("name", [*OPERATIONS, "sample_gumbel"])
def test_a_function_mode_sees_the_call(name):
    args = OPERATIONS[name].arguments(Inputs()) if name in OPERATIONS else (3,)
    with Seen() as seen:
        getattr(torch_gumbel, name)(*args)
    assert name in seen.names


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
    got = tree_leaves(compiled(lambda *a: operation.function(*a, **key))(*args))
    for ours, wanted in zip(got, tree_leaves(operation.function(*args, **key)), strict=True):
        assert_same_bits(ours, wanted)


@pytest.mark.parametrize("operation", RANDOM, ids=lambda o: o.name)
def test_a_random_op_draws_by_its_key_generator_or_seed(operation):
    inputs = Inputs()
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    by_generator = [tree_leaves(call(operation, inputs, generator=g)) for g in generators]
    assert all(map(torch.equal, *by_generator))
    before = torch.get_rng_state()
    call(operation, inputs)
    assert torch.equal(torch.get_rng_state(), before)
    operation.function(*operation.arguments(inputs))
    assert not torch.equal(torch.get_rng_state(), before)


@operations
def test_a_wrong_first_argument_is_a_type_error_that_names_the_function(operation):
    x, *rest = operation.arguments(Inputs())
    before = torch.get_rng_state()
    for wrong in (x.tolist(), x.long()):
        with pytest.raises(TypeError, match=f"^{operation.name}: "):
            operation.function(wrong, *rest)
    assert torch.equal(torch.get_rng_state(), before)
