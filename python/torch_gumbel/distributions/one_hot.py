# SPDX-License-Identifier: Apache-2.0
"""One-hot samples with the straight-through gradient of the Gumbel-Softmax sample."""

from __future__ import annotations

from torch import Generator, Tensor
from torch.distributions import (
    OneHotCategoricalStraightThrough as TorchOneHotCategoricalStraightThrough,
)
from torch.distributions import constraints
from torch.types import _size

from torch_gumbel.distributions._parameters import (
    NO_SHAPE,
    CategoricalFamily,
    CategoricalParameters,
)


class OneHotCategoricalStraightThrough(  # type: ignore[override]
    CategoricalFamily, TorchOneHotCategoricalStraightThrough
):
    r"""One-hot samples whose gradient is that of the relaxed sample of the same noise.

    torch's class of this name has the gradient of ``probs``, without noise and temperature; this
    class is :func:`torch_gumbel.gumbel_softmax` with ``hard=True``. The distribution (``log_prob``,
    ``entropy``, ``mean``, ``enumerate_support``) does not depend on the temperature.

    Args:
        probs: ``[*batch, K]``, not negative; rows are normalized, zeros stay exact zeros.
        logits: ``[*batch, K]``, instead of ``probs``; ``-inf`` is a probability of zero.
        temperature: of the gradient, > 0; a number, a tensor with one value, or one value per row.
        validate_args: whether to check values; default: as in torch.distributions.

    Raises:
        ValueError: both or none of probs and logits; a shape or a value out of range.
        TypeError: parameters that are not floating point.

    Source: Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2016), section
    2.2.

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
    ) -> None:
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
        """Draws one-hot rows in one fused pass, with the straight-through gradient.

        Args:
            sample_shape: leading dimensions of the result.
            generator: source of the key; default: the device's generator.
            key: explicit randomness, as for :meth:`RelaxedOneHotCategorical.rsample`.

        Returns:
            ``[*sample_shape, *batch, K]``.
        """
        shape = self._extended_shape(sample_shape)
        return self._parameters.draw(shape, True, generator, key)
