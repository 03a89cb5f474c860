# SPDX-License-Identifier: Apache-2.0
"""sampler(): a token depends on its request's key, its position, and its logits alone."""

import copy
import warnings

import pytest
import torch

import torch_gumbel
from torch_gumbel import filter_logits, fold_in, sample_logits, split
from torch_gumbel.integrations.transformers import sampler

KEYS = split(torch_gumbel.key(5), 3)
VOCABULARY, PAD = 40, 0
FILTERS = {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.01}


def token_of(scores):
    """The tokens of a processor's scores, which are one 0 to a row and -inf."""
    assert (scores == 0).sum(-1).eq(1).all() and scores.isneginf().sum(-1).eq(VOCABULARY - 1).all()
    return scores.argmax(-1)


def test_it_draws_as_sample_logits_by_a_key_of_the_sequence_and_its_position():
    scores, tokens = torch.randn(3, VOCABULARY), torch.randint(1, VOCABULARY, (3, 7))
    wanted = sample_logits(scores, **FILTERS, key=fold_in(KEYS, 7))
    assert torch.equal(token_of(sampler(**FILTERS, key=KEYS)(tokens, scores)), wanted)
    root = torch_gumbel.key(5)
    assert torch.equal(token_of(sampler(**FILTERS, key=root)(tokens, scores)), wanted)
    per_row = {name: torch.tensor([value] * 3) for name, value in FILTERS.items()}
    assert torch.equal(token_of(sampler(**per_row, key=KEYS)(tokens, scores)), wanted)
    kept = filter_logits(scores, **FILTERS).isfinite()
    assert kept.gather(-1, wanted[:, None]).all() and not kept.all()


def test_padding_and_the_batch_change_no_draw():
    draw = sampler(top_p=0.9, pad_token_id=PAD, key=KEYS)
    lengths, scores = (4, 9, 6), torch.randn(3, VOCABULARY)
    tokens = torch.zeros(3, 9, dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, 9 - length :] = torch.randint(1, VOCABULARY, (length,))
    tokens[1, 4] = PAD  # not on the left
    together = token_of(draw(tokens, scores))
    for row, length in enumerate(lengths):
        own, alone = slice(row, row + 1), tokens[row : row + 1, 9 - length :]
        for pad in (PAD, None):
            one = sampler(top_p=0.9, pad_token_id=pad, key=KEYS[own])
            assert torch.equal(token_of(one(alone, scores[own])), together[own])


def test_without_a_key_every_step_draws_from_the_generator():
    scores, tokens = torch.randn(3, VOCABULARY), torch.ones(3, 2, dtype=torch.int64)
    generator = torch.Generator().manual_seed(3)
    draw, other = sampler(generator=generator), torch.Generator().manual_seed(3)
    for _ in range(2):
        wanted = sample_logits(scores, generator=other)
        assert torch.equal(token_of(draw(tokens, scores)), wanted)
    drawn = [token_of(sampler()(tokens, scores)) for _ in range(8)]
    assert len({tuple(d.tolist()) for d in drawn}) > 1


def test_what_it_refuses():
    scores, tokens = torch.randn(2, VOCABULARY), torch.ones(2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="sampler: key must be one key or 2, one per sequence"):
        sampler(key=KEYS)(tokens, scores)
    with pytest.raises(
        ValueError, match=r"sampler: key must have shape \[2\] or \[batch, 2\], got"
    ):
        sampler(key=KEYS[None])
    with pytest.raises(ValueError, match="sampler: wanted a key or a generator, got both"):
        sampler(key=KEYS, generator=torch.Generator())
    with pytest.raises(TypeError, match="sampler: key must be a tensor, got int"):
        sampler(key=3)
    with pytest.raises(TypeError, match="sampler: pad_token_id must be an integer, got str"):
        sampler(pad_token_id="<pad>")
    with pytest.raises(ValueError, match="top_p"):
        sampler(top_p=1.5)(tokens, scores)


@pytest.fixture(scope="module")
def models():
    """A language model with random weights, and a smaller one."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")

    def made(seed, layers):
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=32,
            n_embd=32,
            n_layer=layers,
            n_head=2,
            initializer_range=0.3,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=PAD,
        )
        return transformers.GPT2LMHeadModel(config).eval()

    return made(0, 2), made(0, 1)


PROMPTS = torch.tensor([[0, 0, 3, 4], [5, 6, 7, 8], [0, 9, 10, 11]])


def generated(model, rows=slice(None), **options):
    prompts = PROMPTS[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sampling options are without effect
        return model.generate(
            prompts, attention_mask=(prompts != PAD).long(), max_new_tokens=16, **options
        )[:, 4:]


def test_generate_draws_the_same_for_a_request_alone_and_in_a_batch(models):
    model, _ = models
    filters = {"temperature": 0.8, "top_p": 0.9, "pad_token_id": PAD}
    together = generated(model, do_sample=False, logits_processor=[sampler(**filters, key=KEYS)])
    assert len(together.unique()) > 10
    for row in range(3):
        own = slice(row, row + 1)
        draw = sampler(**filters, key=KEYS[own])
        assert torch.equal(
            generated(model, own, do_sample=False, logits_processor=[draw]), together[own]
        )
    again = generated(model, do_sample=True, logits_processor=[sampler(**filters, key=KEYS)])
    assert torch.equal(again, together)  # the draw, where generate samples too
    greedy = generated(model, do_sample=False)
    assert torch.equal(generated(model, logits_processor=[sampler(top_k=1)]), greedy)
    assert not torch.equal(together, greedy)


def test_processors_of_generate_act_before_the_draw(models):
    model, _ = models
    allowed = [4, 8, 15, 16, 23]
    closed = [token for token in range(VOCABULARY) if token not in allowed]
    drawn = generated(model, suppress_tokens=closed, logits_processor=[sampler(key=KEYS)])
    assert set(drawn.unique().tolist()) == set(allowed)


def test_an_assistant_drafts_by_the_same_keys_and_changes_no_token(models):
    model, assistant = models
    row = slice(1, 2)
    draw = sampler(temperature=0.8, top_p=0.9, key=KEYS[row])
    plain = generated(model, row, do_sample=False, logits_processor=[draw])
    calls, twin = [], copy.deepcopy(model)
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    for draft, most in ((assistant, 16), (twin, 4)):  # the draft of a twin is never refused
        calls.clear()
        options = {"logits_processor": [draw], "assistant_model": draft}
        assert torch.equal(generated(model, row, do_sample=False, **options), plain)
        assert 0 < len(calls) <= most
    handle.remove()
