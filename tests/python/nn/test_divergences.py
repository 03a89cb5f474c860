# SPDX-License-Identifier: Apache-2.0
"""kl_divergence between distributions of torch_gumbel and of torch."""

import math

import pytest
import torch
from test_distributions import doubles, one_hot
from torch.distributions import kl_divergence

from torch_gumbel.distributions import Gumbel, RelaxedOneHotCategorical


def test_the_divergence_of_one_hots_is_that_of_torch():
    p, q = torch.rand(5, 7, dtype=torch.float64), torch.rand(5, 7, dtype=torch.float64)
    theirs = torch.distributions.OneHotCategorical
    wanted = kl_divergence(theirs(p), theirs(q))
    for a, b in [
        (one_hot(0.5, p), one_hot(2.0, q)),
        (one_hot(0.5, p), theirs(q)),
        (theirs(p), one_hot(1, q)),
    ]:
        torch.testing.assert_close(kl_divergence(a, b), wanted)
    loc, scale = doubles([0.0, 1.0]), doubles([1.0, 2.0])
    torch.testing.assert_close(
        kl_divergence(Gumbel(loc, 1.0), Gumbel(0.0, scale)),
        kl_divergence(torch.distributions.Gumbel(loc, 1.0), torch.distributions.Gumbel(0.0, scale)),
    )


def test_a_divergence_with_zeros_is_finite_and_so_is_its_gradient():
    p = doubles([0.5, 0.0, 0.5], requires_grad=True)
    q = doubles([0.25, 0.0, 0.75], requires_grad=True)
    value = kl_divergence(one_hot(1.0, p), one_hot(1.0, q))
    assert value.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    value.backward()
    assert p.grad.isfinite().all() and q.grad.isfinite().all()
    wider = one_hot(1.0, doubles([0.5, 0.1, 0.4]))
    assert kl_divergence(wider, one_hot(1.0, q)) == math.inf
    far = one_hot(1.0, logits=torch.tensor([0.0, -200.0]))
    other = one_hot(1.0, logits=torch.tensor([-200.0, 0.0]))
    assert kl_divergence(far, other).item() == pytest.approx(200)


def test_a_relaxed_divergence_is_not_made_up():
    made = RelaxedOneHotCategorical(0.5, doubles([0.5, 0.5]))
    with pytest.raises(NotImplementedError):
        kl_divergence(made, made)
    with pytest.raises(NotImplementedError):
        made.entropy()


def test_zeros_are_where_probabilities_are_zero():
    """torch's distributions have the logit log(eps) there."""
    theirs = torch.distributions.OneHotCategorical
    sure, half = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    for p in (theirs(sure), one_hot(1.0, sure), one_hot(1.0, logits=sure.log())):
        for q in (theirs(sure), one_hot(1.0, sure), one_hot(1.0, logits=sure.log())):
            if theirs not in (type(p), type(q)) or type(p) is not type(q):
                assert kl_divergence(p, q).abs() < 1e-6
                assert kl_divergence(one_hot(1.0, half), q) == math.inf
    ours = one_hot(1.0, torch.tensor([0.2, 0.3, 0.5]))
    assert kl_divergence(ours, theirs(torch.tensor([0.5, 0.5, 0.0]))) == math.inf
    far = theirs(logits=torch.tensor([0.0, -200.0]))  # that underflows is not zero
    assert kl_divergence(one_hot(1.0, half), far).item() == pytest.approx(100 - math.log(2), 1e-5)
