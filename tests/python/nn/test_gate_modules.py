# SPDX-License-Identifier: Apache-2.0
"""The modules and distributions of gates."""

import copy
import io
import math
import pickle

import pytest
import torch
from common import DTYPES, assert_same_bits, make_key
from scipy import integrate
from torch.distributions import kl_divergence

from torch_gumbel import gumbel_sigmoid, hard_concrete, hard_concrete_penalty
from torch_gumbel.distributions import LogitRelaxedBernoulli, RelaxedBernoulli
from torch_gumbel.nn import GumbelSigmoid, HardConcrete
from torch_gumbel.schedules import TemperatureSchedule, linear

KEY = make_key(5)
X = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
FAMILIES = [LogitRelaxedBernoulli, RelaxedBernoulli]
families = pytest.mark.parametrize("family", FAMILIES)


def test_the_layer_samples_in_training_and_thresholds_in_evaluation():
    layer = GumbelSigmoid(0.5, hard=True, threshold=0.3)
    assert_same_bits(layer(X, key=KEY), gumbel_sigmoid(X, 0.5, True, 0.3, key=KEY))
    x = X.clone().requires_grad_()
    y = layer.eval()(x)
    assert torch.equal(y, (X.sigmoid() > 0.3).float()) and not y.requires_grad
    assert layer(torch.tensor([math.nan])).isnan().all()
    soft = GumbelSigmoid(0.5, eval_mode="soft").eval()
    ends = torch.tensor([-math.inf, -1.0, math.inf], requires_grad=True)
    soft(ends).sum().backward()
    assert soft(ends).tolist() == pytest.approx([0, 1 / (1 + math.exp(2)), 1])
    assert ends.grad[0] == 0 and ends.grad[2] == 0 and ends.grad[1] > 0
    sample = GumbelSigmoid(0.5, eval_mode="sample").eval()
    assert_same_bits(sample(X, key=KEY), gumbel_sigmoid(X, 0.5, key=KEY))


def test_its_temperature_is_annealed_learned_and_saved():
    schedules = [TemperatureSchedule(linear, tau0=1.0, tau_min=0.5, steps=2) for _ in range(2)]
    layer, loaded = (GumbelSigmoid(schedule) for schedule in schedules)
    layer.step(), layer.step()
    assert layer.tau.item() == 0.5
    loaded.load_state_dict(layer.state_dict())
    assert loaded.tau.item() == 0.5
    learned = GumbelSigmoid(learnable_tau=True)
    learned(X).sum().backward()
    assert learned.log_temperature.grad.abs().item() > 0
    assert "threshold=0.5" in repr(layer) and "tau=learned" in repr(learned)
    for arguments, message in (
        ({"threshold": 1}, r"threshold must be in \(0, 1\)"),
        ({"tau": 0}, "tau must be > 0"),
        ({"eval_mode": "argmax"}, "eval_mode must be one of threshold, soft, sample"),
    ):
        with pytest.raises(ValueError, match=rf"^GumbelSigmoid: {message}"):
            GumbelSigmoid(**arguments)


def test_hard_concrete_gates_its_input_and_states_its_penalty():
    gates = HardConcrete((3, 4), init_open=0.7)
    assert [n for n, _ in gates.named_parameters()] == ["log_alpha"]
    assert gates.log_alpha.sigmoid().detach().allclose(torch.tensor(0.7))
    x = torch.randn(5, 3, 4)
    sampled = hard_concrete(gates.log_alpha, key=KEY)
    torch.testing.assert_close(gates(x, key=KEY), x * sampled)
    torch.testing.assert_close(gates.penalty(), hard_concrete_penalty(gates.log_alpha).sum())
    gates(x).sum().backward()
    assert gates.log_alpha.grad is not None
    with torch.no_grad():
        gates.log_alpha[0].fill_(-9.0)
        gates.log_alpha[1].fill_(0.0)
        gates.log_alpha[2].fill_(1.0)
    gates.eval()
    assert gates(torch.ones(3, 4))[:, 0].tolist() == pytest.approx([0, 0.5, 0.777270], abs=1e-6)
    assert gates.num_open() == 8 and gates(x.half()).dtype == torch.half
    assert_same_bits(gates(x), gates(x))  # no noise
    for arguments, message in (
        ({"init_open": 1.0}, "init_open must be in"),
        ({"lower": 0.0}, "lower must be < 0"),
        ({"upper": 0.5}, "upper must be >= 1"),
        ({"tau": -1.0}, "tau must be > 0"),
    ):
        with pytest.raises(ValueError, match=rf"^HardConcrete: {message}"):
            HardConcrete(3, **arguments)
    with pytest.raises(TypeError, match=r"^HardConcrete: shape must be an integer"):
        HardConcrete(3.5)


def test_gates_that_cost_more_than_they_help_close():
    torch.manual_seed(0)
    gates, weight = HardConcrete(8), torch.ones(8)
    weight[4:] = 0.0
    optimizer = torch.optim.Adam(gates.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss = ((1 - gates(torch.ones(64, 8), key=None)) ** 2 * weight).sum(-1).mean()
        (loss + 0.05 * gates.penalty()).backward()
        optimizer.step()
    assert (gates.test_gate() > 0).tolist() == [True] * 4 + [False] * 4


@families
def test_the_density_integrates_to_one(family):
    for logit, tau in ((0.3, 0.5), (-1.0, 2.0)):
        made = family(tau, logits=torch.tensor(logit, dtype=torch.float64), validate_args=True)
        ends = (0, 1) if family is RelaxedBernoulli else (-80, 80)
        mass, _ = integrate.quad(
            lambda z, made=made: made.log_prob(torch.tensor(z, dtype=torch.float64)).exp().item(),
            *ends, points=[0.01, 0.5, 0.99] if ends[1] == 1 else [0.0], limit=400,
        )  # fmt: skip
        assert mass == pytest.approx(1, abs=1e-6)


@families
def test_log_prob_is_that_of_torch_inside_and_finite_at_the_ends(family):
    theirs = getattr(torch.distributions, family.__name__, None)
    if theirs is None:
        from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli as theirs
    logits, tau = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor(0.7)
    ours, value = family(tau, logits=logits), torch.tensor([0.2, 0.5, 0.9])
    torch.testing.assert_close(ours.log_prob(value), theirs(tau, logits=logits).log_prob(value))
    assert isinstance(ours, theirs)
    far = torch.tensor([0.0, 1.0]) if family is RelaxedBernoulli else torch.tensor([-1e30, 1e30])
    for dtype in DTYPES:
        if dtype == torch.float16 and family is LogitRelaxedBernoulli:
            continue
        made = family(0.05, logits=torch.zeros(2, dtype=dtype))
        assert made.log_prob(far.to(dtype)).isfinite().all()
    gone = family(0.5, probs=torch.tensor([0.0, 1.0]), validate_args=True)
    ends = gone.sample((100,))
    assert (ends == (far if family is RelaxedBernoulli else far * math.inf)).all()


@families
def test_draws_have_their_shapes_keys_and_gradients(family):
    logits = torch.zeros(3, 2, requires_grad=True)
    tau = torch.tensor([[0.5], [1.0], [2.0]], requires_grad=True)
    made = family(tau, logits=logits)
    drawn = made.rsample((4,), key=KEY)
    assert drawn.shape == (4, 3, 2) and not made.sample(key=KEY).requires_grad
    drawn.sum().backward()
    assert logits.grad.abs().sum() > 0 and tau.grad.abs().sum() > 0
    assert made.expand((5, 3, 2)).sample().shape == (5, 3, 2)
    assert_same_bits(made.sample((4,), key=KEY), drawn.detach())
    before = torch.get_rng_state()
    made.sample(generator=torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)
    for copied in (
        copy.deepcopy(family(0.5, logits=X)),
        pickle.loads(pickle.dumps(family(0.5, logits=X))),
    ):
        assert_same_bits(copied.sample(key=KEY), family(0.5, logits=X).sample(key=KEY))
    assert family(0.5, 0.3).sample().shape == ()


def test_the_logit_is_that_of_the_gate_of_the_same_key():
    x = torch.linspace(-3, 3, 1000)
    y = RelaxedBernoulli(0.8, logits=x).sample(key=KEY)
    z = LogitRelaxedBernoulli(0.8, logits=x).sample(key=KEY)
    torch.testing.assert_close(z.sigmoid(), y, rtol=1e-5, atol=1e-6)
    assert LogitRelaxedBernoulli(0.01, logits=torch.zeros(100_000)).sample().isfinite().all()


@families
def test_the_divergence_at_one_temperature_has_its_closed_value(family):
    p, half = (family(0.7, probs=torch.tensor(v, dtype=torch.float64)) for v in (0.75, 0.5))
    assert kl_divergence(p, half).item() == pytest.approx(0.19722458, abs=1e-8)
    near = family(0.7, logits=torch.tensor(1e-3, dtype=torch.float64))
    assert kl_divergence(near, half).item() == pytest.approx(1e-6 / 6, rel=1e-6)
    assert kl_divergence(p, p) == 0
    leaf = torch.tensor([0.0, 0.05, 3.0], dtype=torch.float64, requires_grad=True)
    zero = family(0.7, logits=torch.zeros(3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: kl_divergence(family(0.7, logits=x), zero), (leaf,))
    with pytest.raises(NotImplementedError, match="different temperatures"):
        kl_divergence(p, family(0.5, probs=torch.tensor(0.5)))


@families
def test_moments_without_a_closed_form_name_the_distribution_of_the_rounded_sample(family):
    probs = torch.tensor([0.2, 1.0])
    made = family(0.7, probs=probs)
    for name in ("mean", "variance", "stddev", "entropy"):
        with pytest.raises(NotImplementedError, match=rf"^{family.__name__}: .* \.bernoulli$"):
            value = getattr(made, name)
            value()
    torch.testing.assert_close(made.bernoulli.mean, probs)
    assert made.expand((3, 2)).bernoulli.batch_shape == (3, 2)


@families
def test_wrong_parameters_are_named(family):
    who, value = family.__name__, torch.zeros(3)
    for error, message, arguments in (
        (ValueError, "one of probs and logits is wanted", {}),
        (ValueError, "probs must be in", {"probs": value + 2}),
        (ValueError, "logits must be numbers", {"logits": value * math.nan}),
        (ValueError, "temperature must", {"temperature": -1.0, "logits": value}),
        (
            ValueError,
            "temperature must have one value",
            {"temperature": value[:2] + 1, "logits": value},
        ),
        (TypeError, "logits must be a floating point tensor", {"logits": value.int()}),
    ):
        with pytest.raises(error, match=f"^{who}: {message}"):
            family(**{"temperature": 1.0, "validate_args": True, **arguments})


def test_modules_are_saved_whole():
    gates = HardConcrete(3, tau=0.5)
    file = io.BytesIO()
    torch.save(gates, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert_same_bits(loaded.sample(key=KEY), gates.sample(key=KEY))
