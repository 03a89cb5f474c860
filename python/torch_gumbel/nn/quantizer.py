# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""The product quantizer of wav2vec 2.0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from torch_gumbel.information import perplexity
from torch_gumbel.keys import new_key, split
from torch_gumbel.lookup import straight_through_lookup
from torch_gumbel.nn._temperature import Tempered
from torch_gumbel.schedules import TemperatureSchedule


class GumbelVectorQuantizer(Tempered):
    """Replaces each vector by one code per group, sampled from codebooks by a hard Gumbel-Softmax.

    In training codes are drawn, with the straight-through gradient to logits and codebooks; in
    evaluation the most likely ones are taken. Codes are gathered, not multiplied by a one-hot.
    Parameters have the names and shapes of ``Wav2Vec2GumbelVectorQuantizer`` of Hugging Face
    (``codevectors`` and ``weight_proj``), whose state dict can be loaded.

    Args:
        in_features: size of the input vectors.
        num_codes: codes per group, K.
        code_dim: size of the output vectors, a multiple of ``groups``.
        groups: number of codes per output vector.
        tau: temperature, a number > 0 or a :class:`~torch_gumbel.schedules.TemperatureSchedule`,
            which :meth:`step` advances and which is part of the state dict.

    Raises:
        ValueError: a size < 1, ``code_dim`` not a multiple of ``groups``, tau not > 0.

    Sources: Baevski, Zhou, Mohamed, Auli, *wav2vec 2.0* (2020), section 2; Jegou, Douze, Schmid,
    *Product Quantization for Nearest Neighbor Search* (2011).

    Example:
        >>> from torch_gumbel.nn import GumbelVectorQuantizer
        >>> quantizer = GumbelVectorQuantizer(512, num_codes=320, code_dim=256, groups=2)
        >>> codes, perplexity = quantizer(torch.randn(4, 50, 512))
        >>> codes.shape
        torch.Size([4, 50, 256])
    """

    def __init__(
        self,
        in_features: int,
        num_codes: int,
        code_dim: int,
        groups: int = 1,
        tau: float | TemperatureSchedule = 2.0,
    ) -> None:
        sizes = dict(in_features=in_features, num_codes=num_codes, code_dim=code_dim, groups=groups)
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"GumbelVectorQuantizer: {name} must be > 0, got {size}")
        if code_dim % groups:
            raise ValueError(
                f"GumbelVectorQuantizer: code_dim must be a multiple of groups = {groups}, "
                f"got {code_dim}"
            )
        super().__init__(tau, False)
        self.num_codes, self.code_dim, self.groups = num_codes, code_dim, groups
        self.weight_proj = nn.Linear(in_features, groups * num_codes)
        self.codevectors = nn.Parameter(torch.empty(1, groups * num_codes, code_dim // groups))
        self.reset_parameters()
        self.register_load_state_dict_pre_hook(_keep_absent_state)

    def reset_parameters(self) -> None:
        """Draws new weights and restores the initial temperature."""
        super().reset_parameters()
        nn.init.uniform_(self.codevectors)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)

    def forward(
        self,
        hidden_states: Tensor,
        mask: Tensor | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Quantizes.

        Args:
            hidden_states: ``[*, in_features]``.
            mask: ``[*]``, bool: the vectors that count for perplexity; default: all.
            generator: source of the key, in training.
            key: explicit randomness, ``[2]``, in training.

        Returns:
            ``(codes, perplexity)``: ``[*, code_dim]``, and the sum over groups of the exponential
            of the entropy of mean code probabilities (in evaluation: of the selected codes), in
            [groups, groups * K].

        Raises:
            ValueError: a mask of another size; key or generator of the wrong shape or device; both
                given.
        """
        logits = self._logits(hidden_states)
        if self.training:
            used = self._perplexity(
                logits.softmax(-1), mask
            )  # before a draw: it may refuse the mask
            codes = self._draw(logits, generator, key)
        else:
            index = logits.argmax(-1)
            codes = self._look_up(index)
            one_hot = nn.functional.one_hot(index, self.num_codes).to(logits.dtype)
            used = self._perplexity(one_hot, mask)
        dtype = torch.promote_types(hidden_states.dtype, self.codevectors.dtype)  # as of a product
        return codes.flatten(-2).to(dtype), used

    def indices(self, hidden_states: Tensor) -> Tensor:
        """The most likely code of every group: ``[*, in_features]`` -> int64 ``[*, groups]``."""
        return self._logits(hidden_states).argmax(-1)

    def _logits(self, hidden_states: Tensor) -> Tensor:
        """``[*, groups, K]``, in float32 for half types."""
        projected: Tensor = self.weight_proj(hidden_states)
        wide = projected.float() if projected.dtype != torch.float64 else projected
        return wide.view(*wide.shape[:-1], self.groups, self.num_codes)

    def _books(self) -> Tensor:
        """``[groups, K, code_dim / groups]``."""
        return self.codevectors.view(self.groups, self.num_codes, -1)

    def _perplexity(self, probs: Tensor, mask: Tensor | None) -> Tensor:
        rows = probs.reshape(-1, self.groups, self.num_codes)
        if mask is not None and mask.numel() != len(rows):
            raise ValueError(
                f"GumbelVectorQuantizer: mask must have shape {list(probs.shape[:-2])}, "
                f"got {list(mask.shape)}"
            )
        return perplexity(_mean(rows, mask), over=0).sum()

    def _draw(self, logits: Tensor, generator: Generator | None, key: Tensor | None) -> Tensor:
        """``[*, groups, code_dim / groups]``; each group has its own key."""
        if generator is not None and key is not None:
            raise ValueError("GumbelVectorQuantizer: wanted a key or a generator, got both")
        key = new_key(generator, logits.device) if key is None else key
        tau = self._tau_for(logits)
        looked_up = [
            straight_through_lookup(rows, book.to(rows.dtype), tau, key=own)
            for rows, book, own in zip(
                logits.unbind(-2), self._books(), split(key, self.groups), strict=True
            )
        ]
        return torch.stack(looked_up, -2)

    def _look_up(self, index: Tensor) -> Tensor:
        return self._books()[torch.arange(self.groups, device=index.device), index]

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return (
            f"num_codes={self.num_codes}, code_dim={self.code_dim}, groups={self.groups}, "
            f"tau={self._shown()}"
        )


def _mean(probs: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the rows of ``[rows, groups, K]`` in the mask: ``[1, groups, K]``."""
    if mask is None:
        return probs.mean(0, keepdim=True)
    weights = mask.flatten().to(probs.dtype)
    return (torch.einsum("r,rgk->gk", weights, probs) / weights.sum()).unsqueeze(0)


def _keep_absent_state(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Keeps temperature and schedule if a state dict lacks them, as those of Hugging Face do."""
    for name, value in module.state_dict().items():
        older = name == "_extra_state" and prefix + "temperature" in state
        if name.endswith("_extra_state") and not older:
            state.setdefault(prefix + name, value)
