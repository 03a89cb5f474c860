# SPDX-License-Identifier: Apache-2.0
"""nn.GumbelSelector."""

import copy
import io

import pytest
import torch
from common import assert_same_bits, make_key

from torch_gumbel import gumbel_subset
from torch_gumbel.nn import GumbelSelector
from torch_gumbel.schedules import TemperatureSchedule, linear

KEY = make_key(5)
X = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(2))


def test_training_multiplies_by_one_k_hot_and_evaluation_keeps_the_k_largest():
    layer = GumbelSelector(6, 2, tau=0.5, hard=True)
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([0.0, 3.0, 1.0, 3.0, -1.0, 3.0]))
    sample = gumbel_subset(layer.logits, 2, 0.5, hard=True, key=KEY)
    y = layer(X, key=KEY)
    assert_same_bits(y.detach(), (X * sample).detach())
    y.sum().backward()
    assert layer.logits.grad.abs().max() > 0
    assert layer.indices().tolist() == [1, 3]
    kept = torch.tensor([False, True, False, True, False, False])
    broken = X.masked_fill(~kept, torch.nan)
    assert torch.equal(layer.eval()(broken), X * kept)
    layer.eval_mode = "sample"
    assert_same_bits(layer(X, key=KEY).detach(), (X * sample).detach())
    soft = GumbelSelector(6, 2, tau=0.5, eval_mode="soft").eval()
    assert torch.allclose(soft(torch.ones(6)), torch.full((6,), 1 / 3))


def test_state_schedules_and_resets():
    layer = GumbelSelector(6, 2, TemperatureSchedule(linear, steps=10))
    layer.step()
    with torch.no_grad():
        layer.logits.normal_()
    saved = io.BytesIO()
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    other = GumbelSelector(6, 2, TemperatureSchedule(linear, steps=10))
    other.load_state_dict(torch.load(saved))
    assert torch.equal(other.logits, layer.logits) and torch.equal(other.tau, layer.tau)
    twin = copy.deepcopy(layer)
    layer.reset_parameters()
    assert (layer.logits == 0).all() and layer.tau == 1 and twin.tau < 1
    learned = GumbelSelector(6, 3, learnable_tau=True, dtype=torch.float64)
    learned(X.double(), key=KEY).square().sum().backward()
    assert learned.log_temperature.grad.abs() > 0
    assert "6, k=2, tau=1, hard=False, learnable_tau=False, eval_mode='topk'" in repr(layer)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1), ValueError, "num_features must be > 0, got 0"),
        ((4, 5), ValueError, r"k must be in \[1, 4\], got 5"),
        ((4, 0), ValueError, r"k must be in \[1, 4\], got 0"),
        ((4, 2.0), TypeError, "k must be an integer, got float"),
        ((4, 2, 0.0), ValueError, "tau must be > 0 and finite"),
        ((4, 2, 1.0, False, False, "argmax"), ValueError, "eval_mode must be one of"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^GumbelSelector: {message}"):
        GumbelSelector(*arguments)
    with pytest.raises(ValueError, match=r"^GumbelSelector: wanted an input of 4 features"):
        GumbelSelector(4, 2)(torch.zeros(3, 5))
