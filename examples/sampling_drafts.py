# SPDX-License-Identifier: Apache-2.0
"""Drafts of sampling_loop.py: trigrams that draw with the keys of the model.

A draft and its model that draw by one key use the same noise. Each draw has its own law exactly,
and both are equal with probability sum_i 1 / sum_j max(p_j / p_i, q_j / q_i), p and q the laws:
more often than two independent draws, sum_i p_i q_i, and not more than sum_i min(p_i, q_i).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from torch_gumbel import fold_in, key, sample_logits, split

CHUNK = 64  # rows to a sum over pairs of classes
Model = Callable[[Tensor], Tensor]  # (B, T) tokens to (B, T, symbols) logits


class Acceptance(NamedTuple):
    """Of each row: whether the draft was accepted, and the probability of that by the formula."""

    accepted: Tensor
    expected: Tensor


class Drafted(NamedTuple):
    tokens: Tensor
    calls: int  # of the model


def acceptance_of_one_key(p: Tensor, q: Tensor) -> Tensor:
    """(n, symbols) probabilities to (n,): equal draws of the same noise."""
    pairs = zip(p.split(CHUNK), q.split(CHUNK), strict=True)
    return torch.cat([_of_one_key(*pair) for pair in pairs])


def _of_one_key(p: Tensor, q: Tensor) -> Tensor:
    both = (p > 0) & (q > 0)  # a class that one of them cannot draw adds nothing
    p_ratios, q_ratios = (
        x[:, None, :] / x.masked_fill(~both, 1)[:, :, None]
        for x in (p, q)  # [row, i, j]: x_j / x_i
    )
    return torch.where(both, 1 / torch.maximum(p_ratios, q_ratios).sum(-1), 0).sum(-1)


def acceptance_of_two_keys(p: Tensor, q: Tensor) -> Tensor:
    return (p * q).sum(-1)


def largest_acceptance(p: Tensor, q: Tensor) -> Tensor:
    """Of any pair of draws with these laws."""
    return torch.minimum(p, q).sum(-1)


def trigrams(tokens: Tensor, size: int) -> Tensor:
    """log P(next | two characters), (size, size, size), from counts: the draft's model."""
    pairs = torch.ones(size, size)
    pairs.view(-1).index_add_(0, tokens[:-1] * size + tokens[1:], torch.ones(len(tokens) - 1))
    places = (tokens[:-2] * size + tokens[1:-1]) * size + tokens[2:]
    counts = torch.zeros(size, size, size)
    counts.view(-1).index_add_(0, places, torch.ones(len(places)))
    return (counts + 2 * pairs / pairs.sum(-1, keepdim=True)).log().log_softmax(-1)


def draft_logits(table: Tensor, tokens: Tensor) -> Tensor:
    """Logits of the character after each two: (..., T) to (..., T - 1, symbols)."""
    return table[tokens[..., :-1], tokens[..., 1:]]


def measure_acceptance(logits: Tensor, drafts: Tensor, same_key: bool) -> Acceptance:
    """One draw of the model and one of the draft from each row of (n, symbols) logits."""
    first, second = split(key(3))
    chosen = sample_logits(logits, key=first)
    drafted = sample_logits(drafts, key=first if same_key else second)
    formula = acceptance_of_one_key if same_key else acceptance_of_two_keys
    return Acceptance(chosen == drafted, formula(logits.softmax(-1), drafts.softmax(-1)))


@torch.no_grad()
def write_by_drafts(
    model: Model, table: Tensor, prompt: Tensor, length: int, own: Tensor, ahead: int = 4
) -> Drafted:
    """The tokens that the model draws by the key ``own``, with fewer calls of it.

    ``prompt`` has at least two tokens. The draft draws up to ``ahead`` tokens, each by the key that
    the model has at that position; one call of the model judges them and gives one more.
    """
    tokens, calls = prompt, 0
    while (start := len(tokens)) < length:
        for position in range(start, min(start + ahead, length - 1)):
            drawn = sample_logits(draft_logits(table, tokens[-2:])[-1], key=fold_in(own, position))
            tokens = torch.cat([tokens, drawn[None]])
        logits, calls = model(tokens[None])[0, start - 1 :], calls + 1
        drawn = torch.stack(
            [sample_logits(row, key=fold_in(own, start + i)) for i, row in enumerate(logits)]
        )
        wrong = (drawn[:-1] != tokens[start:]).nonzero()
        accepted = int(wrong[0]) if len(wrong) else len(drawn) - 1
        tokens = torch.cat([tokens[:start], drawn[: accepted + 1]])
    return Drafted(tokens, calls)
