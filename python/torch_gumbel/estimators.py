# SPDX-License-Identifier: Apache-2.0
"""sample_one_hot: one-hot samples with the gradient of an estimator by name."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import (
    check_integer,
    check_number,
    check_string,
    checked_call,
    flag,
    integer,
    overridden,
    real_number,
)

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
ESTIMATORS = ("straight-through", "gumbel", "reinmax", "zgr", "gumbel-rao", "gapped", "decoupled")
_is_compiling = torch.compiler.is_compiling


@overload
def sample_one_hot(
    logits: Tensor,
    estimator: str = "straight-through",
    tau: float | Tensor | None = None,
    dim: int = -1,
    *,
    uniform_mix: float = 0.0,
    samples: int = 10,
    gap: float = 1.0,
    tau_forward: float = 1.0,
    return_index: Literal[False] = False,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor: ...
@overload
def sample_one_hot(
    logits: Tensor,
    estimator: str = "straight-through",
    tau: float | Tensor | None = None,
    dim: int = -1,
    *,
    uniform_mix: float = 0.0,
    samples: int = 10,
    gap: float = 1.0,
    tau_forward: float = 1.0,
    return_index: Literal[True],
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...
def sample_one_hot(
    logits: Tensor,
    estimator: str = "straight-through",
    tau: float | Tensor | None = None,
    dim: int = -1,
    *,
    uniform_mix: float = 0.0,
    samples: int = 10,
    gap: float = 1.0,
    tau_forward: float = 1.0,
    return_index: bool = False,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Draws a one-hot sample of softmax(logits), with the gradient of a named estimator.

    The sample is exactly one-hot, with its 1 at the class of :func:`torch_gumbel.gumbel_argmax` of
    the same key, whatever the estimator, which decides the gradient alone. With D the drawn class,
    g the gradient at the sample, p = softmax(logits), and J(y) g = y (g - y.g), the gradient at
    the logits is:

    - ``"straight-through"``: J(softmax(logits / tau)) g / tau, at tau 1 that of
      ``torch.distributions.OneHotCategoricalStraightThrough`` (Bengio, Leonard, Courville, 2013).
    - ``"gumbel"``: J(y) g / tau with y the Gumbel-Softmax sample of the same noise, as
      :func:`torch_gumbel.gumbel_softmax` with ``hard=True`` (Jang, Gu, Poole, 2016).
    - ``"reinmax"``: 2 J((q + D) / 2) g - J(p) g / 2, q = softmax(logits / tau), tau >= 1; second
      order at tau 1 (Liu et al., 2023).
    - ``"zgr"``: (p (g - g_D) + D (g_D - p.g)) / 2, without a temperature; equal to ``"reinmax"``
      at tau 1 (Shekhovtsov, 2023).
    - ``"gumbel-rao"``: the mean of ``"gumbel"`` over ``samples`` draws of the noise given D, made
      in the backward: its mean, with less variance (Paulus, Maddison, Krause, 2020). tau 0.5.
    - ``"gapped"``: J(softmax((logits + c) / tau)) g / tau, where the constants c raise D to the
      largest logit and keep the others ``gap`` below it (Fan et al., 2022).
    - ``"decoupled"``: drawn at temperature ``tau_forward``, with the gradient J(y) g / tau of y =
      softmax(logits / tau + noise) (Shah et al., 2024).

    Args:
        logits: ``[*, K, *]``, as for :func:`torch_gumbel.gumbel_softmax`. They may be modified
            before the backward, for which a copy is kept.
        estimator: the name.
        tau: temperature of the gradient, as for :func:`torch_gumbel.gumbel_softmax`; default: 1,
            or 0.5 for ``"gumbel-rao"``. A tensor gets a gradient, except from ``"reinmax"``; its
            entries below 1 make their rows NaN there.
        dim: the class dimension.
        uniform_mix: e in [0, 1]: draw from (1 - e) p + e / n, with n the number of classes that
            are not masked, and differentiate it as such.
        samples: of ``"gumbel-rao"``, at least 1.
        gap: of ``"gapped"``, not negative.
        tau_forward: of ``"decoupled"``, > 0: a sampler's temperature.
        return_index: return the drawn class as well.
        generator: as for :func:`torch_gumbel.gumbel_softmax`.
        key: as for :func:`torch_gumbel.gumbel_softmax`.

    Returns:
        A sample of the shape and dtype of ``logits``; with ``return_index`` the pair of it and the
        class, int64 ``[*]``. A row without a distribution gives NaN and index 0. Derivatives of
        higher order and forward mode are those of the formulas above, with D constant;
        ``"gumbel-rao"`` has second derivatives at g alone.

    Raises:
        As :func:`torch_gumbel.gumbel_softmax`; ValueError also for an unknown estimator, an
        argument out of range, and one that the estimator does not use and that is not at its
        default; IndexError for K = 0.

    Example:
        >>> logits = torch.tensor([[0.0, 1.0, 2.0]], requires_grad=True)
        >>> z = torch_gumbel.sample_one_hot(logits, "reinmax", key=torch_gumbel.key(0))
        >>> z
        tensor([[0., 0., 1.]], grad_fn=<SampleOneHotBackward>)
    """
    who = "sample_one_hot"
    if not _is_compiling() and has_torch_function_variadic(logits, tau, key):
        drawn: Tensor | tuple[Tensor, Tensor]
        drawn = overridden(sample_one_hot, (logits, tau, key), locals())
        return drawn
    taken = checked_call(who, logits, 1.0 if tau is None else tau, "tau", generator, key)
    check_string(who, "estimator", estimator)
    check_integer(who, "samples", samples)
    wanted = flag(who, "return_index", return_index)
    options: dict[str, Any] = {"samples": samples, "return_index": wanted}
    numbers = {"uniform_mix": uniform_mix, "gap": gap, "tau_forward": tau_forward}
    for name, value in numbers.items():
        check_number(who, name, value)
        options[name] = real_number(value)
    options |= {"generator": generator, "key": key}
    dim = integer(who, "dim", dim)
    if isinstance(taken, Tensor) and tau is not None:
        if not isinstance(tau, Tensor):
            _check_traced_tau(estimator, tau)
        found = _ops.sample_one_hot.tensor_tau(logits, taken, estimator, dim, **options)
    else:
        number = None if tau is None else taken
        found = _ops.sample_one_hot.default(logits, estimator, number, dim, **options)
    output, index = found
    return (output, index) if wanted else output


def _check_traced_tau(estimator: str, tau: float) -> None:
    """The range of a number that is a tensor of the graph."""
    from torch.fx.experimental.symbolic_shapes import guard_or_true

    if estimator == "reinmax" and not guard_or_true(tau >= 1):
        raise ValueError(f'sample_one_hot: tau of "reinmax" must be >= 1, got {float(tau)}')
