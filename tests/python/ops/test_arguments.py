# SPDX-License-Identifier: Apache-2.0
"""Numbers of any type are accepted, arguments of a wrong type raise a TypeError that names the
function, and no generator advances if a call runs out of memory."""

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from common import assert_same_results, make_key
from compiling import compiled
from operation import Inputs, parameters_of
from operations import ALL, AT_TEMPERATURE, FORMS, SAMPLE_GUMBEL, form_id
from torch.utils._pytree import tree_leaves

import torch_gumbel as tg
from torch_gumbel import distributions, nn

KEY = make_key(5)
X = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
NUMBERS = [np.float32(0.5), np.float16(0.5), np.float64(0.5), np.int64(2), Fraction(1, 2), True, 2]


def at_temperature(operation):
    function, name = operation.function, operation.temperature
    given = operation.given(Inputs(), **operation.options(KEY))
    return lambda t: function(**{**given, name: t})


OF_OBJECTS = {
    "GumbelSoftmax": lambda t: nn.GumbelSoftmax(tau=t)(X, key=KEY),
    "GumbelVectorQuantizer": lambda t: nn.GumbelVectorQuantizer(5, 4, 2, tau=t).tau + X,
    "RelaxedOneHotCategorical": lambda t: distributions.RelaxedOneHotCategorical(
        t, logits=X
    ).rsample(key=KEY),
    "OneHotCategoricalStraightThrough": lambda t: distributions.OneHotCategoricalStraightThrough(
        logits=X, temperature=t
    ).rsample(key=KEY),
}
CALLS = {**{o.name: at_temperature(o) for o in AT_TEMPERATURE}, **OF_OBJECTS}


@pytest.mark.parametrize("name", CALLS)
def test_a_temperature_is_any_real_number(name):
    for number in NUMBERS:
        assert_same_results(CALLS[name](number), CALLS[name](float(number)), repr(number))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("number", [10**400, Fraction(10**400), np.float32("inf")], ids=str)
def test_a_number_beyond_all_floats_is_not_finite(name, number):
    with pytest.raises(ValueError, match=rf"^{name}: (tau|temperature) must be >=? 0 and finite"):
        CALLS[name](number)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", ["1", None, 1j, [0.5], (1,), np.ones(2), Decimal(1)], ids=repr)
def test_a_temperature_is_nothing_but_a_real_number_or_a_tensor(name, value):
    message = rf"^{name}: (tau|temperature) must be a number.*, got {type(value).__name__}"
    before = torch.get_rng_state()
    if value is None and name == "sample_one_hot":  # whose default it is
        return
    with pytest.raises(TypeError, match=message):
        CALLS[name](value)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("operation", AT_TEMPERATURE, ids=form_id)
def test_compiled_it_is_any_real_number(operation):
    call = at_temperature(operation)
    run = compiled(call)
    for number in (np.float32(0.5), Fraction(1, 2), np.int64(2)):
        torch.testing.assert_close(run(number), call(float(number)))


# Names of types in messages, and values of other types. Of the types of an annotation, the first
# that is here counts.
WRONG_VALUES = {
    float: ("a number", []),  # temperatures: above
    torch.device: ("a device", []),  # PyTorch checks it
    str: ("a string", [5, None, ["zgr"]]),
    int: ("an integer", ["x", 0.5, None, [1, 2], True, [0.5], (2, "3")]),
    bool: ("a bool", ["x", [1], {}]),
    torch.dtype: ("a torch.dtype", ["float32", 6, True]),
    torch.Generator: ("a torch.Generator", ["cpu", 5]),
    torch.Tensor: ("a tensor", ["x", 5, 1.0, [1, 2], (5, 0), None]),
}
FUNCTIONS = [
    *[(o.function, o.given(Inputs())) for o in ALL],
    (tg.key, {"seed": 1}),
    (tg.new_key, {}),
    (tg.split, {"key": KEY}),
    (tg.fold_in, {"key": KEY, "data": 3}),
]
PARAMETERS = [
    *[
        (f, given, name, types)
        for f, given in FUNCTIONS
        for name, types in parameters_of(f).items()
    ],
    (nn.GumbelSoftmax, {}, "dim", (int,)),
    (nn.GumbelSoftmax, {}, "hard", (bool,)),
    (nn.GumbelSoftmax.from_probabilities, {"probs": X.exp()}, "dim", (int,)),
]


def wrong_types():
    """Every argument: a call with it, what messages say, and values of a wrong type."""
    for function, given, name, types in PARAMETERS:
        kind = next((kind for kind in WRONG_VALUES if kind in types), None)
        assert kind, f"{name}: {types} need an entry of WRONG_VALUES"
        what, values = WRONG_VALUES[kind]
        allowed = (None,) * (type(None) in types) + ([1, 2],) * (Sequence[int] in types)
        values = [v for v in values if v not in allowed]
        if values:
            who = f"{function.__qualname__}: {name}"
            yield pytest.param(function, given, name, f"{who} must be {what}", values, id=who)


@pytest.mark.parametrize(("function", "given", "name", "message", "values"), [*wrong_types()])
def test_an_argument_of_a_wrong_type_is_refused_by_name_and_draws_nothing(
    function, given, name, message, values
):
    before = torch.get_rng_state()
    for value in values:
        with pytest.raises(TypeError, match=f"^{re.escape(message)}, got "):
            function(**{**given, name: value})
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("operation", "options"), [*FORMS, (SAMPLE_GUMBEL, {})], ids=form_id)
def test_integers_and_truth_values_of_other_types_are_taken(operation, options):
    given = operation.given(Inputs(shape=(2, 4, 4)), **options, **operation.options(KEY))
    for name, types in operation.parameters.items():
        one = True if bool in types else 1
        unused = name == "samples" and given.get("estimator") != "gumbel-rao"
        if type(one) in types and not unused:
            wanted = operation.function(**{**given, name: one})
            others = {bool: [np.int64(1), np.True_, 1, torch.tensor(1)], int: [np.int64(1)]}
            dimension = [torch.tensor(1)] * (name in ("dim", "over"))  # counts are no tensors
            for other in [*others[type(one)], *dimension]:
                assert_same_results(operation.function(**{**given, name: other}), wanted, name)


BIG = 1 << 40


def large(operation, options):
    """2^36 times the logits."""
    given = operation.given(Inputs(shape=(6, 5)), **options)
    if "validate_args" in operation.parameters:
        given["validate_args"] = False  # it would read them all
    for name in {operation.first, "index"} & given.keys():
        given[name] = given[name].expand(1 << 36, *given[name].shape)
    return lambda g: operation.function(**given, generator=g)


LARGE = {
    **{f"{o.name} {form_id(options)}": large(o, options) for o, options in FORMS if o.random},
    "many samples": lambda g: tg.gumbel_argmax(X, num_samples=1 << 60, generator=g),
    "fewer samples": lambda g: tg.gumbel_argmax(X, num_samples=BIG, generator=g),
    "noise": lambda g: tg.sample_gumbel((BIG, 1 << 20), generator=g),
    "half noise": lambda g: tg.sample_gumbel((BIG,), dtype=torch.half, generator=g),
    "lookup": lambda g: tg.straight_through_lookup(
        X, torch.zeros(5, 1).expand(5, BIG), generator=g
    ),
    "draws of a distribution": lambda g: distributions.RelaxedOneHotCategorical(
        1.0, logits=X
    ).rsample((BIG,), generator=g),
    "Gumbel draws": lambda g: distributions.Gumbel(0.0, torch.ones(3)).rsample((BIG,), generator=g),
}


@pytest.mark.parametrize("own", [True, False], ids=["own", "default"])
@pytest.mark.parametrize("name", LARGE)
def test_no_generator_advances_if_memory_is_lacking(name, own):
    generator = torch.Generator() if own else None
    states = [torch.get_rng_state(), torch.Generator().get_state()]
    with pytest.raises(RuntimeError, match=r"can't allocate memory|overflow"):
        LARGE[name](generator)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert not own or torch.equal(generator.get_state(), states[1])


def test_a_meta_or_fake_tensor_may_exceed_the_memory():
    assert tg.gumbel_softmax(X.to("meta").expand(BIG, 6, 5)).shape == (BIG, 6, 5)
    with torch._subclasses.FakeTensorMode():
        assert tg.gumbel_argmax(torch.zeros(3, 5), num_samples=BIG).shape == (BIG, 3)


@pytest.mark.parametrize(("operation", "options"), FORMS, ids=form_id)
def test_no_class_is_an_empty_sample_or_an_index_error(operation, options):
    """A soft sample, a gate, or noise has the shape of the logits; anything else needs a class."""
    full, none = (operation.given(Inputs(shape=shape), **options) for shape in ((3, 4), (3, 0)))
    results = tree_leaves(operation.function(**full))
    names_a_class = operation.name in ("sample_one_hot", "gumbel_posterior", "gumbel_subset")
    hard = options.get("hard") or names_a_class
    if (results[0].shape == (3, 4) and not hard) or operation.elementwise:
        assert operation.function(**none).shape == (3, 0)
        return
    before = torch.get_rng_state()
    message = f"^{operation.name}: wanted at least one class, got size 0 at dim 1"
    with pytest.raises(IndexError, match=message):
        operation.function(**none)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_class_or_no_row_has_valid_probabilities():
    assert tg.sample_categorical(torch.ones(3, 0), 1.0, validate_args=True).shape == (3, 0)
    assert tg.sample_categorical(torch.ones(0, 3), 1.0, validate_args=True).shape == (0, 3)
