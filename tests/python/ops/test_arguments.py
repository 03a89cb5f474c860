# SPDX-License-Identifier: Apache-2.0
"""Numbers of any type are accepted, arguments of a wrong type raise a TypeError that names the
function, and no generator advances if a call runs out of memory."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from common import assert_same_bits, make_key

import torch_gumbel as tg
from torch_gumbel import distributions, nn

KEY = make_key(5)
X = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
P, CODES = X.softmax(-1), torch.arange(10.0).sin().view(5, 2)
NUMBERS = [np.float32(0.5), np.float16(0.5), np.float64(0.5), np.int64(2), Fraction(1, 2), True, 2]

AT_TEMPERATURE = {
    "gumbel_softmax": lambda t: tg.gumbel_softmax(X, t, key=KEY),
    "gumbel_argmax": lambda t: tg.gumbel_argmax(X, temperature=t, key=KEY),
    "gumbel_topk": lambda t: tg.gumbel_topk(X, 2, temperature=t, key=KEY)[0],
    "sample_categorical": lambda t: tg.sample_categorical(P, t, key=KEY),
    "straight_through_lookup": lambda t: tg.straight_through_lookup(X, CODES, t, False, key=KEY),
}
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


@pytest.mark.parametrize("name", [*AT_TEMPERATURE, *OF_OBJECTS])
def test_a_temperature_is_any_real_number(name):
    call = {**AT_TEMPERATURE, **OF_OBJECTS}[name]
    for number in NUMBERS:
        assert_same_bits(call(number), call(float(number)), repr(number))


@pytest.mark.parametrize("name", [*AT_TEMPERATURE, *OF_OBJECTS])
@pytest.mark.parametrize("number", [10**400, Fraction(10**400), np.float32("inf")], ids=str)
def test_a_number_beyond_all_floats_is_not_finite(name, number):
    with pytest.raises(ValueError, match=rf"^{name}: (tau|temperature) must be >=? 0 and finite"):
        {**AT_TEMPERATURE, **OF_OBJECTS}[name](number)


@pytest.mark.parametrize("name", [*AT_TEMPERATURE, *OF_OBJECTS])
@pytest.mark.parametrize("value", ["1", None, 1j, [0.5], np.ones(2), Decimal(1)], ids=repr)
def test_a_temperature_is_nothing_but_a_real_number_or_a_tensor(name, value):
    message = rf"^{name}: (tau|temperature) must be a number.*, got {type(value).__name__}"
    with pytest.raises(TypeError, match=message):
        {**AT_TEMPERATURE, **OF_OBJECTS}[name](value)


@pytest.mark.parametrize("name", AT_TEMPERATURE)
def test_compiled_it_is_any_real_number(name):
    compiled = torch.compile(AT_TEMPERATURE[name], backend="aot_eager", fullgraph=True)
    for number in (np.float32(0.5), Fraction(1, 2), np.int64(2)):
        torch.testing.assert_close(compiled(number), AT_TEMPERATURE[name](float(number)))


NOT_INTEGERS = ["x", 0.5, None, [1, 2], True]
INTEGERS = {
    "gumbel_softmax: dim": lambda v: tg.gumbel_softmax(X, dim=v),
    "gumbel_argmax: dim": lambda v: tg.gumbel_argmax(X, v),
    "gumbel_topk: dim": lambda v: tg.gumbel_topk(X, 2, v),
    "gumbel_topk: k": lambda v: tg.gumbel_topk(X, v),
    "sample_categorical: dim": lambda v: tg.sample_categorical(P, 1, dim=v),
    "kl_categorical: dim": lambda v: tg.kl_categorical(X, dim=v),
    "perplexity: dim": lambda v: tg.perplexity(P, v),
    "split: num": lambda v: tg.split(KEY, v),
    "GumbelSoftmax: dim": lambda v: nn.GumbelSoftmax(v),
    "GumbelSoftmax.from_probabilities: dim": lambda v: nn.GumbelSoftmax.from_probabilities(
        P, dim=v
    ),
}
NOT_BOOLS = ["x", [1], {}]
BOOLS = {
    "gumbel_softmax: hard": lambda v: tg.gumbel_softmax(X, hard=v),
    "gumbel_softmax: recompute": lambda v: tg.gumbel_softmax(X, hard=True, recompute=v),
    "gumbel_argmax: keepdim": lambda v: tg.gumbel_argmax(X, keepdim=v),
    "sample_categorical: hard": lambda v: tg.sample_categorical(P, 1, v),
    "sample_categorical: validate_args": lambda v: tg.sample_categorical(P, 1, validate_args=v),
    "straight_through_lookup: hard": lambda v: tg.straight_through_lookup(X, CODES, 1, v),
    "straight_through_lookup: return_index": lambda v: tg.straight_through_lookup(
        X, CODES, return_index=v
    ),
    "GumbelSoftmax: hard": lambda v: nn.GumbelSoftmax(hard=v),
}
NOT_DTYPES = ["float32", 6, True]
DTYPES = {
    "sample_gumbel: dtype": lambda v: tg.sample_gumbel(3, dtype=v),
    "gumbel_like: dtype": lambda v: tg.gumbel_like(X, dtype=v),
}
OTHERS = [
    ("perplexity: over must be an integer", lambda: tg.perplexity(P, over="0")),
    ("perplexity: over must be an integer", lambda: tg.perplexity(P, over=[0.0])),
    ("gumbel_argmax: num_samples must be an integer", lambda: tg.gumbel_argmax(X, num_samples=2.0)),
    ("sample_gumbel: size must be an integer", lambda: tg.sample_gumbel(2.5)),
    ("sample_gumbel: size must be an integer", lambda: tg.sample_gumbel(None)),
    ("sample_gumbel: size must be an integer", lambda: tg.sample_gumbel((2, "3"))),
    ("split: key must be a tensor", lambda: tg.split([1, 2])),
    ("fold_in: key must be a tensor", lambda: tg.fold_in([1, 2], 3)),
    ("fold_in: data must be an integer", lambda: tg.fold_in(KEY, 0.5)),
    ("new_key: generator must be a torch.Generator", lambda: tg.new_key("cpu")),
    ("key: seed must be an integer", lambda: tg.key("1")),
]


def wrong_types():
    """Every argument: messages, and the calls that raise them."""
    for cases, values, kind in [
        (INTEGERS, NOT_INTEGERS, "an integer"),
        (BOOLS, NOT_BOOLS, "a bool"),
        (DTYPES, NOT_DTYPES, "a torch.dtype"),
    ]:
        for what, call in cases.items():
            yield what, [(f"{what} must be {kind}", lambda c=call, v=v: c(v)) for v in values]
    yield "others", OTHERS


@pytest.mark.parametrize(
    ("what", "calls"), [*wrong_types()], ids=lambda v: v if type(v) is str else ""
)
def test_an_argument_of_a_wrong_type_is_refused_by_name_and_draws_nothing(what, calls):
    before = torch.get_rng_state()
    for message, call in calls:
        with pytest.raises(TypeError, match=f"^{re.escape(message)}, got "):
            call()
    assert torch.equal(torch.get_rng_state(), before)


def test_integers_and_truth_values_of_other_types_are_taken():
    wanted = tg.gumbel_softmax(X, hard=True, dim=1, key=KEY)
    for one in (np.int64(1), torch.tensor(1)):
        assert_same_bits(tg.gumbel_softmax(X, hard=one, dim=one, recompute=one, key=KEY), wanted)
        assert tg.gumbel_topk(X, 2, one, key=KEY)[1].shape == (6, 2)
        assert tg.kl_categorical(X, dim=one).shape == (6,)
        assert tg.perplexity(P, over=one - 1).shape == ()
    assert_same_bits(tg.gumbel_softmax(X, hard=np.True_, key=KEY), wanted)
    assert_same_bits(tg.sample_gumbel(np.int64(3), key=KEY), tg.sample_gumbel([3], key=KEY))


BIG = 1 << 40
LARGE = {
    "many samples": lambda g: tg.gumbel_argmax(X, num_samples=1 << 60, generator=g),
    "fewer samples": lambda g: tg.gumbel_argmax(X, num_samples=BIG, generator=g),
    "noise": lambda g: tg.sample_gumbel((BIG, 1 << 20), generator=g),
    "half noise": lambda g: tg.sample_gumbel((BIG,), dtype=torch.half, generator=g),
    "noise like": lambda g: tg.gumbel_like(X.expand(1 << 36, 6, 5), generator=g),
    "soft": lambda g: tg.gumbel_softmax(X.expand(1 << 36, 6, 5), generator=g),
    "hard": lambda g: tg.gumbel_softmax(X.expand(1 << 36, 6, 5), hard=True, generator=g),
    "index": lambda g: tg.gumbel_argmax(X.expand(1 << 36, 6, 5), generator=g),
    "topk": lambda g: tg.gumbel_topk(X.expand(1 << 36, 6, 5), 2, generator=g),
    "probabilities": lambda g: tg.sample_categorical(
        P.expand(1 << 36, 6, 5), 1, validate_args=False, generator=g
    ),
    "lookup": lambda g: tg.straight_through_lookup(
        X, torch.zeros(5, 1).expand(5, BIG), generator=g
    ),
    "soft lookup": lambda g: tg.straight_through_lookup(
        X.expand(1 << 36, 6, 5), CODES, hard=False, generator=g
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


def test_no_class_is_an_empty_sample_or_an_index_error():
    none = torch.ones(3, 0)
    assert tg.sample_categorical(none, 1.0).shape == (3, 0)
    assert tg.sample_categorical(none, 1.0, validate_args=True).shape == (3, 0)
    assert tg.sample_categorical(torch.ones(0, 3), 1.0, validate_args=True).shape == (0, 3)
    assert tg.gumbel_softmax(none).shape == tg.gumbel_like(none).shape == (3, 0)
    before = torch.get_rng_state()
    for call in [
        lambda: tg.sample_categorical(none, 1.0, hard=True),
        lambda: tg.gumbel_softmax(none, hard=True),
        lambda: tg.gumbel_argmax(none),
        lambda: tg.gumbel_topk(none, 1),
        lambda: tg.straight_through_lookup(none, torch.ones(0, 2), hard=False),
        lambda: tg.kl_categorical(none),
        lambda: tg.perplexity(none),
    ]:
        with pytest.raises(IndexError, match="wanted at least one class"):
            call()
    assert torch.equal(torch.get_rng_state(), before)
