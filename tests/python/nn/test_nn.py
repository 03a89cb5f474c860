# SPDX-License-Identifier: Apache-2.0
"""The modules: what training and evaluation do, and that they are saved, copied, and moved."""

import copy
import io
import math

import pytest
import torch
from compiling import counted

from torch_gumbel import gumbel_softmax
from torch_gumbel import key as make_key
from torch_gumbel.nn import GumbelSoftmax, GumbelVectorQuantizer
from torch_gumbel.schedules import TemperatureSchedule, exponential

KEY = make_key(7)


def through_file(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dim", [-1, 0, 1])
def test_training_is_the_functional_call(hard, dim):
    x = torch.randn(4, 5, 6)
    layer = GumbelSoftmax(dim, tau=0.5, hard=hard)
    assert torch.equal(layer(x, key=KEY), gumbel_softmax(x, 0.5, hard, dim=dim, key=KEY))
    one, two = (torch.Generator().manual_seed(3) for _ in range(2))
    assert torch.equal(layer(x, generator=one), layer(x, generator=two))


@pytest.mark.parametrize("dim", [-1, 1])
def test_evaluation_has_the_output_of_its_mode(dim):
    x = torch.randn(4, 5, 6)
    argmax = GumbelSoftmax(dim, 0.5).eval()(x)
    assert torch.equal(argmax.argmax(dim), x.argmax(dim)) and (argmax.sum(dim) == 1).all()
    assert ((argmax == 0) | (argmax == 1)).all()
    soft = GumbelSoftmax(dim, 0.5, eval_mode="soft").eval()(x)
    torch.testing.assert_close(soft, (x / 0.5).softmax(dim))
    sample = GumbelSoftmax(dim, 0.5, hard=True, eval_mode="sample").eval()(x, key=KEY)
    assert torch.equal(sample, gumbel_softmax(x, 0.5, True, dim=dim, key=KEY))
    assert torch.equal(GumbelSoftmax().eval()(torch.zeros(1, 3)), torch.tensor([[1.0, 0.0, 0.0]]))


def test_evaluation_by_argmax_has_no_gradient_and_soft_has():
    x = torch.randn(3, 4, requires_grad=True)
    assert not GumbelSoftmax().eval()(x).requires_grad
    GumbelSoftmax(eval_mode="soft").eval()(x)[:, 0].sum().backward()
    assert (x.grad != 0).all()


def test_the_temperature_is_set_and_kept():
    layer = GumbelSoftmax(tau=2.0)
    layer.tau = 0.25
    x = torch.randn(3, 4)
    assert torch.equal(layer(x, key=KEY), gumbel_softmax(x, 0.25, key=KEY))
    fresh = GumbelSoftmax(tau=1.0)
    fresh.load_state_dict(through_file(layer))
    assert fresh.tau == 0.25 and list(fresh.state_dict()) == ["_extra_state"]
    assert not list(layer.parameters())


def test_a_learned_temperature_has_a_gradient_and_stays_positive():
    layer, x = GumbelSoftmax(tau=0.7, learnable_tau=True), torch.randn(50, 4)
    tau = torch.tensor(0.7, requires_grad=True)
    weights = torch.randn(4)
    (layer(x, key=KEY) * weights).sum().backward()
    (gumbel_softmax(x, tau, key=KEY) * weights).sum().backward()
    torch.testing.assert_close(layer.log_temperature.grad, tau.grad[None] * 0.7)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(
        20
    ):  # towards one-hot samples: without the logarithm, the temperature would become negative
        optimizer.zero_grad()
        layer(x).square().sum().neg().backward()
        optimizer.step()
    assert 0 < layer.tau < 0.2
    layer.tau = 0.5
    assert layer.tau.item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tau": 0}, ValueError, "GumbelSoftmax: tau must be > 0 and finite, got 0"),
        ({"tau": math.nan}, ValueError, "GumbelSoftmax: tau must be > 0 and finite, got nan"),
        ({"tau": "1"}, TypeError, "GumbelSoftmax: tau must be a number, got str"),
        ({"eval_mode": "mean"}, ValueError, "one of argmax, sample, soft, got 'mean'"),
    ],
)
def test_a_layer_refuses_invalid_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        GumbelSoftmax(**arguments)


def test_a_bad_temperature_is_refused_later_too_and_changes_nothing():
    layer = GumbelSoftmax(tau=0.5)
    for wrong in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="tau must be > 0 and finite"):
            layer.tau = wrong
    assert layer.tau == 0.5
    with pytest.raises(TypeError, match="logits are wanted, got none, and the layer holds none"):
        layer()


def test_layers_have_a_repr():
    assert repr(GumbelSoftmax(1, 0.5, True)) == (
        "GumbelSoftmax(dim=1, tau=0.5, hard=True, learnable_tau=False, eval_mode='argmax')"
    )
    held = GumbelSoftmax.from_probabilities(torch.full((2, 4), 0.25))
    assert repr(held).endswith("eval_mode='argmax', logits=[2, 4])")
    quantizer = GumbelVectorQuantizer(8, 5, 6, groups=2, tau=0.5)
    assert "num_codes=5, code_dim=6, groups=2, tau=0.5" in repr(quantizer)


@pytest.mark.parametrize("learnable", [False, True])
def test_a_layer_of_probabilities_draws_by_them(learnable):
    probs = torch.tensor([[0.5, 0.0, 0.5], [0.1, 0.2, 0.7]])
    layer = GumbelSoftmax.from_probabilities(probs, hard=True, learnable=learnable)
    assert torch.equal(layer(key=KEY), gumbel_softmax(probs.log(), hard=True, key=KEY))
    counts = sum(layer() for _ in range(4000)).detach()
    assert counts[0, 1] == 0
    expected = 4000 * probs
    z = (counts - expected) / (expected * (1 - probs)).clamp(min=1e-9).sqrt()
    assert z.abs().max() < 6
    assert [name for name, _ in layer.named_parameters()] == ["logits"] * learnable
    other = GumbelSoftmax.from_probabilities(torch.full((2, 3), 1 / 3), learnable=learnable)
    other.load_state_dict(through_file(layer))
    assert torch.equal(other.logits, layer.logits)
    assert torch.equal(layer.eval()()[1], torch.tensor([0.0, 0.0, 1.0]))
    if learnable:
        layer.train()().square().sum().backward()
        assert layer.logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("probs", "error", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.6]], ValueError, "sum to 1 within 0.0001, got a row of sum 1.1"),
        ([[0.5, 0.4998]], ValueError, "sum to 1 within 0.0001, got a row of sum 0.9998"),
        ([[-0.5, 1.5]], ValueError, "must not be negative or NaN"),
        ([[math.nan, 1.0]], ValueError, "must not be negative or NaN"),
        ([[math.inf, 1.0]], ValueError, "sum to 1 within 0.0001, got a row of sum inf"),
        ([0, 1], TypeError, "probs must be a floating point tensor, got torch.int64"),
    ],
)
def test_probabilities_that_are_none_are_refused(probs, error, message):
    with pytest.raises(error, match=message):
        GumbelSoftmax.from_probabilities(torch.tensor(probs))


def test_the_tolerance_and_the_dimension_are_those_given():
    GumbelSoftmax.from_probabilities(torch.tensor([0.5, 0.4998]), tolerance=1e-3)
    GumbelSoftmax.from_probabilities(torch.tensor([0.5, 0.49995]))
    columns = torch.tensor([[0.25, 1.0], [0.75, 0.0]])
    layer = GumbelSoftmax.from_probabilities(columns, dim=0, hard=True)
    assert torch.equal(layer().sum(0), torch.ones(2))
    with pytest.raises(ValueError, match="rows of probs must sum to 1"):
        GumbelSoftmax.from_probabilities(columns)


def modules():
    return {
        "layer": GumbelSoftmax(tau=0.5, hard=True),
        "learned": GumbelSoftmax(tau=0.5, learnable_tau=True),
        "of probabilities": GumbelSoftmax.from_probabilities(torch.tensor([0.2, 0.8])),
        "quantizer": GumbelVectorQuantizer(
            6, 5, 4, 2, TemperatureSchedule(exponential, tau0=2.0, rate=0.1)
        ),
    }


@pytest.mark.parametrize("name", modules())
def test_a_module_is_copied_pickled_and_moved(name):
    module, x = modules()[name], torch.randn(3, 6)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    arguments = () if name == "of probabilities" else (x,)
    wanted = module(*arguments, key=KEY)
    for other in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        got = other(*arguments, key=KEY)
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    moved = copy.deepcopy(module).to("meta")
    assert all(t.device.type == "meta" for t in [*moved.parameters(), *moved.buffers()])
    wide = copy.deepcopy(module).double()
    assert all(t.dtype == torch.float64 for t in [*wide.parameters(), *wide.buffers()])


def test_an_annealed_layer_is_compiled_once():
    layer, x = GumbelSoftmax(tau=1.0), torch.randn(8, 6)
    compiled, counter = counted(layer)
    for step in range(5):
        layer.tau = 1.0 / (step + 1)
        torch.testing.assert_close(compiled(x, key=KEY), layer(x, key=KEY))
    assert counter.frame_count == 1


@pytest.mark.parametrize("form", ["annealed", "learned", "parameter", "quantizer"])
def test_every_temperature_is_compiled_once(form):
    layer = GumbelSoftmax(tau=1.0, learnable_tau=form == "learned", hard=True, recompute=True)
    if form == "quantizer":
        layer = GumbelVectorQuantizer(6, 5, 4, 2, tau=1.0)
    if form == "parameter":
        layer.tau = torch.nn.Parameter(torch.tensor(1.0))
    x = torch.randn(8, 6)
    compiled, counter = counted(layer)
    for tau in (1.0, 0.5, 1e-50 if form != "parameter" else 0.1):
        layer.tau = tau
        torch.testing.assert_close(compiled(x, key=KEY), layer(x, key=KEY))
    assert counter.frame_count == 1


@pytest.mark.parametrize("strict", [True, False])
def test_a_layer_is_exported_with_its_temperature(strict):
    x = torch.randn(4, 5)
    exported = torch.export.export(GumbelSoftmax(tau=0.37), (x,), {"key": KEY}, strict=strict)
    assert torch.equal(exported.module()(x, key=KEY), gumbel_softmax(x, 0.37, key=KEY))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("moved", [True, False])
def test_a_captured_graph_follows_the_temperature(moved):
    layer, x = GumbelSoftmax(tau=1.0), torch.randn(8, 6, device="cuda")
    layer = layer.cuda() if moved else layer
    key, stream, graph = KEY.cuda(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        layer(x, key=key)
    with torch.cuda.graph(graph):
        y = layer(x, key=key)
    for tau in (1.0, 0.25, 1e-50, 1e300):
        layer.tau = tau
        graph.replay()
        assert torch.equal(y, layer(x, key=key))
        torch.testing.assert_close(y, gumbel_softmax(x, tau, key=key))


def test_recompute_is_passed_on():
    x = torch.randn(4, 5, requires_grad=True)
    names = {}
    for recompute in (False, True):
        y = GumbelSoftmax(hard=True, recompute=recompute)(x, key=KEY)
        wanted = gumbel_softmax(x, hard=True, recompute=recompute, key=KEY)
        names[recompute] = y.grad_fn.name()
        assert torch.equal(y, wanted) and names[recompute] == wanted.grad_fn.name()
    assert names[False] != names[True]
    assert "recompute=True" in repr(GumbelSoftmax(recompute=True))
    probs = torch.tensor([0.25, 0.75])
    assert GumbelSoftmax.from_probabilities(probs, recompute=True).recompute


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_evaluation_without_noise_does_not_overflow(dtype):
    soft = GumbelSoftmax(tau=1e-3, eval_mode="soft").eval()
    assert torch.equal(
        soft(torch.tensor([100.0, 0.0]).to(dtype)), torch.tensor([1.0, 0.0]).to(dtype)
    )
    huge = torch.tensor([torch.finfo(dtype).max, -math.inf, torch.finfo(dtype).min]).to(dtype)
    for tau in (1e-3, 1.0, 1e30):
        soft.tau = tau
        y = soft(huge)
        wanted = (huge.double() / tau).softmax(0)
        assert y.dtype == dtype and torch.allclose(y.double(), wanted, atol=1e-2)


def test_a_mask_has_no_part_in_the_gradient_of_a_learned_temperature_in_evaluation():
    x = torch.tensor([1.0, 0.0, -math.inf])
    for tau in (0.5, 1.0, 2.0):
        layer = GumbelSoftmax(tau=tau, learnable_tau=True, eval_mode="soft").eval()
        layer(x)[0].backward()
        (got,) = (p.grad for p in layer.parameters())
        y = torch.tensor([1.0, 0.0], dtype=torch.float64).div(tau).softmax(0)
        assert got.item() == pytest.approx(-(y[0] * y[1] / tau).item(), rel=1e-4)


def test_a_row_without_a_distribution_is_nan_in_evaluation_as_in_training():
    x = torch.tensor([[1.0, math.nan], [0.0, 1.0], [-math.inf, -math.inf], [math.inf, 0.0]])
    for mode in ("argmax", "soft", "sample"):
        for hard in (False, True):
            y = GumbelSoftmax(hard=hard, eval_mode=mode).eval()(x)
            assert y[[0, 2, 3]].isnan().all() and y[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_probabilities_may_miss_1_by_their_rounding(dtype):
    for k in (3, 7, 1000):
        probs = torch.rand(20, k).softmax(-1).to(dtype)
        assert GumbelSoftmax.from_probabilities(probs).logits.dtype == dtype
    with pytest.raises(ValueError, match="must sum to 1 within"):
        GumbelSoftmax.from_probabilities(torch.tensor([0.5, 0.52]).to(dtype))
