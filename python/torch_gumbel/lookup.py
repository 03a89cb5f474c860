# SPDX-License-Identifier: Apache-2.0
"""straight_through_lookup: a sampled code of a codebook, by a gather."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Generator, Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import (
    check_string,
    check_tensor,
    checked_call,
    flag,
    overridden,
    real_number,
    refuse_dtensor,
)

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


@overload
def straight_through_lookup(
    logits: Tensor,
    codebook: Tensor,
    tau: float | Tensor = 1,
    hard: bool = True,
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    return_index: Literal[False] = False,
    estimator: str = "gumbel",
) -> Tensor: ...
@overload
def straight_through_lookup(
    logits: Tensor,
    codebook: Tensor,
    tau: float | Tensor = 1,
    hard: bool = True,
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    return_index: Literal[True],
    estimator: str = "gumbel",
) -> tuple[Tensor, Tensor]: ...
def straight_through_lookup(
    logits: Tensor,
    codebook: Tensor,
    tau: float | Tensor = 1,
    hard: bool = True,
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    return_index: bool = False,
    estimator: str = "gumbel",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Draws a code: ``gumbel_softmax(logits, tau, hard) @ codebook``.

    A hard lookup gathers the code of the drawn class instead of computing a matrix product; the
    forward allocates nothing of the size of the logits. The gradients are those of the product: the
    drawn code gets the incoming gradient, the logits get the straight-through gradient of the soft
    sample of the same noise. The backward recomputes that sample, so the logits must not be
    modified before it: an in-place modification raises an error, one through ``.data`` silently
    gives a wrong gradient.

    With ``codebook = torch.arange(K).float()`` the result is the straight-through index: value k,
    gradient J(y) arange(K) / tau with y the soft sample and J(y) = diag(y) - y y^T.

    Args:
        logits: ``[*, K]``, as for :func:`torch_gumbel.gumbel_softmax`, classes last.
        codebook: ``[K, D]``, or ``[K]`` for a result without the last dimension; floating point.
        tau: as for :func:`torch_gumbel.gumbel_softmax`.
        hard: the drawn code, or the mean of the codes under the soft sample (a matrix product).
        generator: as for :func:`torch_gumbel.gumbel_softmax`.
        key: as for :func:`torch_gumbel.gumbel_softmax`.
        return_index: return the drawn class as well.
        estimator: of the gradient at the logits of a hard lookup, as for
            :func:`torch_gumbel.sample_one_hot` with its other arguments at their defaults;
            ``"zgr"`` wants tau at 1. Those but ``"gumbel"`` keep a copy of the logits, make a
            one-hot, and multiply it by the codebook.

    Returns:
        ``[*, D]`` (or ``[*]``) of the codebook's dtype, differentiable in logits, tau, and
        codebook, twice and in forward mode; with ``return_index`` the pair of it and the class,
        int64 ``[*]``. A row without a distribution gives NaN and index 0.

    Raises:
        As :func:`torch_gumbel.gumbel_softmax`; ValueError also for a codebook of the wrong shape or
        device, TypeError for one that is not floating point, IndexError for K = 0.

    Source: van den Oord, Vinyals, Kavukcuoglu, *Neural Discrete Representation Learning* (2017),
    for the lookup; Jang, Gu, Poole (2016), section 2.2, for the gradient.

    Example:
        >>> logits = torch.zeros(2, 3, requires_grad=True)
        >>> codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> torch_gumbel.straight_through_lookup(
        ...     logits, codebook, key=torch_gumbel.key(0), return_index=True
        ... )[1]
        tensor([0, 2])

        A common alternative has the value k and the gradient of one soft coordinate:

        >>> key = torch_gumbel.key(0)
        >>> y = torch_gumbel.gumbel_softmax(logits, key=key)
        >>> k = torch_gumbel.gumbel_argmax(logits, key=key)
        >>> k + y[..., 0] - y[..., 0].detach()
        tensor([0., 2.], grad_fn=<SubBackward0>)
    """
    who = "straight_through_lookup"
    if not _is_compiling() and has_torch_function_variadic(logits, codebook, tau, key):
        drawn: Tensor | tuple[Tensor, Tensor]
        drawn = overridden(straight_through_lookup, (logits, codebook, tau, key), locals())
        return drawn
    taken = checked_call(who, logits, tau, "tau", generator, key)
    check_tensor(who, "codebook", codebook)
    refuse_dtensor(who, codebook)
    check_string(who, "estimator", estimator)
    hard, wanted = flag(who, "hard", hard), flag(who, "return_index", return_index)
    if estimator == "zgr" and not isinstance(tau, Tensor):
        taken = real_number(tau)  # not a tensor of a graph: it has to be 1
    ops = _ops.straight_through_lookup
    op = ops.tensor_tau if isinstance(taken, Tensor) else ops.default
    output, index = op(
        logits,
        codebook,
        taken,
        hard,
        return_index=wanted,
        estimator=estimator,
        generator=generator,
        key=key,
    )
    return (output, index) if wanted else output
