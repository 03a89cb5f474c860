# SPDX-License-Identifier: Apache-2.0
"""Distributions inside vmap, with validation on, as by default, over all batch elements."""

import pytest
import torch
from common import make_key
from torch.func import grad, vmap

from torch_gumbel import distributions, split

KEY = make_key(5)
KEYS = split(KEY, 4)
MAKE = torch.Generator().manual_seed(1)
LOGITS = torch.randn(4, 3, 5, generator=MAKE)
SIMPLEX = torch.rand(4, 3, 5, generator=MAKE).softmax(-1)
TAUS = torch.tensor([0.5, 1.0, 2.0, 3.0])

MAKERS = {
    "RelaxedOneHotCategorical": lambda t, **parameter: distributions.RelaxedOneHotCategorical(
        t, **parameter
    ),
    "ExpRelaxedCategorical": lambda t, **parameter: distributions.ExpRelaxedCategorical(
        t, **parameter
    ),
    "OneHotCategoricalStraightThrough": lambda t, **parameter: (
        distributions.OneHotCategoricalStraightThrough(temperature=t, **parameter)
    ),
}


@pytest.fixture(autouse=True)
def validation():
    """The default of a new process; torch.compile disables it."""
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(True)
    yield
    torch.distributions.Distribution.set_default_validate_args(before)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("parameter", ["logits", "probs"])
def test_a_batch_element_draws_independently(name, parameter):
    values = LOGITS if parameter == "logits" else SIMPLEX

    def draw(x, t, key):
        return MAKERS[name](t, **{parameter: x}).rsample((2,), key=key)

    alone = torch.stack([draw(*element) for element in zip(values, TAUS, KEYS, strict=True)])
    torch.testing.assert_close(vmap(draw)(values, TAUS, KEYS), alone)


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_element_has_its_own_log_prob(name):
    values = {
        "RelaxedOneHotCategorical": SIMPLEX,
        "ExpRelaxedCategorical": SIMPLEX.log(),
        "OneHotCategoricalStraightThrough": torch.eye(5)[SIMPLEX.argmax(-1)],
    }[name]

    def score(x, value):
        return MAKERS[name](0.7, logits=x).log_prob(value)

    alone = torch.stack([score(*element) for element in zip(LOGITS, values, strict=True)])
    torch.testing.assert_close(vmap(score)(LOGITS, values), alone)
    slope = vmap(grad(lambda x, value: score(x, value).sum()))(LOGITS, values)
    assert slope.shape == LOGITS.shape and slope.isfinite().all()


@pytest.mark.parametrize("name", MAKERS)
def test_a_bad_lane_is_refused(name):
    bad = LOGITS.clone()
    bad[2, 1, 0] = torch.nan
    with pytest.raises(ValueError, match=f"^{name}: logits must be"):
        vmap(lambda x: MAKERS[name](0.7, logits=x).probs)(bad)
    with pytest.raises(ValueError, match=f"^{name}: probs must be not negative"):
        vmap(lambda x: MAKERS[name](0.7, probs=x).probs)(-SIMPLEX)
    with pytest.raises(ValueError, match=f"^{name}: temperature must be > 0"):
        vmap(lambda x, t: MAKERS[name](t, logits=x).probs)(LOGITS, TAUS - 1)
