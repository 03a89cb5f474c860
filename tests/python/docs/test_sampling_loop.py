# SPDX-License-Identifier: Apache-2.0
"""The sampling loop: its formulas are right, drafts change no text, and it runs to its picture."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from torch_gumbel import filter_logits
from torch_gumbel import key as make_key

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
NAMES = ("loop", "drafts", "pictures", "processors")


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    threads = torch.get_num_threads()
    yield lambda name: importlib.import_module(f"sampling_{name}")
    torch.set_num_threads(threads)
    for name in NAMES:
        sys.modules.pop(f"sampling_{name}", None)


def test_acceptance_has_its_published_values_and_lies_between_its_bounds(example):
    drafts = example("drafts")
    p = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    q = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0]])
    wanted = torch.tensor([0.6307692, 0.8818182, 1 / 3, 1.0])
    torch.testing.assert_close(drafts.acceptance_of_one_key(p, q), wanted)
    torch.testing.assert_close(drafts.largest_acceptance(p, q), torch.tensor([0.7, 0.9, 0.5, 1]))
    p, q = (3 * torch.randn(2, 500, 12)).softmax(-1)
    one, most = drafts.acceptance_of_one_key(p, q), drafts.largest_acceptance(p, q)
    assert (drafts.acceptance_of_two_keys(p, q) <= one + 1e-6).all() and (one <= most + 1e-6).all()


@pytest.mark.parametrize("same_key", [True, False])
def test_measured_acceptance_is_that_of_the_formula(example, same_key):
    drafts = example("drafts")
    rows = drafts.measure_acceptance(*(1.5 * torch.randn(2, 20_000, 8)), same_key)
    error = (rows.expected * (1 - rows.expected)).mean().sqrt() / 20_000**0.5
    assert abs(rows.accepted.float().mean() - rows.expected.mean()) < 5 * error


def test_the_formulas_keep_the_sets_of_transformers_and_ours(example):
    processors, filters = example("processors"), example("loop").FILTERS
    logits = 2 * torch.randn(300, 103)
    for options in filters:
        kept = filter_logits(logits, **options).isfinite()
        assert torch.equal(processors.by_formulas(**options)(logits).isfinite(), kept)
        assert torch.equal(processors.processors(**options)(logits).isfinite(), kept)
    pytest.importorskip("transformers", reason="transformers is not installed")
    assert processors.processors().source == "transformers"


@pytest.mark.parametrize("ahead", [1, 4])
def test_a_drafted_text_is_that_of_the_model_alone(example, ahead):
    loop, drafts = example("loop"), example("drafts")
    text = loop.load_text()
    assert len(text.train) + len(text.test) > 400_000 and 90 < len(text.symbols) < 300
    torch.manual_seed(0)
    model = loop.CharacterModel(len(text.symbols)).eval()
    keys = make_key(1)[None]
    table = drafts.trigrams(text.train, len(text.symbols))
    assert table.exp().sum(-1).sub(1).abs().max() < 1e-4
    prompt, length = text.encode(loop.PROMPT), 40

    def mixed(tokens):  # a model that the draft resembles
        before = torch.cat([tokens[..., :1], tokens], -1)
        return model(tokens) / 4 + drafts.draft_logits(table, before)

    plain = loop.write(mixed, text, keys, length)
    drafted = drafts.write_by_drafts(mixed, table, prompt, length, keys[0], ahead)
    assert torch.equal(drafted.tokens, plain.tokens[0])
    assert drafted.calls < length - len(prompt)


def test_the_loop_prints_its_tables_and_draws_its_picture(example, tmp_path, capsys, monkeypatch):
    loop = example("loop")
    for name, value in (("CONTEXT", 32), ("BATCH", 2), ("SEQUENCES", 6), ("WIDE", (2, 400))):
        monkeypatch.setattr(loop, name, value)
    loop.main(["--steps", "4", "--out", str(tmp_path / "loop.png")])
    out = capsys.readouterr().out
    assert out.count(": True") == 2 and "False" not in out
    rows = 6 * (32 - len(loop.PROMPT))
    assert out.count(f"{rows} of {rows}") == len(loop.FILTERS)
    assert (tmp_path / "loop.png").stat().st_size > 20_000
