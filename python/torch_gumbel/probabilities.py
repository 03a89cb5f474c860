# SPDX-License-Identifier: Apache-2.0
"""sample_categorical: samples from probabilities instead of logits."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import checked_call, flag, integer, overridden

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def sample_categorical(
    probs: Tensor,
    temperature: float | Tensor,
    hard: bool = False,
    dim: int = -1,
    *,
    validate_args: bool | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""Draws a sample of the Gumbel-Softmax distribution from probabilities.

    Equal to :func:`torch_gumbel.gumbel_softmax` of log(probs), with exact zeros.

    Args:
        probs: ``[*, K, *]``, >= 0; float32, float64, float16, or bfloat16 (half types are computed
            in float32). Rows need not sum to 1. A class of probability 0 is exactly 0 in every
            sample, is never drawn, and gets a gradient of exactly 0.
        temperature: > 0 and finite, a number or a tensor, as ``tau`` of
            :func:`torch_gumbel.gumbel_softmax`.
        hard: the one-hot of the sample, with the gradient of the soft sample.
        dim: the class dimension.
        validate_args: check the values, which synchronizes with a device. Default: as in
            ``torch.distributions`` (``Distribution.set_default_validate_args``): on, unless Python
            runs with ``-O`` or something was compiled (``torch.compile`` disables it for the
            process); off inside ``torch.compile``, ``torch.func``, and on meta tensors, whose
            values cannot be read.
        generator: as for :func:`torch_gumbel.gumbel_softmax`.
        key: as for :func:`torch_gumbel.gumbel_softmax`.

    Returns:
        A tensor of the shape and dtype of ``probs``, differentiable in ``probs`` and
        ``temperature``. Without validation, a row of zeros, or with a negative value, NaN, or
        infinity, gives a row of NaN.

    Raises:
        ValueError: with validation, for such rows; otherwise as
            :func:`torch_gumbel.gumbel_softmax`.
        TypeError, IndexError: as :func:`torch_gumbel.gumbel_softmax`.

    Example:
        >>> probs = torch.tensor([3.0, 0.0, 1.0])
        >>> torch_gumbel.sample_categorical(probs, 0.5, hard=True, key=torch_gumbel.key(0))
        tensor([1., 0., 0.])
    """
    who = "sample_categorical"
    if not _is_compiling() and has_torch_function_variadic(probs, temperature, key):
        sample: Tensor = overridden(sample_categorical, (probs, temperature, key), locals())
        return sample
    taken = checked_call(who, probs, temperature, "temperature", generator, key, what="probs")
    hard, dim = flag(who, "hard", hard), integer(who, "dim", dim)
    ops, validates = _ops.sample_categorical, _validates(who, validate_args, probs)
    op = ops.tensor_temperature if isinstance(taken, Tensor) else ops.default
    sample = op(probs, taken, hard, dim, validate_args=validates, generator=generator, key=key)
    return sample


def _validates(who: str, wanted: bool | None, values: Tensor) -> bool:
    if _is_compiling():
        if wanted:
            raise ValueError(f"{who}: torch.compile cannot check values; pass validate_args=False")
        return False
    if wanted is not None:
        return flag(who, "validate_args", wanted)
    hidden = torch._C._functorch.maybe_current_level() is not None or values.is_meta
    return Distribution._validate_args and not hidden
