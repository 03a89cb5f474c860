# SPDX-License-Identifier: Apache-2.0
"""One-hot samples with the straight-through gradient of the Gumbel-Softmax sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Generator, Tensor
from torch.distributions import (
    OneHotCategoricalStraightThrough as TorchOneHotCategoricalStraightThrough,
)
from torch.distributions import constraints
from torch.distributions.distribution import Distribution
from torch.types import _size

from torch_gumbel.distributions._parameters import (
    NO_SHAPE,
    CategoricalFamily,
    CategoricalParameters,
)
from torch_gumbel.estimators import ESTIMATORS

if TYPE_CHECKING:
    from typing_extensions import Self


class OneHotCategoricalStraightThrough(  # type: ignore[override]
    CategoricalFamily, TorchOneHotCategoricalStraightThrough
):
    r"""Exactly one-hot samples with the gradient of an estimator: torch's, or another by name.

    By default the gradient is that of torch's class of this name, that of ``probs``, without
    noise. ``estimator="gumbel"`` has that of the relaxed sample of the same noise, as
    :func:`torch_gumbel.gumbel_softmax` with ``hard=True``.
    The distribution (``log_prob``, ``entropy``, ``mean``, ``enumerate_support``) depends neither on
    the temperature nor on the estimator.

    Args:
        probs: ``[*batch, K]``, not negative; rows are normalized, zeros stay exact zeros.
        logits: ``[*batch, K]``, instead of ``probs``; ``-inf`` is a probability of zero.
        temperature: of the gradient, > 0; a number, a tensor with one value, or one value per row.
            At 1 the default gradient is torch's; ``"zgr"`` has none.
        validate_args: whether to check values; default: as in torch.distributions.
        estimator: as for :func:`torch_gumbel.sample_one_hot`, with its other arguments at their
            defaults.

    Raises:
        ValueError: both or none of probs and logits; a shape or a value out of range; an unknown
            estimator.
        TypeError: parameters that are not floating point.

    Sources: Bengio, Leonard, Courville, *Estimating or Propagating Gradients Through Stochastic
    Neurons* (2013); those of :func:`torch_gumbel.sample_one_hot`.

    Example:
        >>> from torch_gumbel.distributions import OneHotCategoricalStraightThrough
        >>> q = OneHotCategoricalStraightThrough(logits=torch.zeros(2, 3), temperature=0.5)
        >>> q.rsample(key=torch_gumbel.key(0))
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """

    arg_constraints = {  # noqa: RUF012  (as torch has it)
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
        "temperature": constraints.positive,
    }

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        temperature: float | Tensor = 1.0,
        validate_args: bool | None = None,
        *,
        estimator: str = "straight-through",
    ) -> None:
        if estimator not in ESTIMATORS:
            wanted, who = ", ".join(ESTIMATORS), type(self).__name__
            raise ValueError(f"{who}: estimator must be one of {wanted}, got {estimator!r}")
        self.estimator = estimator
        validate = self._validate_args if validate_args is None else validate_args
        parameters = CategoricalParameters(
            type(self).__name__, temperature, probs, logits, validate
        )
        self._set(parameters, validate)

    def rsample(
        self,
        sample_shape: _size = NO_SHAPE,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """Draws one-hot rows, with the estimator's gradient.

        Args:
            sample_shape: leading dimensions of the result.
            generator: source of the key; default: the device's generator.
            key: explicit randomness, as for :meth:`RelaxedOneHotCategorical.rsample`.

        Returns:
            ``[*sample_shape, *batch, K]``.
        """
        shape = self._extended_shape(sample_shape)
        if self.estimator == "gumbel":
            return self._parameters.draw(shape, True, generator, key)
        return self._parameters.draw_one_hot(shape, self.estimator, generator, key)

    def expand(self, batch_shape: _size, _instance: Distribution | None = None) -> Self:
        """The same distribution over a larger batch, without a copy."""
        new: Self = super().expand(batch_shape, _instance)
        new.estimator = self.estimator
        return new
