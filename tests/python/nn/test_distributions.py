# SPDX-License-Identifier: Apache-2.0
"""Distributions: the checks of PyTorch's own test suite, and further guarantees."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from compiling import compiled
from scipy import stats
from torch.autograd import gradcheck
from torch.distributions import constraints

from torch_gumbel import gumbel_softmax
from torch_gumbel import key as make_key
from torch_gumbel.distributions import (
    ExpRelaxedCategorical,
    Gumbel,
    OneHotCategoricalStraightThrough,
    RelaxedOneHotCategorical,
)

FALSE_ALARM = 1e-6
PROBS = [[0.1, 0.2, 0.3], [0.5, 0.3, 0.2]]
RELAXED = [RelaxedOneHotCategorical, ExpRelaxedCategorical]


def doubles(values, **options):
    return torch.tensor(values, dtype=torch.float64, **options)


def one_hot(temperature, probs=None, logits=None, **options):
    """The straight-through class with the arguments in the order of the relaxed ones."""
    return OneHotCategoricalStraightThrough(probs, logits, temperature, **options)


def gumbel(temperature, probs=None, logits=None, **options):
    return Gumbel(probs if logits is None else logits, temperature, **options)


FAMILIES = [*RELAXED, one_hot]
CHECKED = [(family, checked) for family in FAMILIES for checked in (False, True)]


# The checks of torch's test_distributions.py.


@pytest.mark.parametrize("family", RELAXED)
@pytest.mark.parametrize(
    ("probs", "temperature"),
    [([0.1, 0.2, 0.3], 0.67), (PROBS, [3.0]), (PROBS, [0.25]), (PROBS, [0.67, 3.0])],
)
def test_the_gradient_of_log_prob_is_right(family, probs, temperature):
    tau = doubles(temperature, requires_grad=True)
    p = doubles(probs, requires_grad=True)
    made = family(tau, p)
    s = made.sample().requires_grad_()
    assert s.shape == made.batch_shape + made.event_shape
    gradcheck(lambda s, t, p: family(t, p, validate_args=False).log_prob(s), (s, tau, p))
    logits = p.detach().log().requires_grad_()
    gradcheck(
        lambda s, t, x: family(t, logits=x, validate_args=False).log_prob(s), (s, tau, logits)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_have_the_shapes_of_torch(family):
    single, rows = doubles([0.1, 0.2, 0.3]), doubles(PROBS)
    for shape, wanted in [((3,), (3, 3)), ((2, 2), (2, 2, 3)), ((1,), (1, 3)), ((), (3,))]:
        assert family(0.67, single).sample(shape).shape == wanted
    for shape, wanted in [((), (2, 3)), ((3, 4), (3, 4, 2, 3)), ((6,), (6, 2, 3))]:
        for made in (family(doubles([3.0]), rows), family(doubles([3.0, 1.0]), logits=rows)):
            assert made.rsample(shape).shape == wanted
            assert (made.batch_shape, made.event_shape) == ((2,), (3,))
            assert made.log_prob(made.sample(shape)).shape == wanted[:-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_has_no_gradient_and_an_rsample_has(family):
    p, tau = doubles(PROBS, requires_grad=True), doubles(0.5, requires_grad=True)
    made = family(tau, p)
    assert made.has_rsample and not made.sample().requires_grad
    (made.rsample() * doubles([1.0, -2.0, 0.5])).sum().backward()
    assert (p.grad.abs() > 0).any() and tau.grad.abs() > 0


def p_of_counts(indices, probs):
    counts = np.bincount(indices.flatten().numpy(), minlength=len(probs))
    return stats.chisquare(counts, np.asarray(probs) * counts.sum()).pvalue


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("probs", [[0.1, 0.9], [0.2, 0.2, 0.6]])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_the_largest_class_has_its_distribution_at_every_temperature(family, probs, temperature):
    """torch's own threshold is p > 1e-3; here the draws are many and the rate is 1e-6."""
    made = family(temperature, torch.tensor(probs))
    indices = made.sample((100_000,), key=make_key(3)).argmax(-1)
    assert p_of_counts(indices, probs) > FALSE_ALARM
    wrong = [probs[0] + 0.01, *probs[1:-1], probs[-1] - 0.01]
    assert p_of_counts(indices, wrong) < FALSE_ALARM


def test_an_endless_temperature_makes_classes_equal():
    y = RelaxedOneHotCategorical(1e10, torch.tensor([0.2, 0.2, 0.6])).sample((10,))
    torch.testing.assert_close(y, torch.full((10, 3), 1 / 3))


def test_the_tiniest_temperature_draws_each_of_five_equally():
    """1,000 draws at tau = 0.001. A distribution of (.3, .3, .3, .05, .05) is caught."""
    y = RelaxedOneHotCategorical(0.001, torch.full((5,), 0.2)).sample((1000,), key=make_key(5))
    assert y.isfinite().all()
    torch.testing.assert_close(y.sum(-1), torch.ones(1000))
    indices = y.argmax(-1)
    assert p_of_counts(indices, [0.2] * 5) > FALSE_ALARM
    assert p_of_counts(indices, [0.3, 0.3, 0.3, 0.05, 0.05]) < FALSE_ALARM


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [(), (2,), (4, 2), (2, 3, 2)])
def test_expand_is_a_view_with_the_same_density(family, batch):
    if not batch:
        made = family(0.5, doubles(PROBS[0]))
    else:
        made = family(doubles([0.5, 0.9]), logits=doubles(PROBS))
    large = made.expand((*batch[:-1], 2) if batch else (5,))
    assert type(large) is type(made) and large.batch_shape == torch.Size(batch or (5,))
    s = made.sample()
    wanted = made.log_prob(s).expand(large.batch_shape)
    assert torch.equal(large.log_prob(s.expand((*large.batch_shape, 3))), wanted)
    assert large.sample((3,)).shape == (3, *large.batch_shape, 3)
    known = "logits" if batch else "probs"
    assert getattr(large, known).data_ptr() == getattr(made, known).data_ptr()


def test_enumeration_and_moments_are_those_of_the_one_hot_categorical():
    made, theirs = (
        one_hot(0.5, doubles(PROBS)),
        torch.distributions.OneHotCategorical(doubles(PROBS)),
    )
    assert made.has_enumerate_support
    for expand in (False, True):
        support = made.enumerate_support(expand)
        assert torch.equal(support, theirs.enumerate_support(expand))
        assert torch.equal(made.log_prob(support), theirs.log_prob(support))
    torch.testing.assert_close(made.log_prob(support).exp().sum(0), doubles([1.0, 1.0]))
    for name in ("mean", "mode", "variance", "probs", "logits", "param_shape"):
        assert torch.equal(
            torch.as_tensor(getattr(made, name)), torch.as_tensor(getattr(theirs, name))
        )
    torch.testing.assert_close(made.entropy(), theirs.entropy())


def test_supports_and_constraints_are_checked():
    checked = {"validate_args": True}  # torch.compile, in other tests, disables the default
    made = RelaxedOneHotCategorical(0.5, doubles([0.1, 0.9]), **checked)
    assert not made.support.is_discrete and made.support.event_dim == 1
    for value in ([0.5, 0.6], [-0.1, 1.1], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="within the support"):
            made.log_prob(doubles(value))
    with pytest.raises(ValueError, match="within the support"):
        one_hot(0.5, doubles([0.1, 0.9]), **checked).log_prob(doubles([0.5, 0.5]))
    assert (
        RelaxedOneHotCategorical(0.5, doubles([0.1, 0.9]), validate_args=False)
        .log_prob(doubles([0.5, 0.6]))
        .isfinite()
    )
    assert constraints.one_hot.check(one_hot(0.5, torch.rand(9, 4)).sample()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_samples_of_every_dtype_are_in_the_support(family, dtype):
    made = family(0.3, logits=torch.randn(20, 700, dtype=dtype))
    s = made.sample()
    assert s.dtype == dtype
    assert made.log_prob(s).isfinite().all()


# Keys, zeros, temperatures.


def test_a_draw_is_the_functional_call_of_the_same_key():
    logits, key = torch.randn(4, 6), make_key(11)
    made = RelaxedOneHotCategorical(0.7, logits=logits)
    tau = torch.tensor(0.7)
    assert torch.equal(made.rsample(key=key), gumbel_softmax(logits, tau, key=key))
    stacked = logits.expand(5, 4, 6)
    assert torch.equal(made.sample((5,), key=key), gumbel_softmax(stacked, tau, key=key))
    hard = one_hot(0.7, logits=logits)
    assert torch.equal(hard.sample((5,), key=key), gumbel_softmax(stacked, hard=True, key=key))
    torch.testing.assert_close(
        made.base_dist.sample((5,), key=key).exp(), made.sample((5,), key=key)
    )
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(*[made.sample(generator=g) for g in seeds])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("by", ["probs", "logits"])
def test_a_probability_of_zero_is_exact(family, by):
    probs = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]], requires_grad=True)
    given = {by: probs if by == "probs" else probs.log().detach().requires_grad_()}
    tau = torch.tensor(0.6, requires_grad=True)
    made = family(tau, **given)
    s = made.rsample((1000,))
    drawn = s.exp() if family is ExpRelaxedCategorical else s
    assert (drawn[:, probs == 0] == 0).all()
    assert made.log_prob(s.detach()).isfinite().all()
    (drawn * torch.randn(3)).sum().backward(retain_graph=True)  # torch's classes keep logits
    leaf = given[by]
    assert leaf.grad.isfinite().all() and tau.grad.isfinite() and (leaf.grad[probs == 0] == 0).all()
    made.log_prob(s.detach()).sum().backward()
    assert leaf.grad.isfinite().all() and tau.grad.isfinite()


def test_a_value_off_the_face_of_the_possible_classes_has_no_density():
    made = RelaxedOneHotCategorical(0.5, doubles([0.4, 0.0, 0.6]))
    assert made.log_prob(doubles([0.3, 0.1, 0.6])) == -math.inf
    on_face = made.log_prob(doubles([0.3, 0.0, 0.7]))
    smaller = RelaxedOneHotCategorical(0.5, doubles([0.4, 0.6]))
    torch.testing.assert_close(on_face, smaller.log_prob(doubles([0.3, 0.7])))
    assert made.base_dist.log_prob(doubles([0.0, -math.inf, -math.inf])) == -math.inf


def test_a_temperature_per_row_never_makes_the_batch_larger():
    """pytorch#37162: tau of [n, 1] gave a log_prob of [n, n]."""
    logits = torch.randn(4, 3)
    per_row = torch.tensor([0.1, 0.5, 1.0, 2.0])
    made = RelaxedOneHotCategorical(per_row, logits=logits)
    y = made.sample()
    wanted = [
        RelaxedOneHotCategorical(t.item(), logits=x).log_prob(v)
        for t, x, v in zip(per_row, logits, y, strict=True)
    ]
    torch.testing.assert_close(made.log_prob(y), torch.stack(wanted))
    for shape in [(4, 1), (3,), (2, 4), (4, 3)]:
        with pytest.raises(ValueError, match=r"broadcast to the batch shape \[4\] without"):
            RelaxedOneHotCategorical(torch.ones(shape), logits=logits)
    one = RelaxedOneHotCategorical(torch.tensor([2.2]), torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert one.sample().shape == (4,) and one.log_prob(one.sample()).shape == ()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, r"\w+: temperature must be > 0 and finite, got 0.0"),
        ({"temperature": torch.tensor(-1.0)}, ValueError, "temperature must be > 0 and finite"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number or a tensor, got str"),
        ({"probs": [-0.1, 1.1]}, ValueError, "probs must be not negative"),
        ({"probs": [math.nan, 1.0]}, ValueError, "probs must be not negative"),
        ({"probs": [0.0, 0.0]}, ValueError, "probs must be not negative and of finite, positive"),
        ({"logits": [math.nan, 1.0]}, ValueError, "logits must be without NaN"),
        ({"logits": [-math.inf, -math.inf]}, ValueError, "logits must be without NaN"),
        ({"logits": [math.inf, 1.0]}, ValueError, "logits must be without NaN"),
        ({"logits": 1.0}, ValueError, "logits must have a dimension of classes, got a 0-d tensor"),
        ({"logits": [1, 2]}, TypeError, "logits must be a floating point tensor, got torch.int64"),
        ({"logits": [1.0], "probs": [1.0]}, ValueError, "one of probs and logits is wanted"),
    ],
)
def test_wrong_arguments_are_named(family, arguments, error, message):
    tensors = {n: torch.tensor(v) for n, v in arguments.items() if n != "temperature"}
    tensors = tensors or {"logits": torch.zeros(2)}
    with pytest.raises(error, match=message):
        family(arguments.get("temperature", 0.5), validate_args=True, **tensors)


@pytest.mark.parametrize("family", [*FAMILIES, gumbel])
def test_a_distribution_is_copied_and_pickled(family):
    made = family(0.5, doubles(PROBS))
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(other.sample(key=make_key(1)), made.sample(key=make_key(1)))
        assert repr(other) == repr(made) and type(made).__name__ in repr(made)


# PyTorch's own constructor, which is Gumbel's, cannot check in compiled code.
@pytest.mark.parametrize("family, validate", [*CHECKED, (gumbel, False)])
@pytest.mark.parametrize("by", ["probs", "logits"])
def test_a_compiled_distribution_equals_eager(family, by, validate):
    def draw_and_score(x, key):
        made = family(0.5, **{by: x}, validate_args=validate)
        y = made.rsample((2,), key=key)
        return y, made.log_prob(y)

    x, key = torch.rand(4, 6), make_key(3)
    got = compiled(draw_and_score)(x, key)
    torch.testing.assert_close(got, draw_and_score(x, key))


@pytest.mark.parametrize("family", FAMILIES)
def test_half_parameters_are_validated_in_float32(family):
    """Sums of many classes leave the range of float16."""
    family(1.0, logits=torch.zeros(70_000).half(), validate_args=True)
    family(1.0, torch.full((70_000,), 2.0).half(), validate_args=True)
    with pytest.raises(ValueError, match="total weight in every row"):
        family(1.0, logits=torch.full((3,), math.inf).half(), validate_args=True)
