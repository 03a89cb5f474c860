# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""The categorical distribution over class indices, with exact masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions.distribution import Distribution
from torch.distributions.utils import lazy_property
from torch.types import _size

from torch_gumbel.distributions._parameters import (
    NO_SHAPE,
    CheckedValues,
    all_true,
    compute_type,
    exact_log,
)
from torch_gumbel.functional import gumbel_argmax
from torch_gumbel.keys import unpadded
from torch_gumbel.log_prob import log_prob_entropy
from torch_gumbel.noise import sample_gumbel

if TYPE_CHECKING:
    from typing_extensions import Self


class Categorical(CheckedValues, TorchCategorical):
    r"""Class indices: exact draws, log-probabilities, and entropies in one pass each.

    Nothing is normalized before it is needed: ``probs`` and ``logits`` are computed on first use,
    and sampling, :meth:`log_prob`, :meth:`entropy`, and :attr:`mode` do not use them. A masked
    class, of probability 0, is never drawn, has a log-probability of -inf, and adds nothing to the
    entropy; its gradient is exactly 0. For log-probability and entropy in a single pass, see
    :func:`torch_gumbel.log_prob_entropy`.

    Args:
        probs: ``[*batch, K]``, not negative; rows are normalized, zeros stay exact zeros.
        logits: ``[*batch, K]``, instead of ``probs``; ``-inf`` is a probability of zero.
        mask: bool, of a shape that broadcasts with them; True: allowed.
        validate_args: whether to check values; default: as in torch.distributions.

    Raises:
        ValueError: both or none of probs and logits; a value out of range; a row without a class.
        TypeError: parameters that are not floating point; a mask that is not bool.

    Example:
        >>> from torch_gumbel.distributions import Categorical
        >>> allowed = torch.tensor([[True, True, False], [False, False, True]])
        >>> q = Categorical(logits=torch.zeros(2, 3), mask=allowed)
        >>> q.sample(key=torch_gumbel.key(0)), q.entropy()
        (tensor([0, 2]), tensor([0.6931, 0.0000]))
    """

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        mask: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        who = type(self).__name__
        if (probs is None) == (logits is None):
            raise ValueError(f"{who}: one of probs and logits is wanted, got both or none")
        name, given = ("logits", logits) if probs is None else ("probs", probs)
        if not isinstance(given, Tensor) or not given.is_floating_point():
            kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise TypeError(f"{who}: {name} must be a floating point tensor, got {kind}")
        if given.dim() == 0:
            raise ValueError(f"{who}: {name} must have a dimension of classes, got a 0-d tensor")
        scores = given if probs is None else exact_log(given.to(compute_type(given)))
        if mask is not None:
            scores = _masked(who, scores, mask)
        self._set(scores, self._validate_args if validate_args is None else validate_args)
        if self._validate_args:
            self._check_values(who, name, None if probs is None else given.detach())

    def _set(self, scores: Tensor, validate: bool) -> None:
        """Log-probabilities up to a constant of each row."""
        self._param, self._num_events = scores, scores.shape[-1]
        Distribution.__init__(self, scores.shape[:-1], validate_args=False)
        self._validate_args = validate

    def _check_values(self, who: str, name: str, probs: Tensor | None) -> None:
        right = self._param.detach().amax(-1).isfinite()  # the largest is NaN where any is
        if probs is not None:
            right = right & all_true(probs >= 0)
        if not all_true(right):
            wanted = "not negative and finite" if name == "probs" else "without NaN or +inf"
            raise ValueError(
                f"{who}: {name} must be {wanted}, with an allowed class of positive probability in "
                f"every row, got {self._param if probs is None else probs}"
            )

    @lazy_property
    def logits(self) -> Tensor:
        """Normalized log-probabilities, ``[*batch, K]``."""
        return self._param.log_softmax(-1)

    @lazy_property
    def probs(self) -> Tensor:
        """Probabilities, ``[*batch, K]``."""
        return self._param.softmax(-1)

    @property
    def mode(self) -> Tensor:
        """The most probable class, the first of several."""
        return self._param.argmax(-1)

    def sample(
        self,
        sample_shape: _size = NO_SHAPE,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """Draws class indices.

        One draw is :func:`torch_gumbel.gumbel_argmax`. For several, the probabilities are summed
        once, in float64, and every draw is a binary search in them by 64 random bits of its
        position in ``[n, *batch]``: the time of a draw hardly depends on K.

        Args:
            sample_shape: leading dimensions of the result, of n draws.
            generator: source of the key; default: the device's generator.
            key: explicit randomness, ``[2]``, or ``[*keys, 2]`` with one key per slice of the
                leading batch dimensions.

        Returns:
            int64 ``[*sample_shape, *batch]``.
        """
        shape = self._extended_shape(sample_shape)
        draws = math.prod(sample_shape)
        with torch.no_grad():
            if draws == 1:
                return gumbel_argmax(self._param, generator=generator, key=key).reshape(shape)
            return _searched(self._param, draws, generator, key).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of classes, differentiable in the parameters.

        Args:
            value: ``[*]``, broadcast with the batch shape.

        Returns:
            ``[*]``, float32 for half types; -inf for a masked class.
        """
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape, self._batch_shape)
        index = value.long().expand(shape)
        if shape == self._batch_shape:
            return log_prob_entropy(self._param, index)[0]
        # Relative to the mode, so that many values take one pass.
        mode = self.mode
        of_mode = log_prob_entropy(self._param, mode)[0]
        scores = self._param.expand(*shape, self._num_events)
        x = scores.gather(-1, index.unsqueeze(-1)).squeeze(-1).to(of_mode.dtype)
        top = self._param.gather(-1, mode.unsqueeze(-1)).squeeze(-1).to(of_mode.dtype)
        return x - top + of_mode

    def entropy(self) -> Tensor:
        """The entropy in nats, with 0 log 0 = 0; float32 for half types."""
        first = torch.zeros(self._batch_shape, dtype=torch.int64, device=self._param.device)
        return log_prob_entropy(self._param, first)[1]

    def expand(self, batch_shape: _size, _instance: Distribution | None = None) -> Self:
        """The same distribution over a larger batch, without a copy."""
        new: Self = self._get_checked_instance(type(self), _instance)
        new._set(self._param.expand(*batch_shape, self._num_events), self._validate_args)
        return new


def _masked(who: str, scores: Tensor, mask: object) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{who}: mask must be a bool tensor, got {kind}")
    try:
        shape = torch.broadcast_shapes(scores.shape, mask.shape)
    except RuntimeError:
        shape = torch.Size()
    if shape[-1:] != scores.shape[-1:]:
        raise ValueError(
            f"{who}: mask must broadcast with {list(scores.shape)} and have all its classes, got "
            f"shape {list(mask.shape)}"
        )
    return torch.where(mask, scores, -math.inf)


def _searched(
    scores: Tensor, draws: int, generator: Generator | None, key: Tensor | None
) -> Tensor:
    """``[draws, *batch]``: the first class at which the sum of probabilities exceeds v times the
    sum of all, with v in (0, 1) of 64 bits. Class 0 in a row without a distribution."""
    batch = scores.shape[:-1]
    if key is not None:
        key = unpadded(key, len(batch))
    keys = 0 if key is None else key.dim() - 1
    noise = sample_gumbel(
        (*batch[:keys], draws, *batch[keys:]),
        dtype=torch.float64,
        device=scores.device,
        generator=generator,
        key=key,
    ).movedim(keys, -1)
    v = noise.neg_().exp_().neg_().expm1_().neg_()  # the two words of a position
    weights = scores.softmax(-1, dtype=torch.float64)
    sums = weights.cumsum(-1)
    if not sums.is_cpu:  # where sums of parts are rounded, a masked class may seem to add to them
        sums = torch.where(weights > 0, sums, -math.inf).cummax(-1).values
    total = sums[..., -1:]
    target = torch.minimum(v * total, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(sums, target.contiguous(), right=True)
    return torch.where(total.isfinite(), index, 0).movedim(-1, 0)
