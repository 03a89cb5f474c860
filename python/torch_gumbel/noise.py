# SPDX-License-Identifier: Apache-2.0
"""Gumbel noise, as the samplers add it to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import (
    check_dtype,
    check_integer,
    check_source_types,
    check_tensor,
    integer,
    listed,
    overridden,
    refuse_dtensor,
    refuse_traced_generator,
)

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def sample_gumbel(
    size: int | Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""Draws standard Gumbel noise, -log(-log(u)).

    The noise is bitwise equal to that which :func:`torch_gumbel.gumbel_softmax` and
    :func:`torch_gumbel.gumbel_argmax` add to logits of that shape with the same key: it depends
    only on the key and an element's row-major position.

    Args:
        size: a size, or a sequence of them, >= 0.
        dtype: float32, float64, float16, or bfloat16 (default: the default dtype). float32 noise
            lies in [-3.14, 45.06], float64 noise in [-3.81, 45.06]; half types get float32 noise,
            rounded.
        device: default: that of the generator or of a key that is not on the CPU, else the default
            device.
        generator: source of the key of this call (default: the device's generator).
        key: explicit randomness, ``[2]``, or ``[*batch, 2]`` with batch the leading sizes, without
            the last dimension.

    Returns:
        A contiguous tensor without a gradient.

    Raises:
        ValueError: a negative size; key or generator of the wrong shape or device; both given.
        TypeError: a dtype that is not floating point; a size that is not an integer; a key that is
            not uint64 or int64.

    Source: Gumbel, *Statistical Theory of Extreme Values* (1954).

    Example:
        >>> key = torch_gumbel.key(0)
        >>> torch_gumbel.sample_gumbel(3, key=key)
        tensor([ 0.6748, -0.7536, -0.2857])
        >>> logits = torch.tensor([0.0, 1.0, 2.0])
        >>> perturbed = logits + torch_gumbel.sample_gumbel(3, key=key)
        >>> perturbed.argmax() == torch_gumbel.gumbel_argmax(logits, key=key)
        tensor(True)
    """
    who = "sample_gumbel"
    if _is_compiling():
        refuse_traced_generator(who, generator)
    elif has_torch_function_variadic(key):
        if device is None and generator is None:
            device = (
                _device_of(None, key) or torch.get_default_device()
            )  # DeviceContext is such a mode, active until now
        drawn: Tensor = overridden(sample_gumbel, (key,), locals())
        return drawn
    else:
        check_source_types(who, generator, key)
    check_dtype(who, dtype)
    shape = listed(size)
    for n in shape:
        check_integer(who, "size", n)
    if device is None:
        device = _device_of(generator, key)
    drawn = _ops.sample_gumbel.default(
        torch.empty(0, device=device), shape, dtype=dtype, generator=generator, key=key
    )
    return drawn


def gumbel_like(
    input: Tensor,
    *,
    dtype: torch.dtype | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    """:func:`sample_gumbel` of the shape, device, and dtype of a tensor.

    Args:
        input: a floating point tensor; of any type if ``dtype`` is given.
        dtype: default: that of ``input``.
        generator: as for :func:`sample_gumbel`.
        key: as for :func:`sample_gumbel`.

    Returns, Raises:
        as :func:`sample_gumbel`.

    Example:
        >>> torch_gumbel.gumbel_like(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    who = "gumbel_like"
    if _is_compiling():
        refuse_traced_generator(who, generator)
    elif has_torch_function_variadic(input, key):
        drawn: Tensor = overridden(gumbel_like, (input, key), locals())
        return drawn
    else:
        check_tensor(who, "input", input)
        check_source_types(who, generator, key)
    check_dtype(who, dtype)
    refuse_dtensor(who, input)
    drawn = _ops.gumbel_like.default(input, dtype=dtype, generator=generator, key=key)
    return drawn


def gumbel_at(
    index: Tensor, num_classes: int, *, key: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The noise of some classes alone, without that of the others.

    Bitwise ``sample_gumbel([*index.shape[:-1], num_classes], key=key).gather(-1, index)``, in time
    that does not depend on ``num_classes``: enough to score a token that was drawn with a key, or
    to check who drew it.

    Args:
        index: int64 ``[*, m]``, classes of the rows of logits ``[*, num_classes]``.
        num_classes: K of the logits that a sampler adds the noise to, > 0.
        key: as for :func:`sample_gumbel` of the size ``[*, num_classes]``.
        dtype: float32, float64, float16, or bfloat16. float32 is the noise that the samplers add to
            logits of float32 and half types, float64 that of float64 logits.

    Returns:
        The shape of ``index``, without a gradient; NaN where a class is not in [0, num_classes).

    Raises:
        ValueError: ``num_classes`` < 1; a key of the wrong shape or device.
        TypeError: an index that is not an int64 tensor; a dtype that is not floating point; a key
            that is not uint64 or int64.

    Example:
        >>> key, index = torch_gumbel.key(0), torch.tensor([2, 0])
        >>> torch_gumbel.gumbel_at(index, 3, key=key)
        tensor([-0.2857,  0.6748])
        >>> torch_gumbel.sample_gumbel(3, key=key)
        tensor([ 0.6748, -0.7536, -0.2857])
    """
    who = "gumbel_at"
    if not _is_compiling() and has_torch_function_variadic(index, key):
        value: Tensor = overridden(gumbel_at, (index, key), locals())
        return value
    check_tensor(who, "index", index)
    check_tensor(who, "key", key)
    check_dtype(who, dtype)
    refuse_dtensor(who, index)
    value = _ops.gumbel_at.default(
        index, integer(who, "num_classes", num_classes), key=key, dtype=dtype
    )
    return value


def _device_of(generator: Generator | None, key: Tensor | None) -> torch.device | None:
    """The device of the generator or key; None for a CPU key, which serves every device."""
    if generator is not None:
        return generator.device
    return key.device if key is not None and key.device.type != "cpu" else None
