# SPDX-License-Identifier: Apache-2.0
"""Quantizers of transformers replaced by ours: same outputs, same training, and back again."""

import copy
import functools
import io
import pickle

import numpy as np
import pytest
import torch

from torch_gumbel.integrations.transformers import replace_quantizers, restore_quantizers
from torch_gumbel.nn import GumbelVectorQuantizer

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from speech import CODES, GROUPS, SMALL, training_inputs  # noqa: E402

FAMILIES = ["Wav2Vec2", "Wav2Vec2Conformer", "UniSpeech", "UniSpeechSat"]


def made(family="Wav2Vec2", seed=0):
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**SMALL)
    return getattr(transformers, f"{family}ForPreTraining")(config).train()


def both(family="Wav2Vec2"):
    theirs = made(family)
    ours = copy.deepcopy(theirs)
    assert replace_quantizers(ours) == ["quantizer"]
    return ours, theirs


def through_file(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_replaced_quantizer_has_the_outputs_of_the_original(family, dtype):
    """In evaluation the codes are equal; in training shapes, dtypes, and perplexity."""
    ours, theirs = (model.to(dtype).quantizer for model in both(family))
    assert isinstance(ours, GumbelVectorQuantizer) and ours.training
    x = torch.randn(3, 25, 32, dtype=dtype)
    masks = [{}]
    if family.startswith("Wav2Vec2"):
        masks.append({"mask_time_indices": torch.rand(3, 25) < 0.5})
    for mask in masks:
        for training in (True, False):
            codes, used = ours.train(training)(x, **mask)
            wanted, wanted_used = theirs.train(training)(x, **mask)
            assert (codes.shape, codes.dtype) == (wanted.shape, wanted.dtype)
            torch.testing.assert_close(used, wanted_used)
        assert torch.equal(codes, wanted)


def test_codes_under_autocast_have_the_dtype_of_the_original():
    ours, theirs = (model.quantizer for model in both())
    x = torch.randn(3, 25, 32).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x)[0].dtype == theirs(x)[0].dtype == torch.float32


def test_codes_are_drawn_by_their_probabilities_at_the_temperature_of_the_model():
    """Every frame has the same logits: counts of 2 x 20 codes, max |z| < 5.5."""
    model, _ = both()
    quantizer, frames = model.quantizer, 20_000
    quantizer.codevectors.data = torch.eye(CODES).repeat(GROUPS, 1).unsqueeze(0)
    x = 0.3 * torch.randn(1, 1, 32)
    probs = quantizer.weight_proj(x).view(GROUPS, CODES).softmax(-1)
    counts = quantizer(x.expand(1, frames, -1))[0].detach().view(frames, GROUPS, CODES).sum(0)
    spread = (frames * probs * (1 - probs)).sqrt()
    assert ((counts - frames * probs) / spread).abs().max() < 5.5
    gradients = []
    for temperature in (2, 0.5):  # its size grows as 1 / temperature, the codes stay
        model.set_gumbel_temperature(temperature)
        codes, _ = quantizer(x.expand(1, 2000, -1), key=torch.tensor([1, 2]).view(torch.uint64))
        (codes * torch.arange(2.0 * CODES)).sum().backward()
        gradients.append((codes.detach(), quantizer.weight_proj.weight.grad.norm()))
        model.zero_grad()
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert gradients[1][1] > 1.5 * gradients[0][1]


def test_the_temperature_is_that_of_the_model_and_its_inverse_keeps_it():
    model = made()
    model.set_gumbel_temperature(1.25)
    replace_quantizers(model)
    assert model.quantizer.tau.item() == model.quantizer.temperature == 1.25
    model.set_gumbel_temperature(0.75)
    assert model.quantizer.tau.item() == model.quantizer.temperature == 0.75
    with pytest.raises(ValueError, match="tau must be > 0 and finite, got 0"):
        model.set_gumbel_temperature(0)
    with pytest.raises(TypeError, match="tau must be a number or a schedule, got a parameter"):
        model.quantizer.tau = torch.nn.Parameter(torch.ones(1))
    restore_quantizers(model)
    assert model.quantizer.temperature == 0.75


@pytest.mark.parametrize("family", FAMILIES)
def test_the_inverse_gives_back_the_module_and_both_do_nothing_the_second_time(family):
    model = made(family)
    original, parameters = model.quantizer, list(model.parameters())
    before = torch.get_rng_state()
    assert [replace_quantizers(model), replace_quantizers(model)] == [["quantizer"], []]
    replaced = model.quantizer
    assert type(original) is not type(replaced) and all(
        map(is_same, parameters, parameters_of(model))
    )
    model.eval().to(torch.bfloat16)
    assert [restore_quantizers(model), restore_quantizers(model)] == [["quantizer"], []]
    assert model.quantizer is original and not original.training
    assert original.codevectors.dtype == torch.bfloat16
    assert all(map(is_same, parameters, parameters_of(model)))
    assert torch.equal(torch.get_rng_state(), before)


def is_same(a, b):
    return a is b


def parameters_of(model):
    return list(model.parameters())


def test_state_dicts_fit_the_original_and_the_replacement(tmp_path):
    ours, theirs = both()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    with torch.no_grad():
        ours.quantizer.codevectors.add_(1)
    theirs.load_state_dict(through_file(ours))
    assert torch.equal(theirs.quantizer.codevectors, ours.quantizer.codevectors)
    with torch.no_grad():
        theirs.quantizer.codevectors.add_(1)
    ours.load_state_dict(through_file(theirs))
    assert torch.equal(theirs.quantizer.codevectors, ours.quantizer.codevectors)
    with pytest.raises(RuntimeError, match=r"Missing key.*codevectors"):
        ours.quantizer.load_state_dict({"weight_proj.bias": torch.zeros(GROUPS * CODES)})
    ours.save_pretrained(tmp_path)
    loaded = type(theirs).from_pretrained(tmp_path)
    assert torch.equal(loaded.quantizer.codevectors, ours.quantizer.codevectors)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_replaced_model_is_restored_with_its_own_parameters(copied):
    model = torch.nn.ModuleDict({"it": made().quantizer})
    kind = type(model["it"])
    replace_quantizers(model)
    copy_of = copied(model)
    copy_of["it"].temperature = 0.5
    restore_quantizers(copy_of)
    assert type(copy_of["it"]) is kind and copy_of["it"].temperature == 0.5
    assert copy_of["it"].codevectors is not model["it"].codevectors
    assert model["it"].temperature == 2 and isinstance(model["it"], GumbelVectorQuantizer)


def test_every_place_of_a_shared_quantizer_is_found_and_subclasses_are_left():
    quantizer = made().quantizer
    inner = torch.nn.ModuleDict({"a": quantizer, "b": quantizer})
    holder = torch.nn.ModuleDict({"inner": inner, "c": quantizer})
    assert replace_quantizers(holder) == ["c", "inner.a", "inner.b"]
    assert holder["c"] is inner["a"] is inner["b"] and holder["c"] is not quantizer
    assert restore_quantizers(holder) == ["c", "inner.a", "inner.b"]

    class Other(type(quantizer)):
        pass

    quantizer.__class__ = Other
    for wrong in (holder, quantizer, torch.nn.Linear(2, 2)):
        for call in (replace_quantizers, restore_quantizers):
            message = f"{call.__name__}: wanted a model that contains one of Wav2Vec2Gumbel"
            with pytest.raises(ValueError, match=message):
                call(wrong)
    with pytest.raises(TypeError, match="replace_quantizers: model must be a module, got str"):
        replace_quantizers("wav2vec2")


SEEDS, STEPS, LAST = 5, 16, 6


@functools.cache
def curves(replaced):
    """Losses per masked frame and perplexities of pretraining runs: [seeds, 2, steps]."""
    runs = []
    for seed in range(SEEDS):
        model = made(seed=seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        np.random.seed(seed)
        inputs = training_inputs(model)
        if replaced:
            replace_quantizers(model)
        run = []
        for _ in range(STEPS):
            output = model(**inputs)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            frames = int(inputs["mask_time_indices"].sum())
            run.append([output.loss.item() / frames, output.codevector_perplexity.item()])
        runs.append(run)
    return torch.tensor(runs).transpose(1, 2)


def test_pretraining_has_the_loss_curves_of_the_original():
    """An optimizer made before goes on; means over the last steps, paired by seed: |t| < 5."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are too small for several
    ours, theirs = curves(True), curves(False)
    torch.set_num_threads(threads)
    torch.testing.assert_close(ours[:, 1, 0], theirs[:, 1, 0])  # before a draw has any effect
    first, last = ours[:, 0, :3].mean(), ours[:, 0, -3:].mean()
    assert last < 0.8 * first
    differences = (ours - theirs)[..., -LAST:].mean(-1)
    errors = differences.std(0) / SEEDS**0.5
    assert (differences.mean(0).abs() < 5 * errors).all()
    assert errors[0] < 0.1 * (first - last)  # so that a difference would be seen
