# SPDX-License-Identifier: Apache-2.0
"""The modules: what training and evaluation do, and that they are saved, copied, and moved."""

import copy
import io
import math

import pytest
import torch
from compiling import counted
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

from torch_gumbel import gumbel_softmax, split
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
def test_evaluation_is_what_its_mode_says(dim):
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
    assert fresh.tau == 0.25 and list(fresh.state_dict()) == ["temperature"]
    assert not list(layer.parameters())


def test_a_learned_temperature_has_a_gradient_and_stays_positive():
    layer, x = GumbelSoftmax(tau=0.7, learnable_tau=True), torch.randn(50, 4)
    tau = torch.tensor(0.7, requires_grad=True)
    weights = torch.randn(4)
    (layer(x, key=KEY) * weights).sum().backward()
    (gumbel_softmax(x, tau, key=KEY) * weights).sum().backward()
    torch.testing.assert_close(layer.log_temperature.grad, tau.grad * 0.7)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(
        20
    ):  # towards one-hot samples: a temperature learned as it is would turn negative
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
def test_a_layer_refuses_what_it_cannot_be(arguments, error, message):
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


def test_layers_say_what_they_are():
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
def test_a_module_is_copied_saved_whole_and_moved(name):
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
    tensors = [*moved.parameters(), *moved.buffers()]
    assert tensors and all(t.device.type == "meta" for t in tensors)
    wide = copy.deepcopy(module).double()
    assert all(t.dtype == torch.float64 for t in [*wide.parameters(), *wide.buffers()])


def test_an_annealed_layer_is_compiled_once():
    layer, x = GumbelSoftmax(tau=1.0), torch.randn(8, 6)
    compiled, counter = counted(layer)
    for step in range(5):
        layer.tau = 1.0 / (step + 1)
        torch.testing.assert_close(compiled(x, key=KEY), layer(x, key=KEY))
    assert counter.frame_count == 1


# The quantizer.

CONFIG = Wav2Vec2Config(
    conv_dim=(24,),
    conv_stride=(2,),
    conv_kernel=(3,),
    num_codevectors_per_group=20,
    num_codevector_groups=2,
    codevector_dim=16,
)


def both():
    theirs = Wav2Vec2GumbelVectorQuantizer(CONFIG)
    torch.nn.init.uniform_(theirs.codevectors)
    ours = GumbelVectorQuantizer(24, num_codes=20, code_dim=16, groups=2)
    ours.load_state_dict(through_file(theirs))
    return ours, theirs


@pytest.mark.parametrize("masked", [False, True])
def test_a_state_dict_of_hugging_face_gives_its_output(masked):
    ours, theirs = both()
    x = torch.randn(3, 40, 24)
    mask = torch.rand(3, 40) < 0.5 if masked else None
    codes, perplexity = ours.eval()(x, mask)
    wanted, wanted_perplexity = theirs.eval()(x, mask)
    assert torch.equal(codes, wanted)
    torch.testing.assert_close(perplexity, wanted_perplexity)
    logits = theirs.weight_proj(x).view(3, 40, 2, 20)
    assert torch.equal(ours.indices(x), logits.argmax(-1))


def test_training_has_the_perplexity_and_the_codes_of_hugging_face():
    ours, theirs = both()
    x = torch.randn(3, 40, 24)
    codes, perplexity = ours.train()(x)
    _, wanted = theirs.train()(x)
    torch.testing.assert_close(perplexity, wanted)
    books = ours.codevectors.detach().view(2, 20, 8)
    same = (codes.detach().view(-1, 2, 1, 8) - books).abs().amax(-1) < 1e-6
    assert (same.sum(-1) == 1).all()  # each is a code of its group


def test_gradients_reach_logits_and_codebooks_as_from_a_matrix_product():
    ours, _ = both()
    x = torch.randn(2, 10, 24)
    weights = torch.randn(2, 10, 16)
    ours.tau = 0.8
    codes, _ = ours(x, key=KEY)
    (codes * weights).sum().backward()
    got = [p.grad.clone() for p in ours.parameters()]
    ours.zero_grad()
    logits = ours.weight_proj(x).unflatten(-1, (2, 20))
    books = ours.codevectors.view(2, 20, 8)
    keys = split(KEY, 2)
    parts = [gumbel_softmax(logits[..., g, :], 0.8, True, key=keys[g]) @ books[g] for g in range(2)]
    (torch.cat(parts, -1) * weights).sum().backward()
    for ours_grad, parameter in zip(got, ours.parameters(), strict=True):
        torch.testing.assert_close(ours_grad, parameter.grad)


def test_codes_are_drawn_by_the_law_of_their_logits():
    """Two groups of 3 codes, 60,000 draws: max |z| < 6."""
    quantizer = GumbelVectorQuantizer(1, 3, 2, groups=2)
    law = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    quantizer.weight_proj.bias.data = law.log().flatten()
    quantizer.codevectors.data = torch.arange(6.0).view(1, 6, 1)
    codes, _ = quantizer(torch.zeros(60_000, 1), key=KEY)
    for g in range(2):
        counts = torch.bincount(codes[:, g].long() - 3 * g, minlength=3)
        expected = 60_000 * law[g]
        assert ((counts - expected) / (expected * (1 - law[g])).sqrt()).abs().max() < 6
    joint = (codes[:, 0] == 2).logical_and(codes[:, 1] == 3).sum()
    assert abs(joint - 60_000 * 0.3) < 6 * math.sqrt(60_000 * 0.3 * 0.7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_quantizer_keeps_its_dtype(dtype):
    quantizer = GumbelVectorQuantizer(8, 10, 6, 2).to(dtype)
    x = torch.randn(4, 5, 8, dtype=dtype)
    codes, perplexity = quantizer(x)
    assert codes.dtype == dtype and codes.shape == (4, 5, 6) and perplexity.isfinite()
    assert quantizer.eval()(x)[0].dtype == dtype


def test_its_schedule_is_stepped_saved_and_loaded():
    def made():
        schedule = TemperatureSchedule(exponential, tau0=2.0, rate=-math.log(0.99), tau_min=0.5)
        return GumbelVectorQuantizer(8, 10, 6, 2, tau=schedule)

    quantizer = made()
    assert quantizer.tau == 2.0
    for _ in range(3):
        assert quantizer.step() == pytest.approx(quantizer.tau.item())
    assert quantizer.tau.item() == pytest.approx(2 * 0.99**3)
    fresh = made()
    fresh.load_state_dict(through_file(quantizer))
    assert torch.equal(fresh.tau, quantizer.tau) and fresh.schedule.count == 3
    plain = GumbelVectorQuantizer(8, 10, 6, 2)
    with pytest.raises(ValueError, match=r"step\(\) wants a TemperatureSchedule"):
        plain.step()


def test_perplexity_is_what_is_left_of_the_codes():
    quantizer = GumbelVectorQuantizer(4, 6, 4, 2).eval()
    quantizer.weight_proj.weight.data.zero_()
    _, perplexity = quantizer(torch.randn(50, 4))
    assert perplexity.item() == pytest.approx(2)  # all vectors take the first code of both groups
    _, perplexity = quantizer.train()(torch.randn(50, 4))
    assert perplexity.item() == pytest.approx(12)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((8, 5, 7, 2), "code_dim must be a multiple of groups = 2, got 7"),
        ((8, 0, 6, 2), "num_codes must be > 0, got 0"),
        ((8, 5, 6, 0), "groups must be > 0, got 0"),
    ],
)
def test_a_quantizer_refuses_sizes_that_cannot_be(sizes, message):
    with pytest.raises(ValueError, match=message):
        GumbelVectorQuantizer(*sizes)


def test_a_strange_state_dict_is_still_refused():
    ours, _ = both()
    state = ours.state_dict()
    del state["codevectors"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"codevectors"'):
        ours.load_state_dict(state)
