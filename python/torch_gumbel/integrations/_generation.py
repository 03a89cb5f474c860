# SPDX-License-Identifier: Apache-2.0
"""Exact keyed draws in ``generate`` of transformers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from torch_gumbel._arguments import check_integer, check_source_types
from torch_gumbel.draws import sample_logits
from torch_gumbel.keys import fold_in, split


class Sampler:
    """A logits processor of transformers that draws: its scores are 0 at the token, else -inf.

    A call is a function of its arguments; a sampler has no state but its options. :func:`sampler`
    makes it.
    """

    supports_continuous_batching = False  # there rows of several lengths are one row

    def __init__(
        self,
        filters: dict[str, Any],
        pad_token_id: int | None,
        generator: Generator | None,
        key: Tensor | None,
    ) -> None:
        self._filters, self._pad = filters, pad_token_id
        self._generator, self._key = generator, key

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Draws the next token of every sequence.

        Args:
            input_ids: ``[batch, length]``, the tokens so far.
            scores: ``[batch, vocabulary]``, the logits.

        Returns:
            ``[batch, vocabulary]``: 0 at the drawn token, -inf elsewhere.

        Raises:
            ValueError: keys for another number of sequences; as ``sample_logits``.
        """
        keys = None if self._key is None else self._keys_at(self._key, input_ids, scores.device)
        token = sample_logits(scores, **self._filters, generator=self._generator, key=keys)
        return torch.full_like(scores, -math.inf).scatter_(-1, token.unsqueeze(-1), 0)

    def _keys_at(self, key: Tensor, input_ids: Tensor, device: torch.device) -> Tensor:
        """One key per sequence, of its next position."""
        count, length = input_ids.shape
        if key.dim() == 2 and len(key) != count:
            raise ValueError(
                f"sampler: key must be one key or {count}, one per sequence (those of "
                f"num_return_sequences too), got {len(key)}"
            )
        keys = (split(key, count) if key.dim() == 1 else key).to(device)
        if self._pad is None:
            return fold_in(keys, length)
        padding = (input_ids != self._pad).int().argmax(-1)  # the length of the padding on the left
        return torch.vmap(fold_in)(keys, (length - padding).to(device))


def sampler(
    temperature: float | Tensor = 1.0,
    top_k: int | Tensor | None = None,
    top_p: float | Tensor | None = None,
    min_p: float | Tensor | None = None,
    *,
    pad_token_id: int | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Sampler:
    """Draws in ``generate`` of transformers by :func:`torch_gumbel.sample_logits`.

    Pass it as ``model.generate(..., do_sample=False, logits_processor=[sampler(...)])``: the argmax
    that ``generate`` takes is the draw. Penalties and other processors of ``generate`` act before;
    its own temperature and filters have no effect, and beam search cannot be used.

    With a key, the token at position t of a sequence is drawn by ``fold_in(its_key, t)``: given
    equal logits, a request gets the same tokens alone, in any batch, resumed in the middle, and
    with an ``assistant_model``, whose draft is accepted where both models draw the same token.

    Args:
        temperature: as the filters below, those of :func:`torch_gumbel.sample_logits`: a number, or
            a tensor with one value per sequence.
        top_k: number of tokens that stay.
        top_p: mass that stays.
        min_p: least probability that stays, relative to the largest.
        pad_token_id: the token that fills prompts on the left: positions count from the first other
            token, so that padding changes no draw. Default: prompts are not padded.
        generator: source of a new key in every step.
        key: ``[batch, 2]``, a key per sequence; ``[2]``: sequence i has ``split(key, batch)[i]``.

    Returns:
        A logits processor.

    Raises:
        TypeError: generator, key, or ``pad_token_id`` of another type.
        ValueError: key and generator both given; a key of another shape. The filters are checked in
            the first step.

    Example:
        >>> from torch_gumbel.integrations.transformers import sampler
        >>> draw = sampler(top_p=0.9, key=torch_gumbel.key(7))
        >>> scores = draw(torch.tensor([[5, 2, 8]]), torch.tensor([[0.0, 3.0, 9.0, 9.0]]))
        >>> scores.exp()
        tensor([[0., 0., 1., 0.]])
    """
    check_source_types("sampler", generator, key)
    if generator is not None and key is not None:
        raise ValueError("sampler: wanted a key or a generator, got both")
    if key is not None and (key.dim() not in (1, 2) or key.shape[-1] != 2):
        raise ValueError(f"sampler: key must have shape [2] or [batch, 2], got {list(key.shape)}")
    if pad_token_id is not None:
        check_integer("sampler", "pad_token_id", pad_token_id)
    filters = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    return Sampler(filters, pad_token_id, generator, key)
