# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""Shared parts of the categorical families: parameters, their checks, and sampling."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.distributions import Categorical
from torch.distributions.distribution import Distribution
from torch.distributions.utils import lazy_property
from torch.types import _size

from torch_gumbel._arguments import real_number
from torch_gumbel.estimators import sample_one_hot
from torch_gumbel.functional import gumbel_softmax
from torch_gumbel.probabilities import sample_categorical

if TYPE_CHECKING:
    from typing_extensions import Self


NO_SHAPE = torch.Size()


class ExactCategorical(Categorical):
    """``torch.distributions.Categorical`` with exact zeros: their logit is -inf, not log(eps).

    The gradient of the logarithm at zero is 0.
    """

    @lazy_property
    def logits(self) -> Tensor:
        """Normalized log-probabilities."""
        return exact_log(self.probs)

    def entropy(self) -> Tensor:
        """The entropy in nats, with 0 log 0 = 0."""
        logs = self.logits
        return -(self.probs * logs.masked_fill(logs == -math.inf, 0.0)).sum(-1)


def exact_log(probs: Tensor) -> Tensor:
    """log, with the value -inf and the gradient 0 at 0."""
    zero = probs == 0
    return probs.masked_fill(zero, 1.0).log().masked_fill(zero, -math.inf)


class CategoricalParameters:
    """Probabilities or logits, not yet normalized, and a temperature, a number or one per row.

    Args:
        who: the class that errors name.
        temperature: > 0, a number or a tensor with one value or of a shape that broadcasts to the
            batch shape, ``logits.shape[:-1]``, without making it larger.
        probs: ``[*batch, K]``, not negative; rows are normalized.
        logits: ``[*batch, K]``, instead of ``probs``; ``-inf`` is a probability of zero.
        validate: check values, not only shapes.

    Raises:
        ValueError: both or none given; a shape or value out of range.
        TypeError: parameters that are not floating point.
    """

    def __init__(
        self,
        who: str,
        temperature: float | Tensor,
        probs: Tensor | None,
        logits: Tensor | None,
        validate: bool,
    ) -> None:
        if (probs is None) == (logits is None):
            raise ValueError(f"{who}: one of probs and logits is wanted, got both or none")
        name, given = ("logits", logits) if probs is None else ("probs", probs)
        if not isinstance(given, Tensor) or not given.is_floating_point():
            kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise TypeError(f"{who}: {name} must be a floating point tensor, got {kind}")
        if given.dim() == 0:
            raise ValueError(f"{who}: {name} must have a dimension of classes, got a 0-d tensor")
        self.given, self.from_probs = given, probs is not None
        self.temperature = temperature_of(who, temperature, given)
        self._categorical: ExactCategorical | None = None
        self._smaller: CategoricalParameters | None = None
        if validate:
            self._check_values(who, name)

    @property
    def categorical(self) -> ExactCategorical:
        """The normalized distribution, computed on first use; sampling does not need it."""
        if self._categorical is None:
            with torch.enable_grad():  # the first use may be under no_grad
                self._categorical = self._normalized()
        return self._categorical

    def _normalized(self) -> ExactCategorical:
        if self._smaller is not None:
            expanded: ExactCategorical = self._smaller.categorical.expand(self.given.shape[:-1])
            return expanded
        if self.from_probs:
            return ExactCategorical(probs=self.given, validate_args=False)
        return ExactCategorical(logits=self.given, validate_args=False)

    def _check_values(self, who: str, name: str) -> None:
        """Not negative for probs; no NaN, and not all zero, for both."""
        given = self.given.detach()
        if self.from_probs:
            total = given.sum(-1, dtype=compute_type(given))
            right = (given >= 0).all(-1) & (total > 0) & (total < math.inf)
        else:
            right = given.to(compute_type(given)).logsumexp(-1).isfinite()
        if not all_true(right):
            wanted = "not negative and" if self.from_probs else "without NaN or +inf and"
            raise ValueError(
                f"{who}: {name} must be {wanted} of finite, positive total weight in every row, "
                f"got {self.given}"
            )
        if not all_true((self.temperature > 0) & (self.temperature < math.inf)):
            raise ValueError(f"{who}: temperature must be > 0 and finite, got {self.temperature!s}")

    def expand(self, batch_shape: torch.Size) -> CategoricalParameters:
        """The same parameters over a larger batch, without a copy."""
        new = object.__new__(CategoricalParameters)
        new.given = self.given.expand(batch_shape + self.given.shape[-1:])
        new.from_probs = self.from_probs
        new._categorical, new._smaller = None, self
        one = self.temperature.numel() == 1
        new.temperature = self.temperature if one else self.temperature.expand(batch_shape)
        return new

    def tau(self) -> Tensor:
        """The temperature, 0-d if it has one value, so that it broadcasts with any batch."""
        return self.temperature.reshape(()) if self.temperature.numel() == 1 else self.temperature

    def tau_rows(self) -> Tensor:
        """The temperature with a dimension of size 1 for the classes."""
        tau = self.tau()
        return tau.unsqueeze(-1) if tau.dim() else tau

    def scores(self) -> Tensor:
        """Log-probabilities up to a constant of the row, zeros as -inf."""
        return self.categorical.logits if self.from_probs else self.given

    def draw(
        self, shape: torch.Size, hard: bool, generator: Generator | None, key: Tensor | None
    ) -> Tensor:
        """A relaxed sample of that shape, or its one-hot; words by position in that shape."""
        given, tau = self.given.expand(shape), self.tau_rows()
        if self.from_probs:
            return sample_categorical(
                given, tau, hard, validate_args=False, generator=generator, key=key
            )
        return gumbel_softmax(given, tau, hard, generator=generator, key=key)

    def draw_one_hot(
        self, shape: torch.Size, estimator: str, generator: Generator | None, key: Tensor | None
    ) -> Tensor:
        """A one-hot sample of that shape, by another estimator than "gumbel"."""
        given = self.given
        if self.from_probs:
            given = exact_log(given.to(compute_type(given)))
        tau = None if estimator == "zgr" else self.tau_rows()
        sample = sample_one_hot(given.expand(shape), estimator, tau, generator=generator, key=key)
        return sample.to(self.given.dtype)


def temperature_of(who: str, value: float | Tensor, given: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        if not isinstance(value, Real):
            kind = type(value).__name__
            raise TypeError(f"{who}: temperature must be a number or a tensor, got {kind}")
        if not 0 < (number := real_number(value)) < math.inf:
            raise ValueError(f"{who}: temperature must be > 0 and finite, got {float(number)}")
        # On the CPU: kernels of every device accept it without a copy.
        return torch.tensor(float(number), dtype=compute_type(given), device="cpu")
    batch = given.shape[:-1]
    if value.numel() != 1 and not _broadcasts(value.shape, batch):
        raise ValueError(
            f"{who}: temperature must have one value or broadcast to the batch shape "
            f"{list(batch)} without making it larger, got shape {list(value.shape)}"
        )
    return value


def _broadcasts(shape: torch.Size, batch: torch.Size) -> bool:
    try:
        return bool(torch.broadcast_shapes(shape, batch) == batch)
    except RuntimeError:
        return False


def all_true(values: Tensor) -> bool:
    """``all()`` as in torch.distributions, which vmap supports: over all batch elements. In
    compiled code, which cannot branch on values, nothing is checked.
    """
    return torch.compiler.is_compiling() or bool(torch._is_all_true(values))


def compute_type(tensor: Tensor) -> torch.dtype:
    """float32 for half types."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if half else tensor.dtype


class CheckedValues(Distribution):
    """Checks of values as torch's, but none in compiled code, which cannot branch on them."""

    def _validate_sample(self, value: Tensor) -> None:
        if not torch.compiler.is_compiling():
            super()._validate_sample(value)


class KeyedSamples(CheckedValues):
    """``sample`` implemented by ``rsample``, with a generator or a key."""

    def sample(
        self,
        sample_shape: _size = NO_SHAPE,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """Draws as :meth:`rsample`, without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator, key=key)  # type: ignore[call-arg]


class CategoricalFamily(KeyedSamples):
    """A distribution defined by :class:`CategoricalParameters`."""

    temperature: Tensor
    _parameters: CategoricalParameters

    @property
    def _categorical(self) -> Categorical:
        """The attribute that torch's base classes read probabilities from."""
        return self._parameters.categorical

    @property
    def categorical(self) -> Categorical:
        """The distribution of the index of the largest coordinate, independent of temperature."""
        return self._parameters.categorical

    def _set(self, parameters: CategoricalParameters, validate: bool) -> None:
        self._parameters = parameters
        self.temperature = parameters.temperature
        shape = parameters.given.shape
        Distribution.__init__(self, shape[:-1], shape[-1:], validate_args=False)
        self._validate_args = validate

    def expand(self, batch_shape: _size, _instance: Distribution | None = None) -> Self:
        """The same distribution over a larger batch, without a copy."""
        new: Self = self._get_checked_instance(type(self), _instance)
        new._set(self._parameters.expand(torch.Size(batch_shape)), self._validate_args)
        return new
