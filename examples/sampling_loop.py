# SPDX-License-Identifier: Apache-2.0
"""Sampling text: filters, their speed beside Hugging Face's, and a draft that shares its keys.

A small transformer learns the characters of Python's own help pages (the module pydoc_data.topics,
so that nothing is downloaded). Then it writes: with top-p and with min-p, each sequence by its own
key. The logits of that loop are drawn from once more by transformers' processors, or by their
formulas if transformers is not installed: the sets of characters that stay are compared, and the
tokens per second. Last, a table of trigrams drafts ahead with the keys of the model: its draft is
accepted where both draw the same character, the text stays that of the model alone.

    python examples/sampling_loop.py              # some minutes on one thread of a CPU
    python examples/sampling_loop.py --steps 100  # the quick look

Prints the texts and two tables, and writes one picture.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sampling_drafts import (
    Acceptance,
    Model,
    draft_logits,
    largest_acceptance,
    measure_acceptance,
    trigrams,
    write_by_drafts,
)
from sampling_processors import processors
from torch import Tensor, nn
from tqdm import trange

from torch_gumbel import filter_logits, fold_in, key, sample_logits, split

CONTEXT = 160  # characters, the prompt's too
WIDTH, LAYERS, HEADS = 128, 2, 4
BATCH = 16
LEARNING_RATE = 3e-3
SEQUENCES = 24  # written at once
AHEAD = 4  # characters of a draft
WIDE = (16, 32_000)  # rows, tokens
PROMPT = "\nThe "
FILTERS: tuple[dict[str, float], ...] = (
    {"top_p": 0.9},
    {"min_p": 0.05},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "min_p": 0.02},
)


class Text(NamedTuple):
    """``symbols`` are the characters; ``train`` and ``test`` int64 indices of them."""

    symbols: str
    train: Tensor
    test: Tensor

    def encode(self, text: str) -> Tensor:
        return torch.tensor([self.symbols.index(c) for c in text])

    def decode(self, tokens: Tensor) -> str:
        return "".join(self.symbols[i] for i in tokens.tolist())


class Written(NamedTuple):
    """``tokens`` [sequences, CONTEXT] and the logits [sequences, steps, symbols] of those drawn."""

    tokens: Tensor
    logits: Tensor


class Speed(NamedTuple):
    """Tokens per second, and the rows in which both kept the same characters."""

    filters: str
    ours: float
    theirs: float
    equal_rows: int
    rows: int


def load_text() -> Text:
    from pydoc_data.topics import topics

    pages = [topics[name] for name in sorted(topics)]
    symbols = "".join(sorted(set("\n".join(pages) + PROMPT)))
    index = {symbol: i for i, symbol in enumerate(symbols)}
    tokens = torch.tensor([index[c] for c in "\n".join(pages)])
    cut = len(tokens) * 9 // 10
    return Text(symbols, tokens[:cut], tokens[cut:])


class CharacterModel(nn.Module):
    """A causal transformer: (B, T) tokens, T <= CONTEXT, to (B, T, symbols) logits."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbols = nn.Embedding(symbols, WIDTH)
        self.positions = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        layers = [
            nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, 0.0, F.gelu, batch_first=True, norm_first=True
            )
            for _ in range(LAYERS)
        ]
        self.layers = nn.ModuleList(layers)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, symbols)
        nn.init.normal_(self.symbols.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[-1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        x = self.symbols(tokens) + self.positions[:length]
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.head(self.norm(x))


def batch_of(tokens: Tensor, size: int) -> tuple[Tensor, Tensor]:
    starts = torch.randint(len(tokens) - CONTEXT - 1, (size, 1))
    windows = tokens[starts + torch.arange(CONTEXT + 1)]
    return windows[:, :-1], windows[:, 1:]


def nats(model: CharacterModel, tokens: Tensor, size: int) -> Tensor:
    """Mean loss per character of random windows."""
    inputs, targets = batch_of(tokens, size)
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def train(text: Text, steps: int) -> tuple[CharacterModel, list[float]]:
    model, losses = CharacterModel(len(text.symbols)), []
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    bar = trange(steps, desc="training", unit="step")
    for step in bar:
        loss = nats(model, text.train, BATCH)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 10 == 0:
            bar.set_postfix(nats=f"{losses[-1]:.2f}")
    return model.eval(), losses


@torch.no_grad()
def write(model: Model, text: Text, keys: Tensor, length: int, **filters: float) -> Written:
    """Texts from PROMPT to ``length`` characters, sequence i with ``keys[i]``: (sequences, 2)."""
    tokens, logits = text.encode(PROMPT).expand(len(keys), -1), []
    for position in trange(tokens.shape[1], length, desc="writing", leave=False):
        logits.append(model(tokens)[:, -1])
        # A key per sequence and position: what a sequence draws depends on no other one.
        drawn = sample_logits(logits[-1], key=fold_in(keys, position), **filters)
        tokens = torch.cat([tokens, drawn[:, None]], 1)
    return Written(tokens, torch.stack(logits, 1))


def kept(logits: Tensor, filters: dict[str, float]) -> Tensor:
    """Which characters stay, bool as the logits."""
    return filter_logits(logits, **filters).isfinite()


def seconds(draw: Callable[[int], Any], batches: int, rounds: int = 5) -> float:
    """Of one draw from each batch: the fastest of some, since other programs run as well."""
    fastest = [math.inf] * batches
    for _ in range(rounds):
        for i in range(batches):
            start = time.perf_counter()
            draw(i)
            fastest[i] = min(fastest[i], time.perf_counter() - start)
    return sum(fastest)


def measure_speed(logits: Tensor, filters: dict[str, float], rows: int = SEQUENCES) -> Speed:
    """Draws from (n, symbols) logits as a loop does, ``rows`` at once: filters and the draw."""
    theirs, batches = processors(**filters), logits.split(rows)
    keys = split(key(0), len(batches))

    def draw_ours(i: int) -> Tensor:
        return sample_logits(batches[i], key=keys[i], **filters)

    def draw_theirs(i: int) -> Tensor:
        return torch.multinomial(theirs(batches[i]).softmax(-1), 1)

    same = (kept(logits, filters) == theirs(logits).isfinite()).all(-1)
    rates = [len(logits) / seconds(draw, len(batches)) for draw in (draw_ours, draw_theirs)]
    name = ", ".join(f"{name} {value:g}" for name, value in filters.items())
    return Speed(name, *rates, int(same.sum()), len(same))


def print_speed(title: str, rows: list[Speed]) -> None:
    print(
        f"\n{title:50}{'tokens/s':>12}{processors().source:>16}{'ratio':>8}   rows with equal sets"
    )
    for r in rows:
        ratio, equal = f"{r.ours / r.theirs:.1f}x", f"{r.equal_rows} of {r.rows}"
        print(f"{r.filters:50}{r.ours:12,.0f}{r.theirs:16,.0f}{ratio:>8}   {equal}")


def compare_speed(logits: Tensor, loop: float) -> list[Speed]:
    """Of the loop's logits, and of random ones of a vocabulary as language models have it."""
    speeds = [measure_speed(logits, filters) for filters in FILTERS]
    print_speed("the logits of the loop", speeds)
    print(f"(the loop, model and draw: {loop:,.0f} tokens/s)")
    wide = 3 * torch.randn(WIDE)
    print_speed(f"{WIDE[1]:,} random logits", [measure_speed(wide, f, 8) for f in FILTERS])
    return speeds


def print_acceptance(same: Acceptance, own: Acceptance, most: float) -> None:
    print(f"\n{'draft accepted':32}{'measured':>12}{'formula':>12}")
    for name, rows in (("one key for both", same), ("a key for each", own)):
        measured, expected = rows.accepted.float().mean(), rows.expected.mean()
        print(f"{name:32}{measured:12.4f}{expected:12.4f}")
    print(f"{'the most of any two draws':32}{'':12}{most:12.4f}")


def write_texts(model: CharacterModel, text: Text, keys: Tensor) -> tuple[Written, float]:
    """With top-p, and the tokens per second of that loop; shows one text of it, one with min-p."""
    start = time.perf_counter()
    written = write(model, text, keys, CONTEXT, **FILTERS[0])
    rate = written.logits[..., 0].numel() / (time.perf_counter() - start)
    other = write(model, text, keys[:2], CONTEXT, **FILTERS[1])
    for filters, shown in zip(FILTERS, (written, other), strict=False):
        print(f"\n--- {filters}{text.decode(shown.tokens[0])}")
    alone = write(model, text, keys[5:6], CONTEXT, **FILTERS[0]).tokens[0]
    equal = torch.equal(alone, written.tokens[5])
    print(f"\nsequence 5 alone draws the characters that it drew in the batch: {equal}")
    return written, rate


def study_drafts(model: CharacterModel, text: Text, keys: Tensor) -> tuple[Acceptance, Acceptance]:
    table, plain = trigrams(text.train, len(text.symbols)), write(model, text, keys, CONTEXT)
    before = plain.tokens[:, len(PROMPT) - 2 : -1]
    logits, drafts = plain.logits.flatten(0, 1), draft_logits(table, before).flatten(0, 1)
    same, own = (measure_acceptance(logits, drafts, one_key) for one_key in (True, False))
    most = largest_acceptance(logits.softmax(-1), drafts.softmax(-1)).mean()
    print_acceptance(same, own, float(most))
    drafted = write_by_drafts(model, table, text.encode(PROMPT), CONTEXT, keys[0], AHEAD)
    equal = torch.equal(drafted.tokens, plain.tokens[0])
    print(
        f"{AHEAD} characters ahead: {CONTEXT - len(PROMPT)} in {drafted.calls} calls of the model; "
        f"the text is that of the model alone: {equal}"
    )
    return same, own


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Filtered and drafted text of a small model.")
    parser.add_argument("--steps", type=int, default=500, help="of training")
    parser.add_argument("--out", type=Path, default=Path("sampling_loop.png"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the layers are small: a second thread costs more than it brings
    torch.manual_seed(0)
    start, text = time.perf_counter(), load_text()
    model, losses = train(text, args.steps)
    with torch.no_grad():
        test = float(nats(model, text.test, 64))
    print(
        f"{test:.2f} nats per character of other pages, {math.log(len(text.symbols)):.2f} at first"
    )
    keys = split(key(11), SEQUENCES)
    written, rate = write_texts(model, text, keys)
    speeds = compare_speed(written.logits.flatten(0, 1), rate)
    same, own = study_drafts(model, text, keys)

    from sampling_pictures import draw  # here, so that the figures need no matplotlib

    line = text.decode(written.tokens[0, len(PROMPT) :])
    sizes = kept(written.logits[0], FILTERS[0]).sum(-1).tolist()
    draw(args.out, losses, speeds, (same, own), (line, sizes))
    print(f"picture {args.out}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
