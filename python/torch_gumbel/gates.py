# SPDX-License-Identifier: Apache-2.0
"""Gates: relaxed Bernoulli samples, element by element."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import checked_call, flag, number, overridden

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def gumbel_sigmoid(
    logits: Tensor,
    tau: float | Tensor = 1,
    hard: bool = False,
    threshold: float = 0.5,
    *,
    recompute: bool = False,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""Samples the binary Concrete distribution: sigmoid((logits + L) / tau), element by element.

    L = log v - log(1 - v) is logistic noise of one uniform number v, resolved in both tails: \|L\|
    up to 45. The distribution is that of the first of two classes of
    :func:`torch_gumbel.gumbel_softmax` with logits (l, 0); the noise of a key is another.

    Args:
        logits: of any shape and strides; float32, float64, float16, or bfloat16. -inf and +inf give
            exactly 0 and 1 with a gradient of exactly 0; NaN gives NaN.
        tau: temperature > 0 and finite: a number, or a tensor that broadcasts to the logits, which
            gets a gradient and is never read on the host: a bad entry gives NaN.
        hard: 1 where the soft sample exceeds ``threshold``, else 0, with the gradient of the soft
            sample of the same noise (straight-through). At 0.5 it is 1 with probability
            sigmoid(logits) whatever ``tau`` is, bitwise equal on every device and in every dtype
            that represents the logit.
        threshold: of a hard sample, in (0, 1).
        recompute: keep logits and key for the backward, which must not be modified until then, and
            make the noise again. By default float32 and float64 samples keep the soft sample, and
            half types the distance of the soft sample to the nearer of 0 and 1, which they would
            round away.
        generator: source of the key of this call (default: the device's generator).
        key: explicit randomness, ``[2]``, or ``[*batch, 2]`` with batch the leading sizes of the
            logits.

    Returns:
        A contiguous tensor of the shape and dtype of the logits, differentiable.

    Raises:
        ValueError: tau not > 0 and finite; a tau that does not broadcast; a threshold not in
            (0, 1); key or generator of the wrong shape or device; both given.
        TypeError: logits not floating point; a key that is not uint64 or int64; an argument of a
            wrong type; a DTensor.

    Sources: Maddison, Mnih, Teh, *The Concrete Distribution* (2016), section 3.1; Jang, Gu, Poole,
    *Categorical Reparameterization with Gumbel-Softmax* (2016).

    Example:
        >>> logits = torch.tensor([-2.0, 0.0, 2.0])
        >>> torch_gumbel.gumbel_sigmoid(logits, hard=True, key=torch_gumbel.key(0))
        tensor([0., 1., 1.])
    """
    who = "gumbel_sigmoid"
    if not _is_compiling() and has_torch_function_variadic(logits, tau, key):
        drawn: Tensor = overridden(gumbel_sigmoid, (logits, tau, key), locals())
        return drawn
    taken = checked_call(who, logits, tau, "tau", generator, key)
    settings = (flag(who, "hard", hard), number(who, "threshold", threshold))
    options = {"recompute": flag(who, "recompute", recompute), "generator": generator, "key": key}
    op = _ops.gumbel_sigmoid
    drawn = (op.tensor_tau if isinstance(taken, Tensor) else op.default)(
        logits, taken, *settings, **options
    )
    return drawn


def hard_concrete(
    logits: Tensor,
    tau: float | Tensor = 2 / 3,
    lower: float = -0.1,
    upper: float = 1.1,
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""Samples hard concrete gates: stretched to [lower, upper] and clamped to [0, 1].

    clamp(y (upper - lower) + lower, 0, 1) with y a sample of :func:`torch_gumbel.gumbel_sigmoid` of
    the same key, so that a gate is exactly 0 or 1 with positive probability.

    Args:
        logits: log alpha, as for :func:`torch_gumbel.gumbel_sigmoid`.
        tau: as for :func:`torch_gumbel.gumbel_sigmoid`.
        lower: < 0.
        upper: >= 1; at 1 a gate is 1 only by rounding. upper - lower is at most 1e6.
        generator: as for :func:`torch_gumbel.gumbel_sigmoid`.
        key: as for :func:`torch_gumbel.gumbel_sigmoid`.

    Returns:
        A contiguous tensor of the shape and dtype of the logits; its gradient is 0 where a gate is
        clamped.

    Raises:
        As :func:`torch_gumbel.gumbel_sigmoid`; ValueError also for ``lower`` or ``upper`` out of
        range.

    Source: Louizos, Welling, Kingma, *Learning Sparse Neural Networks through L0 Regularization*
    (2018).

    Example:
        >>> torch_gumbel.hard_concrete(torch.zeros(4), key=torch_gumbel.key(0))
        tensor([0.3213, 1.0000, 0.8874, 0.6864])
    """
    who = "hard_concrete"
    if not _is_compiling() and has_torch_function_variadic(logits, tau, key):
        drawn: Tensor = overridden(hard_concrete, (logits, tau, key), locals())
        return drawn
    taken = checked_call(who, logits, tau, "tau", generator, key)
    limits = (number(who, "lower", lower), number(who, "upper", upper))
    op = _ops.hard_concrete
    drawn = (op.tensor_tau if isinstance(taken, Tensor) else op.default)(
        logits, taken, *limits, generator=generator, key=key
    )
    return drawn


def hard_concrete_penalty(
    logits: Tensor, tau: float | Tensor = 2 / 3, lower: float = -0.1, upper: float = 1.1
) -> Tensor:
    r"""The probability that a gate of :func:`torch_gumbel.hard_concrete` is not 0.

    sigmoid(logits - tau log(-lower / upper)), element by element; its sum, the expected number of
    open gates, is the L0 penalty.

    Args:
        logits: log alpha.
        tau: as for :func:`torch_gumbel.hard_concrete`.
        lower: as for :func:`torch_gumbel.hard_concrete`.
        upper: as for :func:`torch_gumbel.hard_concrete`.

    Returns:
        A tensor of the shape and dtype of the logits, differentiable.

    Raises:
        As :func:`torch_gumbel.hard_concrete`.

    Example:
        >>> torch_gumbel.hard_concrete_penalty(torch.tensor([-2.0, 0.0, 2.0]))
        tensor([0.4010, 0.8318, 0.9734])
    """
    who = "hard_concrete_penalty"
    if not _is_compiling() and has_torch_function_variadic(logits, tau):
        penalty: Tensor = overridden(hard_concrete_penalty, (logits, tau), locals())
        return penalty
    taken = checked_call(who, logits, tau, "tau", None, None)
    limits = (number(who, "lower", lower), number(who, "upper", upper))
    op = _ops.hard_concrete_penalty
    penalty = (op.tensor_tau if isinstance(taken, Tensor) else op.default)(logits, taken, *limits)
    return penalty
