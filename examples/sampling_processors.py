# SPDX-License-Identifier: Apache-2.0
"""The filters of sampling_loop.py as transformers has them, or by its formulas if it is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Filter = Callable[[Tensor], Tensor]  # (rows, classes) logits to logits, -inf where closed


class Processors(NamedTuple):
    source: str
    filters: list[Filter]

    def __call__(self, logits: Tensor) -> Tensor:
        for one in self.filters:
            logits = one(logits)
        return logits


def top_k_formula(logits: Tensor, k: int) -> Tensor:
    least = torch.topk(logits, min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def top_p_formula(logits: Tensor, p: float) -> Tensor:
    rising, order = torch.sort(logits)
    closed = rising.softmax(-1).cumsum(-1) <= 1 - p
    closed[..., -1] = False
    return logits.masked_fill(closed.scatter(-1, order, closed), -math.inf)


def min_p_formula(logits: Tensor, p: float) -> Tensor:
    probs = logits.softmax(-1)
    return logits.masked_fill(probs < p * probs.amax(-1, True), -math.inf)


def by_formulas(
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Processors:
    filters: list[Filter] = []
    if temperature != 1:
        filters.append(lambda logits: logits / temperature)
    if top_k is not None:
        filters.append(lambda logits: top_k_formula(logits, top_k))
    if top_p is not None:
        filters.append(lambda logits: top_p_formula(logits, top_p))
    if min_p is not None:
        filters.append(lambda logits: min_p_formula(logits, min_p))
    return Processors("formulas", filters)


def processors(
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Processors:
    """Those that ``generate`` would make of these arguments, in its order."""
    try:
        from transformers import generation
    except ImportError:
        return by_formulas(temperature, top_k, top_p, min_p)
    made = []
    if temperature != 1:
        made.append(generation.TemperatureLogitsWarper(temperature))
    if top_k is not None:
        made.append(generation.TopKLogitsWarper(top_k))
    if top_p is not None:
        made.append(generation.TopPLogitsWarper(top_p))
    if min_p is not None:
        made.append(generation.MinPLogitsWarper(min_p))
    tokens = torch.empty(0, 0, dtype=torch.int64)  # of the text so far, which these do not read
    return Processors("transformers", [lambda x, one=one: one(tokens, x) for one in made])
