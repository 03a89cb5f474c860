# SPDX-License-Identifier: Apache-2.0
"""Exact draws from the classes that filters keep: temperature, top-k, top-p, min-p."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import (
    check_integer,
    checked_call,
    flag,
    integer,
    number,
    overridden,
)

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def sample_logits(
    logits: Tensor,
    dim: int = -1,
    *,
    temperature: float | Tensor = 1.0,
    top_k: int | Tensor | None = None,
    top_p: float | Tensor | None = None,
    min_p: float | Tensor | None = None,
    num_samples: int | None = None,
    return_log_prob: bool = False,
    return_entropy: bool = False,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Any:
    r"""Draws from softmax(logits / temperature), renormalised over the classes that filters keep.

    The filters are applied in the order temperature, top-k, top-p, min-p, each to the renormalised
    rest. The draw is the largest logits / temperature + g among the kept classes, with the noise of
    :func:`torch_gumbel.gumbel_argmax`: where the choice of that function (same key) is kept, it is
    the choice here. Nothing is sorted. With a key per row, ``key=torch_gumbel.split(key, rows)``, a
    row's choice depends neither on its batch nor on its place in it.

    Every parameter is a number, or a tensor with one value or one per row (in a shape as for the
    temperature of :func:`torch_gumbel.gumbel_argmax`), which is never read on the host: an entry
    out of range leaves its row without a distribution.

    Args:
        logits: ``[*, K, *]``, as for :func:`torch_gumbel.gumbel_softmax`. Rows along another
            dimension than the last are copied.
        dim: the class dimension.
        temperature: >= 0 and finite, as for :func:`torch_gumbel.gumbel_argmax`; 0 gives the first
            largest logit.
        top_k: keep the k largest logits; of equal ones the first classes, so that exactly k stay.
            None, 0, or -1 keeps all. A tensor must have integers.
        top_p: of these, keep the shortest prefix in falling order, equal logits in the order of
            classes, with at least this share of their probability, in (0, 1]. None or 1 keeps all.
        min_p: of these, keep those that are at least this share, in [0, 1], as probable as the most
            probable one. None or 0 keeps all.
        num_samples: draws with replacement, as a leading dimension, with the words that
            :func:`torch_gumbel.gumbel_argmax` takes.
        return_log_prob: return the logarithm of the choice's probability in the filtered
            distribution (that of the unfiltered one: without filters).
        return_entropy: return the entropy of the filtered distribution, in nats.
        generator: as for :func:`torch_gumbel.gumbel_softmax`.
        key: as for :func:`torch_gumbel.gumbel_softmax`.

    Returns:
        The index, int64 ``[*]`` (with ``num_samples``: ``[num_samples, *]``), or a tuple of it and
        what was asked for, log-probability first, in float32 (float64 for float64 logits), not
        differentiable. A row without a distribution gives index 0 and NaN.

    Probabilities are compared as multiples of 2**-31 of the row's largest, added exactly: the kept
    classes are the same on every instruction set and for any number of threads.

    Raises:
        As :func:`torch_gumbel.gumbel_argmax`; ValueError also for a number out of range.

    Sources: Fan, Lewis, Dauphin, *Hierarchical Neural Story Generation* (2018), top-k; Holtzman et
    al., *The Curious Case of Neural Text Degeneration* (2019), top-p; Nguyen et al., *Turning Up
    the Heat: Min-p Sampling* (2024).

    Example:
        >>> logits = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04]).log()
        >>> key = torch_gumbel.key(0)
        >>> token, log_prob = torch_gumbel.sample_logits(
        ...     logits, top_p=0.75, return_log_prob=True, key=key
        ... )
        >>> token, log_prob.exp()  # of 0.5, 0.3125, 0.1875
        (tensor(0), tensor(0.5000))
    """
    who = "sample_logits"
    tensors = (logits, temperature, top_k, top_p, min_p, key)
    if not _is_compiling() and has_torch_function_variadic(*tensors):
        return overridden(sample_logits, tensors, locals())
    taken = checked_call(who, logits, temperature, "temperature", generator, key, zero=True)
    if num_samples is not None:
        check_integer(who, "num_samples", num_samples)
    asked = (
        flag(who, "return_log_prob", return_log_prob),
        flag(who, "return_entropy", return_entropy),
    )
    options = {"num_samples": num_samples, "generator": generator, "key": key}
    options |= dict(zip(("return_log_prob", "return_entropy"), asked, strict=True))
    results = _call(who, logits, taken, dim, top_k, top_p, min_p, options)
    index, *others = results
    wanted = [result for result, one in zip(others, asked, strict=True) if one]
    return (index, *wanted) if wanted else index


def filter_logits(
    logits: Tensor,
    dim: int = -1,
    *,
    temperature: float | Tensor = 1.0,
    top_k: int | Tensor | None = None,
    top_p: float | Tensor | None = None,
    min_p: float | Tensor | None = None,
) -> Tensor:
    r"""logits / temperature, with -inf for the classes that filters close.

    The kept classes are those among which :func:`torch_gumbel.sample_logits` draws.

    Args:
        logits: as for :func:`torch_gumbel.sample_logits`.
        dim: the class dimension.
        temperature: as for :func:`torch_gumbel.sample_logits`; at 0 the first largest logit is
            kept, as it is.
        top_k: as for :func:`torch_gumbel.sample_logits`.
        top_p: as for :func:`torch_gumbel.sample_logits`.
        min_p: as for :func:`torch_gumbel.sample_logits`.

    Returns:
        A contiguous tensor of the shape and dtype of the logits, differentiable in logits and
        temperature as long as the same classes are kept. A row without a distribution is NaN.

    Raises:
        As :func:`torch_gumbel.sample_logits`.

    Example:
        >>> torch_gumbel.filter_logits(torch.tensor([2.0, 0.0, 1.0, 1.0]), temperature=0.5, top_k=2)
        tensor([4., -inf, 2., -inf])
    """
    who = "filter_logits"
    tensors = (logits, temperature, top_k, top_p, min_p)
    if not _is_compiling() and has_torch_function_variadic(*tensors):
        filtered: Tensor = overridden(filter_logits, tensors, locals())
        return filtered
    taken = checked_call(who, logits, temperature, "temperature", None, None, zero=True)
    filtered = _call(who, logits, taken, dim, top_k, top_p, min_p, {})
    return filtered


def _call(
    who: str,
    logits: Tensor,
    temperature: float | Tensor,
    dim: int,
    top_k: int | Tensor | None,
    top_p: float | Tensor | None,
    min_p: float | Tensor | None,
    options: dict[str, Any],
) -> Any:
    """The op of that name: of numbers, or of tensors where one of them is a tensor."""
    dim = integer(who, "dim", dim)
    if top_k is not None and not isinstance(top_k, Tensor):
        top_k = integer(who, "top_k", top_k)
    if top_p is not None and not isinstance(top_p, Tensor):
        top_p = number(who, "top_p", top_p)
    if min_p is not None and not isinstance(min_p, Tensor):
        min_p = number(who, "min_p", min_p)
    op = getattr(_ops, who)
    given: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    if not any(isinstance(value, Tensor) for value in (temperature, *given.values())):
        return op.default(logits, dim, temperature=temperature, **given, **options)
    _check_ranges(who, temperature, top_k, top_p, min_p)
    if not isinstance(temperature, Tensor):
        temperature = torch.scalar_tensor(temperature, dtype=torch.float64)
    rows = {name: _as_tensor(logits, value) for name, value in given.items()}
    return op.tensor_temperature(logits, temperature, dim, **rows, **options)


def _check_ranges(
    who: str,
    temperature: float | Tensor,
    top_k: int | Tensor | None,
    top_p: float | Tensor | None,
    min_p: float | Tensor | None,
) -> None:
    """The checks of numbers, which the op of tensors does not read."""
    if not isinstance(temperature, Tensor) and not 0 <= temperature < float("inf"):
        raise ValueError(f"{who}: temperature must be >= 0 and finite, got {temperature}")
    if isinstance(top_k, int) and top_k < -1:
        raise ValueError(f"{who}: top_k must be > 0, or 0 or -1 for none, got {top_k}")
    if isinstance(top_p, float) and not 0 < top_p <= 1:
        raise ValueError(f"{who}: top_p must be in (0, 1], got {top_p}")
    if isinstance(min_p, float) and not 0 <= min_p <= 1:
        raise ValueError(f"{who}: min_p must be in [0, 1], got {min_p}")


def _as_tensor(logits: Tensor, value: float | Tensor | None) -> Tensor | None:
    """A number as a tensor of the graph, so that a new value does not recompile."""
    if value is None or isinstance(value, Tensor):
        return value
    dtype = torch.int64 if isinstance(value, (int, torch.SymInt)) else torch.float64
    if _is_compiling():
        return logits.new_ones((), dtype=dtype) * value
    return torch.scalar_tensor(value, dtype=dtype)
