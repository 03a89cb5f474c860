# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""The Concrete or Gumbel-Softmax distribution, on the simplex and in log space."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.distributions import (
    Categorical,
    ExpTransform,
    TransformedDistribution,
    constraints,
)
from torch.distributions import RelaxedOneHotCategorical as TorchRelaxedOneHotCategorical
from torch.distributions.distribution import Distribution
from torch.distributions.relaxed_categorical import (
    ExpRelaxedCategorical as TorchExpRelaxedCategorical,
)
from torch.types import _size

from torch_gumbel.distributions._parameters import (
    NO_SHAPE,
    CategoricalFamily,
    CategoricalParameters,
    KeyedSamples,
    compute_type,
)
from torch_gumbel.distributions._relaxed import Simplex, WithoutMoments
from torch_gumbel.noise import sample_gumbel

_ARGUMENTS = {
    "temperature": constraints.positive,
    "probs": constraints.simplex,
    "logits": constraints.real_vector,
}


class ExpRelaxedCategorical(  # type: ignore[override]
    WithoutMoments, CategoricalFamily, TorchExpRelaxedCategorical
):
    r"""The logarithm of a :class:`RelaxedOneHotCategorical` sample.

    At low temperatures or with many classes, samples on the simplex underflow to zero (in float32
    at temperature 0.1, for scores 10.3 below the largest), and so does their density. In log space
    nothing underflows: draw and compute densities there, and take ``exp()`` last.

    Args:
        temperature: > 0; a number, a tensor with one value, or one value per row (a shape that
            broadcasts to the batch shape without making it larger).
        probs: ``[*batch, K]``, not negative; rows are normalized, zeros stay exact zeros.
        logits: ``[*batch, K]``, instead of ``probs``; ``-inf`` is a probability of zero.
        validate_args: whether to check values; default: as in torch.distributions.

    Raises:
        ValueError: both or none of probs and logits; a shape or a value out of range.
        TypeError: parameters that are not floating point.

    Source: Maddison, Mnih, Teh, *The Concrete Distribution* (2016), appendix C.3.

    Example:
        >>> from torch_gumbel.distributions import ExpRelaxedCategorical
        >>> q = ExpRelaxedCategorical(0.05, logits=torch.zeros(1000))
        >>> log_y = q.rsample(key=torch_gumbel.key(0))
        >>> bool(q.log_prob(log_y).isfinite()), bool((log_y.exp() == 0).any())
        (True, True)
    """

    arg_constraints = _ARGUMENTS

    def __init__(
        self,
        temperature: float | Tensor,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        validate = self._validate_args if validate_args is None else validate_args
        parameters = CategoricalParameters(
            type(self).__name__, temperature, probs, logits, validate
        )
        self._set(parameters, validate)

    @property
    def mode(self) -> Tensor:
        """The maximum of the density: log_softmax(logits / temperature), ``[*batch, K]``."""
        return self._log_softmax(-self._parameters.scores().detach().amax(-1, keepdim=True))

    def _log_softmax(self, noise: Tensor) -> Tensor:
        """log_softmax((scores + noise) / temperature), computed in float32 for half types."""
        scores = self._parameters.scores()
        closed = scores == -math.inf  # kept out of the division, whose gradient would be NaN
        perturbed = scores.masked_fill(closed, 0.0).to(compute_type(scores)) + noise
        scaled = (perturbed / self._parameters.tau_rows()).masked_fill(closed, -math.inf)
        sample: Tensor = scaled.log_softmax(-1).to(scores.dtype)
        return sample

    def rsample(
        self,
        sample_shape: _size = NO_SHAPE,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """Draws log y, differentiable in parameters and temperature.

        Args:
            sample_shape: leading dimensions of the result.
            generator: source of the key; default: the device's generator.
            key: explicit randomness; the sample is the logarithm of that of
                :meth:`RelaxedOneHotCategorical.rsample` with the same key.

        Returns:
            ``[*sample_shape, *batch, K]``, log-sum-exp 0 in every row; ``-inf`` for classes of
            probability zero.
        """
        scores = self._parameters.scores()
        wide, shape = compute_type(scores), self._extended_shape(sample_shape)
        noise = sample_gumbel(shape, dtype=wide, device=scores.device, generator=generator, key=key)
        return self._log_softmax(noise)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log density at log y.

        log Gamma(n) + (n - 1) log tau + sum_k s_k, where s = log_softmax(logits - tau log y) over
        the n classes whose probability is not zero. On the face where the others are zero this is
        the density; off it, it is -inf.

        Args:
            value: ``[*, K]``, broadcast with the batch shape; log-sum-exp 0 is not checked.

        Returns:
            ``[*]``, -inf where a class of positive probability has log y = -inf.
        """
        if self._validate_args:
            self._validate_sample(value)
        return _log_density(self._parameters, value).to(value.dtype)


class RelaxedOneHotCategorical(WithoutMoments, KeyedSamples, TorchRelaxedOneHotCategorical):
    r"""The Gumbel-Softmax distribution: softmax((logits + g) / temperature), on the simplex.

    A draw is :func:`torch_gumbel.gumbel_softmax`. ``base_dist`` is the same distribution of log y
    (:class:`ExpRelaxedCategorical`), to be used if samples underflow; ``categorical`` is the
    distribution of the class, whose mean, entropy, and divergences have closed forms.

    Args:
        temperature: > 0; a number, a tensor with one value, or one value per row (a shape that
            broadcasts to the batch shape without making it larger).
        probs: ``[*batch, K]``, not negative; rows are normalized, zeros stay exact zeros.
        logits: ``[*batch, K]``, instead of ``probs``; ``-inf`` is a probability of zero.
        validate_args: whether to check values; default: as in torch.distributions.

    Raises:
        ValueError: both or none of probs and logits; a shape or a value out of range.
        TypeError: parameters that are not floating point.

    Sources: Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2016), eq. 3;
    Maddison, Mnih, Teh, *The Concrete Distribution* (2016), definition 1.

    Example:
        >>> from torch_gumbel.distributions import RelaxedOneHotCategorical
        >>> q = RelaxedOneHotCategorical(0.5, probs=torch.tensor([0.2, 0.3, 0.5]))
        >>> q.rsample((4,)).shape
        torch.Size([4, 3])
    """

    arg_constraints = _ARGUMENTS
    support = Simplex()  # type: ignore[assignment]
    base_dist: ExpRelaxedCategorical

    def __init__(
        self,
        temperature: float | Tensor,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        validate = self._validate_args if validate_args is None else validate_args
        base = ExpRelaxedCategorical.__new__(ExpRelaxedCategorical)
        parameters = CategoricalParameters(
            type(self).__name__, temperature, probs, logits, validate
        )
        base._set(parameters, validate)
        TransformedDistribution.__init__(self, base, ExpTransform(), validate_args=False)
        self._validate_args = validate

    @property
    def categorical(self) -> Categorical:
        """The distribution of the index of the largest coordinate, independent of temperature."""
        return self.base_dist.categorical

    @property
    def mode(self) -> Tensor:
        """The one-hot of the most likely class, first on ties: ``[*batch, K]``.

        Below a temperature of K - 1 the density is unbounded at the corners of the simplex and
        grows fastest towards this one; above, it has an interior mode without a closed form.
        """
        probs = self.categorical.probs
        index = probs.detach().argmax(-1, keepdim=True)
        return torch.zeros_like(probs, requires_grad=False).scatter_(-1, index, 1.0)

    def expand(
        self, batch_shape: _size, _instance: Distribution | None = None
    ) -> RelaxedOneHotCategorical:
        """The same distribution over a larger batch, without a copy."""
        new = self._get_checked_instance(type(self), _instance)
        expanded: RelaxedOneHotCategorical = super().expand(batch_shape, _instance=new)
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
            ``[*sample_shape, *batch, K]``.
        """
        shape = self._extended_shape(sample_shape)
        return self.base_dist._parameters.draw(shape, False, generator, key)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at y with respect to its first n - 1 coordinates, computed in log space.

        A zero of a class with positive probability has underflowed and counts as the smallest
        normal number of its dtype. Classes of probability zero are excluded, as in
        :meth:`ExpRelaxedCategorical.log_prob`.

        Args:
            value: ``[*, K]``, broadcast with the batch shape.

        Returns:
            ``[*]``, finite inside the simplex and, by the rule above, on its edges.

        Raises:
            ValueError: when validating, a value that is not on the simplex.
        """
        if self._validate_args:
            self._validate_sample(value)
        closed = self.base_dist._parameters.scores() == -math.inf
        wide = value.to(compute_type(value))
        logs = wide.clamp(min=torch.finfo(value.dtype).tiny).log()
        logs = logs.masked_fill(closed & (value == 0), -math.inf)
        volume = logs.masked_fill(closed, 0.0).sum(-1)
        return (_log_density(self.base_dist._parameters, logs) - volume).to(value.dtype)


def _log_density(parameters: CategoricalParameters, log_y: Tensor) -> Tensor:
    """Log density of log y over the classes of positive probability."""
    wide = compute_type(log_y)
    scores, log_y = torch.broadcast_tensors(parameters.scores().to(wide), log_y.to(wide))
    closed, gone = scores == -math.inf, log_y == -math.inf
    off_support = (closed != gone).any(-1)
    tilted = scores.masked_fill(closed, 0.0) - parameters.tau_rows() * log_y.masked_fill(gone, 0.0)
    shares = tilted.masked_fill(closed, -math.inf).log_softmax(-1).masked_fill(closed, 0.0)
    classes = (~closed).sum(-1).to(wide)
    scale = classes.lgamma() + (classes - 1) * parameters.tau().log()
    density: Tensor = scale + shares.sum(-1)
    return density.masked_fill(off_support, -math.inf)
