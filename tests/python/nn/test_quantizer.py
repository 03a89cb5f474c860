# SPDX-License-Identifier: Apache-2.0
"""The quantizer of wav2vec 2.0: the output of Hugging Face's weights, the distribution of codes."""

import io
import math

import pytest
import torch
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

from torch_gumbel import gumbel_softmax, split
from torch_gumbel import key as make_key
from torch_gumbel.nn import GumbelVectorQuantizer
from torch_gumbel.schedules import TemperatureSchedule, exponential

KEY = make_key(7)


def through_file(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


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


@pytest.mark.parametrize("training", [True, False])
def test_a_single_vector_is_a_batch_of_one(training):
    quantizer = GumbelVectorQuantizer(24, num_codes=20, code_dim=16, groups=2).train(training)
    x = torch.randn(24)
    codes, perplexity = quantizer(x, key=KEY)
    wanted, wanted_perplexity = quantizer(x[None], key=KEY)
    assert codes.shape == (16,)
    torch.testing.assert_close(codes, wanted[0])
    torch.testing.assert_close(perplexity, wanted_perplexity)
    _, masked = quantizer(x, torch.tensor(True), key=KEY)
    torch.testing.assert_close(masked, perplexity)
    assert torch.equal(quantizer.indices(x), quantizer.indices(x[None])[0])


def test_no_generator_advances_if_a_vector_a_mask_or_a_key_is_wrong():
    quantizer = GumbelVectorQuantizer(24, num_codes=20, code_dim=16, groups=2)
    x, own = torch.randn(3, 40, 24), torch.Generator()
    before = torch.get_rng_state(), own.get_state()
    for error, call in [
        (RuntimeError, lambda: quantizer(x[..., :7])),
        (ValueError, lambda: quantizer(x, torch.ones(3, 39, dtype=torch.bool))),
        (ValueError, lambda: quantizer(x, torch.ones(41, dtype=torch.bool), generator=own)),
        (ValueError, lambda: quantizer(x, generator=own, key=KEY)),
        (TypeError, lambda: quantizer(x, generator="mine")),
    ]:
        with pytest.raises(error):
            call()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(own.get_state(), before[1])


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


def test_codes_have_the_distribution_of_their_logits():
    """Two groups of 3 codes, 60,000 draws: max |z| < 6."""
    quantizer = GumbelVectorQuantizer(1, 3, 2, groups=2)
    probs = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    quantizer.weight_proj.bias.data = probs.log().flatten()
    quantizer.codevectors.data = torch.arange(6.0).view(1, 6, 1)
    codes, _ = quantizer(torch.zeros(60_000, 1), key=KEY)
    for g in range(2):
        counts = torch.bincount(codes[:, g].long() - 3 * g, minlength=3)
        expected = 60_000 * probs[g]
        assert ((counts - expected) / (expected * (1 - probs[g])).sqrt()).abs().max() < 6
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
    with pytest.raises(ValueError, match=r"step\(\) needs a TemperatureSchedule"):
        plain.step()


def test_perplexity_is_the_effective_number_of_codes():
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


def test_an_unrelated_state_dict_is_still_refused():
    ours, _ = both()
    state = ours.state_dict()
    del state["codevectors"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"codevectors"'):
        ours.load_state_dict(state)
