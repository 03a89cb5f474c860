# SPDX-License-Identifier: Apache-2.0
"""sample_one_hot: the draw, the mix, special rows, derivatives, errors, and its other places."""

import pytest
import torch
from common import DTYPES, assert_same_bits, make_key
from torch.distributions import OneHotCategoricalStraightThrough as OfTorch
from torch.utils.checkpoint import checkpoint

import torch_gumbel as tg
from torch_gumbel import gumbel_argmax, gumbel_softmax, sample_one_hot
from torch_gumbel.distributions import OneHotCategoricalStraightThrough
from torch_gumbel.estimators import ESTIMATORS

KEY = make_key(5)
MAKE = torch.Generator().manual_seed(1)
OWN = [e for e in ESTIMATORS if e not in ("gumbel", "decoupled")]
SMOOTH = [e for e in OWN if e != "gumbel-rao"]
estimators = pytest.mark.parametrize("estimator", ESTIMATORS)


def some(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=MAKE, dtype=torch.float64).to(dtype)


def gradient(z, x, g):
    return torch.autograd.grad(z, x, g, retain_graph=True)[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@estimators
def test_it_is_exactly_one_hot_at_the_class_of_gumbel_argmax(estimator, dtype):
    for shape, dim in [((50, 7), 1), ((4, 33, 20), 1), ((3, 400), -1), ((2, 9000), 1), ((), 0)]:
        x = some(*shape, dtype=dtype)
        wanted = gumbel_argmax(x, dim, key=KEY)
        for leaf in (x, x.clone().requires_grad_()):
            z, index = sample_one_hot(leaf, estimator, dim=dim, return_index=True, key=KEY)
            assert torch.equal(index, wanted) and z.dtype == dtype and z.is_contiguous()
            assert z.requires_grad == leaf.requires_grad
            classes = max(x.dim() and x.shape[dim], 1)
            one_hot = torch.nn.functional.one_hot(wanted, classes).movedim(-1, dim)
            assert torch.equal(z.reshape(one_hot.shape), one_hot.to(dtype))
    hot = sample_one_hot(some(9, 5), "decoupled", tau_forward=0.3, return_index=True, key=KEY)
    assert torch.equal(hot[0].argmax(-1), hot[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_logits_kept_for_the_backward_are_a_copy_of_any_layout(dtype):
    """Also of outputs that are stored nontemporally, at and off the boundaries of cache lines."""
    tau = torch.tensor(1.0, dtype=torch.float64)
    shapes = [(6, 7), (50, 100), (2, 9000), (3, 33, 20), (5, 4, 16, 3), (0, 3), (1, 5)]
    large = [(700, 4099), (250, 9001)] if dtype is torch.float32 else []
    for shape in shapes + large:
        x = some(*shape, dtype=dtype)
        for given in (x, x[1:], x[..., 1:], x.mT, x.flatten()[1:-1].view(1, -1)):
            for dim in {0, given.dim() - 1}:
                if given.shape[dim] == 0:
                    continue
                call = (given, tau, KEY, dim, "zgr")
                z, kept, index = torch.ops.torch_gumbel._sample_one_hot(*call, keep=True)
                assert_same_bits(kept, given.contiguous())
                assert kept.is_contiguous() and (not x.numel() or kept.data_ptr() != x.data_ptr())
                plain = torch.ops.torch_gumbel._sample_one_hot(*call)
                assert torch.equal(plain[0], z) and torch.equal(plain[2], index)
                assert plain[1].numel() == 0 and plain[1].dtype == dtype
    wide = torch.ops.torch_gumbel._sample_one_hot(*call, dtype=torch.float64, keep=True)
    assert_same_bits(wide[1], given.contiguous())
    assert wide[0].dtype == torch.float64


@estimators
def test_an_edit_of_the_logits_after_the_draw_changes_no_gradient(estimator):
    x, g = some(9, 40), some(9, 40)
    leaf, edited = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted = gradient(sample_one_hot(leaf, estimator, key=KEY), leaf, g)
    z = sample_one_hot(edited, estimator, key=KEY)
    with torch.no_grad():
        edited.zero_()
    assert_same_bits(gradient(z, edited, g), wanted)


@estimators
def test_a_mix_is_drawn_and_differentiated_as_such(estimator):
    x = some(40, 6).double()
    x[:, 4] = -torch.inf
    x.requires_grad_()
    open_classes = torch.tensor([1.0, 1, 1, 1, 0, 1]).double()
    mix = 0.75 * x.softmax(-1) + 0.25 * open_classes / 5
    logits = mix.masked_fill(open_classes == 0, 1).log().masked_fill(open_classes == 0, -torch.inf)
    z, index = sample_one_hot(x, estimator, uniform_mix=0.25, return_index=True, key=KEY)
    assert torch.equal(index, gumbel_argmax(logits.detach(), key=KEY)) and not (index == 4).any()
    g = some(40, 6).double()
    wanted = gradient(sample_one_hot(logits, estimator, key=KEY), x, g)
    torch.testing.assert_close(gradient(z, x, g), wanted)
    assert wanted.isfinite().all() and (wanted[:, 4] == 0).all()


def test_straight_through_is_torchs_gradient():
    """And exactly one-hot, as the sum without parentheses, sample + probs - probs, is not."""
    g = some(1000, 12)
    for name in ("logits", "probs"):
        given = some(1000, 12) if name == "logits" else some(1000, 12).softmax(-1)
        ours, theirs = (given.clone().requires_grad_() for _ in range(2))
        z = OneHotCategoricalStraightThrough(**{name: ours}).rsample(key=KEY)
        torch.manual_seed(0)
        of_torch = OfTorch(**{name: theirs}).rsample()
        torch.testing.assert_close(gradient(z, ours, g), gradient(of_torch, theirs, g),
                                   atol=1e-6, rtol=1e-6)  # fmt: skip
        assert set(z.unique().tolist()) == {0.0, 1.0}
        probs = given.softmax(-1)
        without_parentheses = z.detach() + probs - probs
        assert not torch.equal(without_parentheses, z)


def test_distributions_have_an_estimator_by_name():
    x, g = some(9, 4).requires_grad_(), some(3, 9, 4)
    for estimator in ESTIMATORS:
        q = OneHotCategoricalStraightThrough(logits=x, estimator=estimator).expand((9,))
        z = q.rsample((3,), key=KEY)
        wanted = sample_one_hot(
            x.expand(3, 9, 4), estimator, None if estimator == "zgr" else 1.0, key=KEY
        )
        assert_same_bits(z, wanted)
        torch.testing.assert_close(gradient(z, x, g), gradient(wanted, x, g))
    with pytest.raises(ValueError, match=r"estimator must be one of .*, got 'best'"):
        OneHotCategoricalStraightThrough(logits=x, estimator="best")


@pytest.mark.parametrize("estimator", OWN)
def test_modules_and_lookups_have_an_estimator_by_name(estimator):
    x, codes = some(9, 4).requires_grad_(), some(4, 3).requires_grad_()
    tau = None if estimator == "zgr" else 1.0
    z = sample_one_hot(x, estimator, tau, key=KEY)
    layer = tg.nn.GumbelSoftmax(hard=True, estimator=estimator)
    assert_same_bits(layer(x, key=KEY), z)
    assert estimator in repr(layer)
    got, index = tg.straight_through_lookup(
        x, codes, estimator=estimator, return_index=True, key=KEY
    )
    wanted, g = z @ codes, some(9, 3)
    torch.testing.assert_close(got, wanted)
    assert torch.equal(index, z.argmax(-1))
    for leaf in (x, codes):
        torch.testing.assert_close(gradient(got, leaf, g), gradient(wanted, leaf, g))
    for options in ({}, {"hard": True, "recompute": True}):
        with pytest.raises(ValueError, match="estimator is an argument of hard samples"):
            tg.nn.GumbelSoftmax(estimator=estimator, **options)
    with pytest.raises(ValueError, match="estimator is an argument of hard lookups"):
        tg.straight_through_lookup(x, codes, hard=False, estimator=estimator)


@estimators
def test_masks_have_no_gradient_and_undefined_rows_are_nan(estimator):
    x = some(6, 40)
    x[0, 3], x[1], x[2, 5], x[3, 6] = -torch.inf, -torch.inf, torch.nan, torch.inf
    x.requires_grad_()
    z, index = sample_one_hot(x, estimator, return_index=True, key=KEY)
    got = gradient(z, x, some(6, 40))
    assert z[1:4].isnan().all() and (index[1:4] == 0).all()
    assert got[1:4].isnan().all() and got[[0, 4, 5]].isfinite().all() and got[0, 3] == 0
    torch.testing.assert_close(got[[0, 4, 5]].sum(-1), torch.zeros(3), atol=1e-5, rtol=0)


@estimators
def test_logits_may_be_edited_before_the_backward(estimator):
    x, g = some(20, 33), some(20, 33)
    leaf = x.clone().requires_grad_()
    wanted = gradient(sample_one_hot(leaf, estimator, key=KEY), leaf, g)
    hidden = leaf * 1
    z = sample_one_hot(hidden, estimator, key=KEY)
    hidden.data.fill_(7)
    with torch.no_grad():
        hidden.mul_(2)
    z.mul_(3)
    torch.testing.assert_close(gradient(z, leaf, g / 3), wanted)


def of_gapped(x, g, tau):
    """The gradient of gap 1 by its definition."""
    index = gumbel_argmax(x.detach(), key=KEY)[:, None]
    top = x.detach().amax(-1, keepdim=True)
    moved = x.detach().minimum(top - 1).scatter(-1, index, top)
    y = ((x + (moved - x).detach()) / tau).softmax(-1)
    return y * (g - (y * g).sum(-1, keepdim=True)) / tau


@pytest.mark.parametrize("estimator", [*SMOOTH, "gumbel", "decoupled"])
def test_derivatives_of_the_surrogate_exist_to_second_order_and_forward(estimator):
    """The sample is constant, and its surrogate's Jacobian symmetric: the tangent is the gradient
    at the tangent."""
    x, g, v = (some(3, 5).double().requires_grad_() for _ in range(3))
    tau = None if estimator == "zgr" else torch.tensor(1.4).double().requires_grad_()

    def first(x, g, *tau):
        z = sample_one_hot(x, estimator, *tau, key=KEY)
        return torch.autograd.grad(z, x, g, create_graph=True)[0]

    leaves = (x, g) if tau is None else (x, g, tau.detach() if estimator == "reinmax" else tau)
    if estimator == "gapped":  # whose constants a difference quotient would move
        got = torch.autograd.grad((first(*leaves) * v).sum(), leaves)
        wanted = torch.autograd.grad((of_gapped(*leaves) * v).sum(), leaves)
        torch.testing.assert_close(got, wanted)
    else:
        torch.autograd.gradcheck(first, leaves)
    _, tangent = torch.func.jvp(
        lambda x: sample_one_hot(x, estimator, *(leaves[2:]), key=KEY), (x,), (v,)
    )
    torch.testing.assert_close(tangent, first(x, v, *leaves[2:]))


def test_a_temperature_has_the_gradient_of_its_surrogate():
    x, g = some(6, 9).double(), some(6, 9).double()
    tau = torch.rand(6, 1, generator=MAKE).double().add(0.5).requires_grad_()
    (got,) = torch.autograd.grad(sample_one_hot(x, tau=tau, key=KEY), tau, g)
    (wanted,) = torch.autograd.grad((x / tau).softmax(-1), tau, g)
    torch.testing.assert_close(got, wanted)
    _, tangent = torch.func.jvp(
        lambda t: sample_one_hot(x, tau=t, key=KEY), (tau,), (torch.ones(6, 1).double(),)
    )
    torch.testing.assert_close((tangent * g).sum(-1, keepdim=True), wanted)


def test_gumbel_rao_has_second_derivatives_at_the_incoming_gradient_alone():
    x, g = some(3, 5).double().requires_grad_(), some(3, 5).double().requires_grad_()
    z = sample_one_hot(x, "gumbel-rao", 0.7, key=KEY)
    (first,) = torch.autograd.grad(z, x, g, create_graph=True)
    v = some(3, 5).double()
    torch.testing.assert_close(gradient(first, g, v), gradient(z, x, v))
    with pytest.raises(NotImplementedError, match=r'^sample_one_hot: "gumbel-rao" has no second'):
        gradient(first, x, v)
    _, tangent = torch.func.jvp(
        lambda x: sample_one_hot(x, "gumbel-rao", 0.7, key=KEY), (x.detach(),), (v,)
    )
    torch.testing.assert_close(tangent, gradient(z, x, v))


@estimators
def test_checkpoint_repeats_the_draw_and_the_gradient(estimator):
    x, g = some(9, 6).requires_grad_(), some(9, 6)

    def draw(x):
        return sample_one_hot(x, estimator, key=KEY)

    again = checkpoint(draw, x, use_reentrant=False)
    assert_same_bits(gradient(again, x, g), gradient(draw(x), x, g))


@pytest.mark.parametrize("estimator", ["gumbel-rao", "zgr", "decoupled"])
def test_vmapped_gradients_are_those_of_a_loop(estimator):
    x, g, keys = some(4, 5, 6), some(4, 5, 6), tg.split(KEY, 4)

    def pullback(x, g, key):
        return torch.func.vjp(lambda x: sample_one_hot(x, estimator, key=key), x)[1](g)[0]

    got = torch.func.vmap(pullback)(x, g, keys)
    wanted = torch.stack([pullback(*each) for each in zip(x, g, keys, strict=True)])
    torch.testing.assert_close(got, wanted)


ERRORS = [
    ({"estimator": "best"}, "estimator must be straight-through, .*, got best"),
    ({"estimator": "zgr", "tau": 1.0}, 'tau is no argument of estimator "zgr"'),
    ({"samples": 3}, 'samples is an argument of estimator "gumbel-rao", got 3 with "straight'),
    (
        {"estimator": "zgr", "gap": 2.0},
        'gap is an argument of estimator "gapped", got 2 with "zgr"',
    ),
    ({"estimator": "gumbel", "tau_forward": 2.0}, "tau_forward is an argument of .*decoupled"),
    ({"estimator": "gumbel-rao", "samples": 0}, "samples must be in"),
    ({"estimator": "gapped", "gap": -1.0}, "gap must be >= 0 and finite, got -1"),
    ({"estimator": "decoupled", "tau_forward": 0.0}, "tau_forward must be > 0 and finite, got 0"),
    ({"estimator": "reinmax", "tau": 0.5}, 'tau of "reinmax" must be >= 1, got 0.5'),
    ({"uniform_mix": 1.5}, r"uniform_mix must be in \[0, 1\], got 1.5"),
    ({"tau": -1.0}, "tau must be > 0 and finite, got -1"),
]


@pytest.mark.parametrize(("options", "message"), ERRORS)
def test_what_an_estimator_does_not_use_is_refused_and_nothing_is_drawn(options, message):
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=f"^sample_one_hot: {message}"):
        sample_one_hot(some(2, 3), **options)
    with pytest.raises(IndexError, match=r"^sample_one_hot: wanted at least one class"):
        sample_one_hot(some(2, 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_temperatures_of_reinmax_below_1_in_a_tensor_leave_their_rows_undefined():
    x = some(2, 3).requires_grad_()
    z = sample_one_hot(x, "reinmax", torch.tensor([0.5, 1.5]), key=KEY)
    got = gradient(z, x, some(2, 3))
    assert z[0].isnan().all() and got[0].isnan().all() and got[1].isfinite().all()
    assert gumbel_softmax(x, hard=True, key=KEY)[1].tolist() == z[1].tolist()
