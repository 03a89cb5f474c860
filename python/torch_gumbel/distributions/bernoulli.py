# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""The binary Concrete distribution, on [0, 1] and in logit space."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Generator, Tensor
from torch.distributions import (
    Bernoulli,
    SigmoidTransform,
    TransformedDistribution,
    constraints,
)
from torch.distributions import RelaxedBernoulli as TorchRelaxedBernoulli
from torch.distributions.distribution import Distribution
from torch.distributions.relaxed_bernoulli import (
    LogitRelaxedBernoulli as TorchLogitRelaxedBernoulli,
)
from torch.distributions.utils import lazy_property
from torch.types import _size

from torch_gumbel._arguments import real_number
from torch_gumbel.distributions._parameters import (
    NO_SHAPE,
    KeyedSamples,
    all_true,
    compute_type,
    exact_log,
    temperature_of,
)
from torch_gumbel.distributions._relaxed import WithoutMoments
from torch_gumbel.gates import gumbel_sigmoid

_ARGUMENTS = {"probs": constraints.unit_interval, "logits": constraints.real}
_FAR = 40.0  # from which no noise reaches the other end


class _WithoutMoments(WithoutMoments):
    _discrete, _choice = "bernoulli", "rounded sample"


class LogitRelaxedBernoulli(_WithoutMoments, KeyedSamples, TorchLogitRelaxedBernoulli):
    r"""The logit of a :class:`RelaxedBernoulli` sample: (logits + L) / temperature.

    At low temperatures samples on [0, 1] round to 0 and 1. In logit space nothing is lost: draw and
    compute densities there.

    Args:
        temperature: > 0; a number, a tensor with one value, or a tensor that broadcasts to the
            batch shape without making it larger.
        probs: the probability of 1, a number or a tensor; 0 and 1 stay exact.
        logits: instead of ``probs``; infinite ones are probabilities of 0 and 1.
        validate_args: whether to check values; default: as in torch.distributions.

    Raises:
        ValueError: both or none of probs and logits; a shape or a value out of range.
        TypeError: parameters that are not floating point.

    Source: Maddison, Mnih, Teh, *The Concrete Distribution* (2016), appendix B.

    Example:
        >>> from torch_gumbel.distributions import LogitRelaxedBernoulli
        >>> q = LogitRelaxedBernoulli(0.1, logits=torch.zeros(3))
        >>> bool(q.log_prob(q.sample()).isfinite().all())
        True
    """

    arg_constraints = _ARGUMENTS

    def __init__(
        self,
        temperature: float | Tensor,
        probs: float | Tensor | None = None,
        logits: float | Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._set(type(self).__name__, temperature, probs, logits, validate_args)

    def _set(
        self,
        who: str,
        temperature: float | Tensor,
        probs: float | Tensor | None,
        logits: float | Tensor | None,
        validate_args: bool | None,
    ) -> None:
        if (probs is None) == (logits is None):
            raise ValueError(f"{who}: one of probs and logits is wanted, got both or none")
        name, value = ("logits", logits) if probs is None else ("probs", probs)
        given = _parameter(who, name, value)
        self._param, self._who = given, who
        setattr(self, name, given)
        self.temperature = temperature_of(who, temperature, given.unsqueeze(-1))
        validate = self._validate_args if validate_args is None else validate_args
        if validate:
            self._check_values(name)
        Distribution.__init__(self, given.shape, validate_args=False)
        self._validate_args = validate

    def _check_values(self, name: str) -> None:
        given = self._param.detach()
        right = (given >= 0) & (given <= 1) if name == "probs" else given == given
        if not all_true(right):
            wanted = "in [0, 1]" if name == "probs" else "numbers, not NaN"
            raise ValueError(f"{self._who}: {name} must be {wanted}, got {given}")
        if not all_true((self.temperature > 0) & (self.temperature < math.inf)):
            raise ValueError(
                f"{self._who}: temperature must be > 0 and finite, got {self.temperature!s}"
            )

    @lazy_property
    def logits(self) -> Tensor:
        """log(probs / (1 - probs)), infinite at 0 and 1 with a gradient of 0."""
        return exact_log(self.probs) - exact_log(1 - self.probs)

    @property
    def bernoulli(self) -> Bernoulli:
        """The distribution of the sample's being positive, independent of temperature."""
        return Bernoulli(logits=self.logits, validate_args=False)

    def expand(
        self, batch_shape: _size, _instance: Distribution | None = None
    ) -> LogitRelaxedBernoulli:
        """The same distribution over a larger batch, without a copy."""
        new: LogitRelaxedBernoulli = self._get_checked_instance(type(self), _instance)
        shape = torch.Size(batch_shape)
        for name in ("probs", "logits"):
            if name in self.__dict__:
                setattr(new, name, getattr(self, name).expand(shape))
        new._param, new._who = self._param.expand(shape), self._who
        one = self.temperature.numel() == 1
        new.temperature = self.temperature if one else self.temperature.expand(shape)
        Distribution.__init__(new, shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _tau(self) -> Tensor:
        """The temperature, 0-d if it has one value."""
        return self.temperature.reshape(()) if self.temperature.numel() == 1 else self.temperature

    def rsample(
        self,
        sample_shape: _size = NO_SHAPE,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """Draws, differentiable in parameters and temperature.

        Args:
            sample_shape: leading dimensions of the result.
            generator: source of the key; default: the device's generator.
            key: explicit randomness; the sample is the logit of that of
                :meth:`RelaxedBernoulli.rsample` with the same key, up to rounding.

        Returns:
            ``[*sample_shape, *batch]``.
        """
        logits = self.logits.expand(self._extended_shape(sample_shape))
        far = torch.full_like(logits, -_FAR, dtype=torch.float64, requires_grad=False)
        noise = gumbel_sigmoid(far, generator=generator, key=key).logit() + _FAR
        infinite = logits.isinf()  # kept out of the division, whose gradient would be NaN
        wide = logits.masked_fill(infinite, 0.0).to(compute_type(logits))
        scaled = (wide + noise.to(wide.dtype)) / self._tau()
        return torch.where(infinite, logits.detach(), scaled.to(logits.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at the logit z: log tau - d - 2 log(1 + exp(-d)), d = abs(logits - tau z).

        Args:
            value: ``[*]``, broadcast with the batch shape.

        Returns:
            ``[*]``, finite for every finite z; -inf at infinite ones.
        """
        if self._validate_args:
            self._validate_sample(value)
        return _log_density(self, value.to(compute_type(value))).to(value.dtype)


class RelaxedBernoulli(_WithoutMoments, KeyedSamples, TorchRelaxedBernoulli):
    r"""The binary Concrete distribution: sigmoid((logits + L) / temperature), on [0, 1].

    A draw is :func:`torch_gumbel.gumbel_sigmoid`. ``base_dist`` is the same distribution of the
    logit (:class:`LogitRelaxedBernoulli`), to be used if samples round to 0 and 1; ``bernoulli`` is
    the distribution of the rounded sample.

    Args:
        temperature: > 0; a number, a tensor with one value, or a tensor that broadcasts to the
            batch shape without making it larger.
        probs: the probability of 1, a number or a tensor; 0 and 1 stay exact.
        logits: instead of ``probs``; infinite ones are probabilities of 0 and 1.
        validate_args: whether to check values; default: as in torch.distributions.

    Raises:
        ValueError: both or none of probs and logits; a shape or a value out of range.
        TypeError: parameters that are not floating point.

    Source: Maddison, Mnih, Teh, *The Concrete Distribution* (2016), section 3.1.

    Example:
        >>> from torch_gumbel.distributions import RelaxedBernoulli
        >>> q = RelaxedBernoulli(0.5, probs=torch.tensor([0.1, 0.9]))
        >>> q.rsample((4,)).shape
        torch.Size([4, 2])
    """

    arg_constraints = _ARGUMENTS
    base_dist: LogitRelaxedBernoulli

    def __init__(
        self,
        temperature: float | Tensor,
        probs: float | Tensor | None = None,
        logits: float | Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base = LogitRelaxedBernoulli.__new__(LogitRelaxedBernoulli)
        base._set(type(self).__name__, temperature, probs, logits, validate_args)
        TransformedDistribution.__init__(self, base, SigmoidTransform(), validate_args=False)
        self._validate_args = base._validate_args

    @property
    def bernoulli(self) -> Bernoulli:
        """The distribution of the sample's exceeding 1/2, independent of temperature."""
        return self.base_dist.bernoulli

    def expand(self, batch_shape: _size, _instance: Distribution | None = None) -> RelaxedBernoulli:
        """The same distribution over a larger batch, without a copy."""
        new = self._get_checked_instance(type(self), _instance)
        expanded: RelaxedBernoulli = super().expand(batch_shape, _instance=new)
        return expanded

    def rsample(
        self,
        sample_shape: _size = NO_SHAPE,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """Draws y in one fused pass, differentiable in parameters and temperature.

        Args:
            sample_shape: leading dimensions of the result.
            generator: source of the key; default: the device's generator.
            key: explicit randomness, ``[2]``, or one key per slice of the leading dimensions of the
                result. Words depend on the position in the result.

        Returns:
            ``[*sample_shape, *batch]``.
        """
        logits = self.logits.expand(self._extended_shape(sample_shape))
        return gumbel_sigmoid(logits, self.base_dist._tau(), generator=generator, key=key)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at y, computed in logit space.

        0 and 1 have been reached by rounding, and count as the nearest numbers of the dtype inside.

        Args:
            value: ``[*]``, broadcast with the batch shape.

        Returns:
            ``[*]``, finite for finite logits.

        Raises:
            ValueError: when validating, a value that is not in [0, 1].
        """
        if self._validate_args:
            self._validate_sample(value)
        finfo = torch.finfo(value.dtype)
        inside = value.to(compute_type(value)).clamp(finfo.tiny, 1 - finfo.eps / 2)
        log_y, log_rest = inside.log(), torch.log1p(-inside)
        density = _log_density(self.base_dist, log_y - log_rest) - log_y - log_rest
        return density.to(value.dtype)


def _parameter(who: str, name: str, value: object) -> Tensor:
    """Probabilities or logits as a tensor of a floating point type."""
    if isinstance(value, Real):
        return torch.tensor(real_number(value), dtype=torch.get_default_dtype())
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{who}: {name} must be a floating point tensor or a number, got {kind}")
    return value


def _log_density(made: LogitRelaxedBernoulli, z: Tensor) -> Tensor:
    """Log density at the logit z, in its dtype."""
    tau = made._tau().to(z)
    far = (made.logits.to(z) - tau * z).abs()
    density: Tensor = tau.log() - far - 2 * torch.log1p(torch.exp(-far))
    return density
