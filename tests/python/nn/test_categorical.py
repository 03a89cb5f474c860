# SPDX-License-Identifier: Apache-2.0
"""distributions.Categorical: draws, masks, log-probabilities, entropies, and divergences."""

import math

import pytest
import torch
from common import HALVES, make_key
from compiling import compiled
from torch.distributions import kl_divergence
from torch.func import vmap

from torch_gumbel import gumbel_argmax, split
from torch_gumbel.distributions import Categorical

KEY = make_key(5)
INF = math.inf
MASK = torch.tensor([[True, False, True, True, False]]).expand(4, 5)


@pytest.fixture(autouse=True)
def validation():
    """The default of a new process; torch.compile disables it."""
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(True)
    yield
    torch.distributions.Distribution.set_default_validate_args(before)


def some_logits(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def masked(x):
    return torch.where(MASK, x, -INF)


def test_it_has_the_values_of_torch():
    x = some_logits(4, 5)
    for ours, theirs in [
        (Categorical(logits=x), torch.distributions.Categorical(logits=x)),
        (Categorical(x.exp()), torch.distributions.Categorical(x.exp())),
        (
            Categorical(logits=x).expand((3, 4)),
            torch.distributions.Categorical(logits=x.expand(3, 4, 5)),
        ),
    ]:
        assert isinstance(ours, torch.distributions.Categorical)
        for name in ("probs", "logits", "mode", "batch_shape", "event_shape", "param_shape"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), msg=name)
        torch.testing.assert_close(ours.entropy(), theirs.entropy())
        assert torch.equal(ours.enumerate_support(), theirs.enumerate_support())
        assert ours.mean.isnan().all() and ours.has_enumerate_support
        for value in (theirs.sample(), theirs.sample((7,)), theirs.sample((2, 3)), torch.tensor(1)):
            torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value))


def test_masked_classes_are_exactly_absent():
    x = some_logits(4, 5).requires_grad_()
    for q in (Categorical(logits=x, mask=MASK), Categorical(x.exp(), mask=MASK[0])):
        assert (q.probs[~MASK] == 0).all() and (q.logits[~MASK] == -INF).all()
        assert MASK.gather(1, q.mode[:, None]).all()
        draws = q.sample((20_000,), key=KEY)
        assert MASK[0][draws].all() and set(draws.unique().tolist()) == {0, 2, 3}
        value = torch.tensor([0, 1, 2, 4])
        assert torch.equal(q.log_prob(value) == -INF, torch.tensor([False, True, False, True]))
        several = q.log_prob(value.expand(3, 4))
        torch.testing.assert_close(several, q.log_prob(value).expand(3, 4))
        right = torch.distributions.Categorical(logits=x[:, [0, 2, 3]])
        torch.testing.assert_close(q.entropy(), right.entropy())
        total = q.log_prob(value)[[0, 2]].sum() + q.entropy().sum() + several[:, [0, 2]].sum()
        (at_x,) = torch.autograd.grad(total, x)
        assert at_x.isfinite().all() and (at_x[~MASK] == 0).all() and (at_x[MASK] != 0).all()


def test_one_draw_is_gumbel_argmax_and_many_are_a_function_of_the_key():
    x = some_logits(4, 5)
    q = Categorical(logits=x)
    assert torch.equal(q.sample(key=KEY), gumbel_argmax(x, key=KEY))
    assert torch.equal(q.sample((1, 1), key=KEY)[0, 0], gumbel_argmax(x, key=KEY))
    many = q.sample((2, 500), key=KEY)
    assert many.shape == (2, 500, 4) and many.dtype == torch.int64
    assert torch.equal(many, q.sample((2, 500), key=KEY))
    keys = split(KEY, 4)
    each = q.sample((100,), key=keys)
    alone = [Categorical(logits=x[i]).sample((100,), key=keys[i]) for i in range(4)]
    assert torch.equal(each, torch.stack(alone, 1))
    ours, theirs = (torch.Generator().manual_seed(7) for _ in range(2))
    assert torch.equal(q.sample((9,), generator=ours), q.sample((9,), generator=theirs))
    assert not torch.equal(q.sample((9,), generator=ours), q.sample((9,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=str)
def test_many_draws_have_their_probabilities(dtype):
    """Chi-squared of 200,000 draws of each of 3 rows; false alarms 1e-9 a row."""
    x, n = (2 * some_logits(3, 8)).to(dtype), 200_000
    draws = Categorical(logits=x).sample((n,), key=KEY)
    p = x.double().softmax(-1)
    for row in range(3):
        counts = draws[:, row].bincount(minlength=8).double()
        assert ((counts - n * p[row]) ** 2 / (n * p[row])).sum() < 60
    wrong = draws[:, 0].clone()
    wrong[: n // 50] = 0  # and the test sees a fault of 2 %
    counts = wrong.bincount(minlength=8).double()
    assert ((counts - n * p[0]) ** 2 / (n * p[0])).sum() > 60


def test_a_draw_of_a_row_without_a_distribution_is_class_0():
    x = torch.zeros(3, 4)
    x[0, 2], x[1] = math.nan, -INF
    draws = Categorical(logits=x, validate_args=False).sample((50,), key=KEY)
    assert (draws[:, :2] == 0).all() and draws[:, 2].unique().tolist() == [0, 1, 2, 3]
    one = torch.full((4,), -INF)
    one[3] = -1e30  # the only class, at the very end of the sums
    assert (Categorical(logits=one).sample((1000,), key=KEY) == 3).all()


def test_divergences_are_exact_with_masks():
    x, y = some_logits(4, 5), some_logits(3, 4, 5)[2]
    theirs = torch.distributions.Categorical
    wanted = kl_divergence(theirs(logits=x), theirs(logits=y))
    for p in (Categorical(logits=x), theirs(logits=x)):
        for q in (Categorical(logits=y), theirs(logits=y)):
            torch.testing.assert_close(kl_divergence(p, q), wanted)
    p, q = Categorical(logits=x, mask=MASK), Categorical(logits=y)
    inside = kl_divergence(p, q)
    right = (p.probs * (p.logits - q.logits).masked_fill(~MASK, 0)).sum(-1)
    torch.testing.assert_close(inside, right)
    assert (kl_divergence(q, p) == INF).all()
    assert kl_divergence(p, theirs(logits=y).expand((2, 4))).shape == (2, 4)
    far = [torch.tensor([0.0, -200.0]), torch.tensor([-200.0, 0.0])]
    both = [Categorical(logits=each) for each in far]
    assert kl_divergence(*both).item() == pytest.approx(200)
    leaves = [t.clone().requires_grad_() for t in (x, y)]
    a, b = (Categorical(logits=t, mask=MASK) for t in leaves)
    kl_divergence(a, b).sum().backward()
    for leaf in leaves:
        assert leaf.grad.isfinite().all() and (leaf.grad[~MASK] == 0).all()


def test_parameters_are_checked():
    x = torch.zeros(2, 3)
    for error, words, arguments in [
        (ValueError, "one of probs and logits is wanted", {}),
        (ValueError, "one of probs and logits is wanted", {"probs": x.exp(), "logits": x}),
        (TypeError, "logits must be a floating point tensor, got list", {"logits": [0.0]}),
        (TypeError, "probs must be a floating point tensor", {"probs": x.long()}),
        (ValueError, "logits must have a dimension of classes", {"logits": torch.tensor(0.0)}),
        (ValueError, "logits must be without NaN", {"logits": x * math.nan}),
        (ValueError, "an allowed class", {"logits": x, "mask": x > 0}),
        (ValueError, "probs must be not negative", {"probs": torch.tensor([0.5, -0.1, 0.6])}),
        (ValueError, "probs must be not negative and finite, with an allowed", {"probs": x}),
        (ValueError, "probs must be not negative and finite", {"probs": x + INF}),
        (TypeError, "mask must be a bool tensor, got torch.float32", {"logits": x, "mask": x}),
        (TypeError, "mask must be a bool tensor, got list", {"logits": x, "mask": [True]}),
        (ValueError, r"mask must broadcast.*\[4\]", {"logits": x, "mask": torch.ones(4).bool()}),
    ]:
        with pytest.raises(error, match=f"^Categorical: .*{words}"):
            Categorical(**arguments)
    Categorical(logits=x * math.nan, validate_args=False)
    with pytest.raises(ValueError, match="within the support"):
        Categorical(logits=x).log_prob(torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="not broadcastable"):
        Categorical(logits=x).log_prob(torch.tensor([0, 1, 2]))


def test_half_types_are_scored_in_float32():
    for dtype in HALVES:
        q = Categorical(logits=some_logits(4, 5).to(dtype))
        assert q.log_prob(q.mode).dtype == q.entropy().dtype == torch.float32


def test_under_vmap_it_is_a_loop():
    x, keys = some_logits(3, 4, 5), split(KEY, 3)

    def all_of(x, key):
        q = Categorical(logits=x, mask=MASK)
        index = q.sample(key=key)
        return index, q.sample((6,), key=key), q.log_prob(index), q.entropy(), q.mode

    got = vmap(all_of)(x, keys)
    for i in range(3):
        for value, wanted in zip(got, all_of(x[i], keys[i]), strict=True):
            torch.testing.assert_close(value[i], wanted)


def test_compiled_it_equals_eager():
    def loss(x):
        q = Categorical(logits=x, mask=MASK, validate_args=True)
        index = q.sample(key=KEY)
        return q.log_prob(index).sum() + q.entropy().sum(), q.sample((5,), key=KEY)

    x = some_logits(4, 5, dtype=torch.float32).requires_grad_()
    (got, draws), (wanted, others) = compiled(loss)(x), loss(x)
    torch.testing.assert_close(got, wanted)
    assert torch.equal(draws, others)
    grads = [torch.autograd.grad(value, x)[0] for value in (got, wanted)]
    torch.testing.assert_close(*grads)
