# SPDX-License-Identifier: Apache-2.0
"""Checks of a distributed call on its global shape, and what all ranks of the call share.

The checks are those of the public ops, run on meta tensors before the first collective: bad
arguments raise on every rank, and no rank is left waiting.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Generator, Tensor
from torch.distributed import _functional_collectives as collectives

from torch_gumbel._arguments import check_integer, checked_call, flag, integer, real_number
from torch_gumbel.keys import new_key

_ops = torch.ops.torch_gumbel


def check_softmax(
    shape: Sequence[int],
    logits: Tensor,
    tau: float | Tensor,
    hard: bool,
    dim: int,
    generator: Generator | None,
    key: Tensor | None,
) -> None:
    """Raises what ``gumbel_softmax`` of a tensor of that shape would raise."""
    who, source = "gumbel_softmax", _checked_generator(generator, key)
    anchor = torch.empty(shape, dtype=logits.dtype, device="meta")
    tau = checked_call(who, anchor, _meta(tau), "tau", source, key)
    op = _ops.gumbel_softmax.tensor_tau if isinstance(tau, Tensor) else _ops.gumbel_softmax.default
    hard, dim = flag(who, "hard", hard), integer(who, "dim", dim)
    op(anchor, tau, hard, dim, generator=source, key=_meta_key(key))


def check_argmax(
    shape: Sequence[int],
    logits: Tensor,
    dim: int,
    num_samples: int | None,
    temperature: float | Tensor,
    generator: Generator | None,
    key: Tensor | None,
) -> None:
    """Raises what ``gumbel_argmax`` of a tensor of that shape would raise."""
    who, source = "gumbel_argmax", _checked_generator(generator, key)
    anchor = torch.empty(shape, dtype=logits.dtype, device="meta")
    taken = checked_call(who, anchor, _meta(temperature), "temperature", source, key, zero=True)
    if num_samples is not None:
        check_integer(who, "num_samples", num_samples)
    dim = integer(who, "dim", dim)
    options = {"num_samples": num_samples, "generator": source, "key": _meta_key(key)}
    if isinstance(taken, Tensor):
        _ops.gumbel_argmax.tensor_temperature(anchor, taken, dim, **options)
    else:
        _ops.gumbel_argmax.default(anchor, dim, temperature=taken, **options)


def check_log_prob(
    shape: Sequence[int], logits: Tensor, index: Tensor, dim: int, temperature: float | Tensor
) -> None:
    """Raises what ``log_prob_entropy`` of a tensor of that shape would raise, but for values."""
    who = "log_prob_entropy"
    anchor = torch.empty(shape, dtype=logits.dtype, device="meta")
    taken = checked_call(who, anchor, _meta(temperature), "temperature", None, None)
    if isinstance(taken, Tensor):
        _ops.log_prob_entropy.tensor_temperature(anchor, index.to("meta"), taken, dim)
    else:
        _ops.log_prob_entropy.default(anchor, index.to("meta"), dim, temperature=taken)


def _checked_generator(generator: Generator | None, key: Tensor | None) -> Generator | None:
    """The generator, if it is checked against a key; without one, drawing the key checks it."""
    return None if key is None else generator


def common_key(
    generator: Generator | None,
    device: torch.device | str | None,
    groups: Sequence[dist.ProcessGroup],
) -> Tensor:
    """The first rank's key, broadcast over the groups; every rank draws one, so that the
    generators of all ranks advance equally."""
    words = new_key(generator, device).view(torch.int64)  # not every backend knows uint64
    for group in groups:
        words = collectives.wait_tensor(collectives.broadcast(words, 0, group))  # type: ignore[no-untyped-call]
    return words.view(torch.uint64)


def temperature_tensor(value: float | Tensor, shape: Sequence[int], dim: int) -> Tensor:
    """A checked temperature in the form of the private ops: one value per row gets size 1 at
    ``dim``."""
    if not isinstance(value, Tensor):
        return torch.tensor(real_number(value), dtype=torch.float64, device="cpu")
    value = value if value.is_floating_point() else value.double()
    if value.dim() == 0:
        return value
    of_rows = list(value.shape) == shape_of_rows(shape, dim)
    return value.unsqueeze(dim % len(shape)) if of_rows else value


def reserve(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
    """Raises the error of an allocation of that size before a key is drawn."""
    if not torch.compiler.is_compiling():
        torch.empty(shape, dtype=dtype, device=device)


def shape_of_rows(shape: Sequence[int], dim: int) -> list[int]:
    """The shape without the class dimension; ``[]`` for a 0-d tensor."""
    return [n for i, n in enumerate(shape) if i != dim % len(shape)]


def output_type(logits: Tensor) -> torch.dtype:
    """The dtype of the result: that of logits; float32 for half types under autocast on CUDA."""
    half = logits.dtype in (torch.float16, torch.bfloat16)
    wide = half and logits.is_cuda and torch.is_autocast_enabled("cuda")
    return torch.float32 if wide else logits.dtype


def _meta(tau: float | Tensor) -> float | Tensor:
    return tau.detach().to("meta") if isinstance(tau, Tensor) else tau


def _meta_key(key: Tensor | None) -> Tensor | None:
    return None if key is None else key.to("meta")
