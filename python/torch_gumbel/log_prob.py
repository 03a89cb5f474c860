# SPDX-License-Identifier: Apache-2.0
"""Log-probability of one class per row, with the row's entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import (
    check_tensor,
    check_types,
    integer,
    is_dtensor,
    overridden,
    real_number,
    refuse_dtensor,
    traced_temperature,
)

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def log_prob_entropy(
    logits: Tensor,
    index: Tensor,
    dim: int = -1,
    *,
    temperature: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Log-probability of a class, and entropy, of every row of softmax(logits / temperature).

    Both in nats, in one pass forward and one backward: the only tensor of the size of the logits is
    their gradient. With :func:`torch_gumbel.gumbel_argmax`, what a policy gradient needs. 0 log 0 =
    0; large logits cost no precision, since the largest one and the logarithm of the sum are kept
    apart.

    Args:
        logits: ``[*, K, *]``, classes along ``dim``; float32, float64, float16, or bfloat16; any
            strides. ``-inf`` masks a class, which adds nothing to the entropy and gets a gradient
            of exactly 0.
        index: int64 ``[*, *]``, one class in [0, K) per row: the shape of ``logits`` without
            ``dim``.
        dim: the class dimension.
        temperature: > 0 and finite: a number, a tensor with one value, or one with one value per
            row, as ``tau`` of :func:`torch_gumbel.gumbel_softmax`.

    Returns:
        ``(log_prob, entropy)``, both ``[*, *]``, in float32 (float64 for float64 logits; half types
        are computed and returned in float32), differentiable in logits and temperature in every
        order and in forward mode. ``log_prob`` is never above 0; of a masked class it is -inf,
        with a gradient of 0. A row without a distribution (NaN, +inf, no finite logit, a bad entry
        of a temperature) gives NaN.

    Raises:
        ValueError: ``index`` of another shape or device; a temperature out of range or of a wrong
            shape.
        TypeError: logits not floating point; index not int64; an argument of another type.
        IndexError: ``dim`` out of range; K = 0; an index out of range, where it is on a CPU. On a
            GPU, which would have to wait for the check, such a row gives NaN.

    Source: Shannon, *A Mathematical Theory of Communication* (1948), section 6.

    Example:
        >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
        >>> action = torch_gumbel.gumbel_argmax(logits, key=torch_gumbel.key(0))
        >>> torch_gumbel.log_prob_entropy(logits, action)
        (tensor([-0.6931]), tensor([1.0297]))
    """
    who = "log_prob_entropy"
    tensors = (logits, index, temperature)
    if not _is_compiling() and has_torch_function_variadic(*tensors):
        both: tuple[Tensor, Tensor] = overridden(log_prob_entropy, tensors, locals())
        return both
    if is_dtensor(logits):
        from torch_gumbel import _dtensor

        return _dtensor.log_prob_entropy(logits, index, integer(who, "dim", dim), temperature)
    refuse_dtensor(who, index)
    if _is_compiling():
        taken: float | Tensor = traced_temperature(who, "temperature", logits, temperature)
    else:
        check_types(who, logits, temperature, "temperature", None, None)
        check_tensor(who, "index", index)
        taken = temperature if isinstance(temperature, Tensor) else real_number(temperature)
    dim = integer(who, "dim", dim)
    if isinstance(taken, Tensor):
        both = _ops.log_prob_entropy.tensor_temperature(logits, index, taken, dim)
    else:
        both = _ops.log_prob_entropy.default(logits, index, dim, temperature=taken)
    return both
