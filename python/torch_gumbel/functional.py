# SPDX-License-Identifier: Apache-2.0
"""gumbel_softmax and gumbel_argmax: dispatch to C++, to traced ops, and to DTensors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import (
    check_integer,
    check_types,
    flag,
    integer,
    is_dtensor,
    overridden,
    real_number,
    refuse_traced_generator,
    traced_temperature,
)
from torch_gumbel._library import _C

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_softmax = _C.gumbel_softmax
_softmax_tensor_tau = _C.gumbel_softmax_tensor_tau
_argmax = _C.gumbel_argmax
_argmax_tensor = _C.gumbel_argmax_tensor_temperature
_is_compiling = torch.compiler.is_compiling


def gumbel_softmax(
    logits: Tensor,
    tau: float | Tensor = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    recompute: bool = False,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""Draws a sample of the Gumbel-Softmax distribution, softmax((logits + g) / tau).

    A drop-in replacement of :func:`torch.nn.functional.gumbel_softmax` in one fused pass, without a
    noise tensor or other intermediates. The noise is finite for every random word and resolved to
    about 45; half types are computed in float32.

    Args:
        logits: unnormalized log-probabilities ``[*, K, *]``, classes along ``dim``; float32,
            float64, float16, or bfloat16; any strides. ``-inf`` masks a class: probability and
            gradient exactly 0. A row without a finite logit, or with NaN or +inf, gives NaN.
        tau: temperature, > 0 and finite: a number (Python's or numpy's), a tensor with one value,
            or a tensor with one value per row. The latter has the shape of ``logits`` without
            ``dim`` (``[B]`` for ``[B, K]``), or one that broadcasts to ``logits`` with size 1 at
            ``dim``. A tensor gets a gradient of its shape and is never read on the host; an entry
            that is not positive and finite makes its rows NaN.
        hard: return the one-hot of the sample, with the gradient of the soft sample of the same
            noise (straight-through): exactly one 1 and K - 1 zeros. If a gradient is required, the
            soft sample is saved for the backward, as by PyTorch; otherwise nothing is saved. The 1
            is at the class of :func:`gumbel_argmax`, with its domain of exactness, and so at the
            largest class of a float32 soft sample of the same key, unless the row's two largest
            scores lie within 2**-22 max(8, tau, M) of each other, M the largest magnitude of a
            score: a hard sample rounds its scores, a soft one at tau 1 does not (on a CPU, K > 16).
        eps: ignored, as by PyTorch.
        dim: the class dimension.
        recompute: for the backward of a hard sample, save logits and key and recompute the noise,
            instead of saving the soft sample: one tensor less in memory. Until that backward
            neither ``logits`` nor ``key`` may be modified: an in-place modification raises an
            error, one through ``.data`` silently changes the gradient. Ignored for soft samples.
        generator: source of the key of this call (default: the device's generator).
        key: explicit randomness, a uint64 or int64 tensor ``[*batch, 2]`` (:func:`key`,
            :func:`new_key`): the sample is a pure function of logits, tau, and key, the same
            choices on every device. With ``batch``, each slice of the leading dimensions has a key.

    Returns:
        A contiguous tensor of the shape and dtype of ``logits`` (float32 under autocast on
        CUDA, as from PyTorch), differentiable in ``logits`` and ``tau``, twice and in forward mode.

    Raises:
        ValueError: tau not positive and finite or of a wrong shape; key or generator of the wrong
            shape or device; both given.
        TypeError: logits not floating point; key not uint64 or int64; an argument of another type.
        IndexError: ``dim`` out of range; ``hard`` with K = 0.

    Sources: Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2016), eq. 2;
    Maddison, Mnih, Teh, *The Concrete Distribution* (2016).

    Example:
        >>> logits = torch.zeros(2, 3)
        >>> torch_gumbel.gumbel_softmax(logits, hard=True, key=torch_gumbel.key(0))
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """
    if _is_compiling():
        return _traced_softmax(logits, tau, hard, dim, recompute, generator, key)
    if has_torch_function_variadic(logits, tau, key):
        sample: Tensor = overridden(gumbel_softmax, (logits, tau, key), locals())
        return sample
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    if type(logits) is not Tensor and is_dtensor(logits):
        return _softmax_of_dtensor(logits, tau, hard, dim, recompute, generator, key)
    check_types("gumbel_softmax", logits, tau, "tau", generator, key)
    if type(dim) is not int or type(hard) is not bool or type(recompute) is not bool:
        hard, dim, recompute = _softmax_settings(hard, dim, recompute)
    if isinstance(tau, Tensor):
        return _softmax_tensor_tau(logits, tau, hard, dim, recompute, generator, key)
    number = tau if type(tau) is float else real_number(tau)
    return _softmax(logits, number, hard, dim, recompute, generator, key)


def gumbel_argmax(
    logits: Tensor,
    dim: int = -1,
    keepdim: bool = False,
    *,
    num_samples: int | None = None,
    temperature: float | Tensor = 1.0,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""Draws exactly from Categorical(softmax(logits / temperature)).

    The draw is argmax(logits / temperature + g), without probabilities or a one-hot. At temperature
    1 it is the position of the 1 in ``gumbel_softmax(logits, hard=True)`` of the same key; at
    temperature 0 it is greedy, the argmax of the logits.

    Exactness has a domain: logits / temperature + g is rounded to float32 (float64 for float64
    logits) before classes are compared, and the first class wins a tie. Scores of magnitude M
    change probabilities by up to about M 2**-24 (float64: M 2**-53), in favour of earlier classes:
    negligible at ordinary logits, but 0.06 at 1e6. As the temperature falls, draws converge to the
    argmax: temperatures below 2**-64 count as 2**-64 (float64: 2**-512), and a quotient out of the
    range of the dtype as its largest number.

    Args:
        logits: ``[*, K, *]``, as for :func:`gumbel_softmax`.
        dim: the class dimension.
        keepdim: keep it, with size 1.
        num_samples: number of draws with replacement, > 0; only their indices are allocated (twice
            with batched keys). The words are those of the shape ``[num_samples, *logits.shape]``;
            with batched keys each slice draws independently, by ``[num_samples, *slice.shape]``.
            Every draw takes a pass over the row: for many, :class:`distributions.Categorical` sums
            the probabilities once.
        temperature: >= 0 and finite: a number, a tensor with one value, or a tensor with one value
            per row, as ``tau`` of :func:`gumbel_softmax`. Logits are multiplied by the float32
            number 1 / temperature. 0 is greedy; in a tensor, for its rows. A tensor is never read
            on the host; an entry that is negative or not finite leaves its rows without a
            distribution.
        generator: as for :func:`gumbel_softmax`.
        key: as for :func:`gumbel_softmax`.

    Returns:
        int64 class indices ``[*, *]``, with ``num_samples`` ``[num_samples, *, *]``, always in
        [0, K): the first class on ties, 0 for a row without a distribution (NaN, +inf, or no
        finite logit). Not differentiable.

    Raises:
        As :func:`gumbel_softmax`; IndexError also for K = 0, ValueError for ``num_samples`` < 1.

    Sources: Gumbel, *Statistical Theory of Extreme Values* (1954); Maddison, Tarlow, Minka,
    *A\* Sampling* (2014).

    Example:
        >>> torch_gumbel.gumbel_argmax(torch.zeros(2, 3), key=torch_gumbel.key(0))
        tensor([0, 2])
        >>> logits = torch.tensor([0.6, 0.3, 0.1]).log()
        >>> draws = torch_gumbel.gumbel_argmax(logits, num_samples=10_000, key=torch_gumbel.key(0))
        >>> draws.bincount() / 10_000
        tensor([0.6008, 0.2988, 0.1004])
    """
    if _is_compiling():
        return _traced_argmax(logits, dim, keepdim, num_samples, temperature, generator, key)
    if has_torch_function_variadic(logits, temperature, key):
        drawn: Tensor = overridden(gumbel_argmax, (logits, temperature, key), locals())
        return drawn
    if type(logits) is not Tensor and is_dtensor(logits):
        return _argmax_of_dtensor(logits, dim, keepdim, num_samples, temperature, generator, key)
    check_types("gumbel_argmax", logits, temperature, "temperature", generator, key)
    if type(dim) is not int or type(keepdim) is not bool or num_samples is not None:
        dim, keepdim = _argmax_settings(dim, keepdim, num_samples)
    if isinstance(temperature, Tensor):
        return _argmax_tensor(logits, temperature, dim, keepdim, num_samples, generator, key)
    number = temperature if type(temperature) is float else real_number(temperature)
    return _argmax(logits, dim, keepdim, num_samples, number, generator, key)


def _softmax_settings(hard: Any, dim: Any, recompute: Any) -> tuple[bool, int, bool]:
    who = "gumbel_softmax"
    return (
        flag(who, "hard", hard),
        integer(who, "dim", dim),
        flag(who, "recompute", recompute),
    )


def _argmax_settings(dim: Any, keepdim: Any, num_samples: int | None) -> tuple[int, bool]:
    who = "gumbel_argmax"
    if num_samples is not None:
        check_integer(who, "num_samples", num_samples)
    return integer(who, "dim", dim), flag(who, "keepdim", keepdim)


# The functions below are traced by torch.compile: ops, which dispatch on tensor subclasses. They
# compare no argument with its default (a second trace) and do not warn (a graph break).


def _traced_softmax(
    logits: Tensor,
    tau: float | Tensor,
    hard: bool,
    dim: int,
    recompute: bool,
    generator: Generator | None,
    key: Tensor | None,
) -> Tensor:
    refuse_traced_generator("gumbel_softmax", generator)
    if is_dtensor(logits):
        return _softmax_of_dtensor(logits, tau, hard, dim, recompute, None, key)
    temperature = traced_temperature("gumbel_softmax", "tau", logits, tau)
    sample: Tensor = torch.ops.torch_gumbel.gumbel_softmax.tensor_tau(
        logits, temperature, hard, dim, recompute=recompute, key=key
    )
    return sample


def _traced_argmax(
    logits: Tensor,
    dim: int,
    keepdim: bool,
    num_samples: int | None,
    temperature: float | Tensor,
    generator: Generator | None,
    key: Tensor | None,
) -> Tensor:
    refuse_traced_generator("gumbel_argmax", generator)
    if is_dtensor(logits):
        return _argmax_of_dtensor(logits, dim, keepdim, num_samples, temperature, None, key)
    traced = traced_temperature("gumbel_argmax", "temperature", logits, temperature, zero=True)
    drawn: Tensor = torch.ops.torch_gumbel.gumbel_argmax.tensor_temperature(
        logits, traced, dim, keepdim, num_samples=num_samples, key=key
    )
    return drawn


def _softmax_of_dtensor(logits: DTensor, *arguments: Any) -> Tensor:
    from torch_gumbel import _dtensor

    return _dtensor.gumbel_softmax(logits, *arguments)


def _argmax_of_dtensor(logits: DTensor, *arguments: Any) -> Tensor:
    from torch_gumbel import _dtensor

    return _dtensor.gumbel_argmax(logits, *arguments)
