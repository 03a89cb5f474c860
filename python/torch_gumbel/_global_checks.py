# SPDX-License-Identifier: Apache-2.0
"""The front door where a rank sees only a part: every check on the whole, before any rank talks.

The checks are the C++ front door's own, run on meta tensors of the whole's shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Generator, Tensor
from torch.distributed import _functional_collectives as collectives

from torch_gumbel._arguments import real_number
from torch_gumbel.functional import gumbel_argmax, gumbel_softmax
from torch_gumbel.keys import new_key


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
    whole = torch.empty(shape, dtype=logits.dtype, device="meta")
    source = None if key is None else generator  # alone, it is checked where it is read
    gumbel_softmax(whole, _meta(tau), hard, dim=dim, generator=source, key=_meta_key(key))


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
    whole = torch.empty(shape, dtype=logits.dtype, device="meta")
    source = None if key is None else generator
    gumbel_argmax(
        whole,
        dim,
        num_samples=num_samples,
        temperature=_meta(temperature),
        generator=source,
        key=_meta_key(key),
    )


def common_key(
    generator: Generator | None,
    device: torch.device | str | None,
    groups: Sequence[dist.ProcessGroup],
) -> Tensor:
    """Drawn on every rank, so that generators stay in step; that of the first rank for all."""
    words = new_key(generator, device).view(torch.int64)  # not every backend knows uint64
    for group in groups:
        words = collectives.wait_tensor(collectives.broadcast(words, 0, group))  # type: ignore[no-untyped-call]
    return words.view(torch.uint64)


def temperature_tensor(value: float | Tensor, shape: Sequence[int], dim: int) -> Tensor:
    """A checked temperature for logits of that shape as private ops take it: one of the shape of
    the rows has size 1 at ``dim``."""
    if not isinstance(value, Tensor):
        return torch.tensor(real_number(value), dtype=torch.float64, device="cpu")
    value = value if value.is_floating_point() else value.double()
    if value.dim() == 0:
        return value
    of_rows = list(value.shape) == shape_of_rows(shape, dim)
    return value.unsqueeze(dim % len(shape)) if of_rows else value


def reserve(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
    """Raises what an allocation raises, before a key is drawn for such a result."""
    if not torch.compiler.is_compiling():
        torch.empty(shape, dtype=dtype, device=device)


def shape_of_rows(shape: Sequence[int], dim: int) -> list[int]:
    """Without the class dimension, which a 0-d tensor has not."""
    return [n for i, n in enumerate(shape) if i != dim % len(shape)]


def output_type(logits: Tensor) -> torch.dtype:
    """That of logits; under autocast on CUDA float32 for half types, as the front door has it."""
    half = logits.dtype in (torch.float16, torch.bfloat16)
    wide = half and logits.is_cuda and torch.is_autocast_enabled("cuda")
    return torch.float32 if wide else logits.dtype


def unpadded(key: Tensor, rank: int) -> Tensor:
    """``[*batch, 2]`` of a key that may be padded with ones to the rank of logits."""
    if key.dim() - 1 < rank:
        return key
    batch = list(key.shape[:-1])
    while batch and batch[-1] == 1:
        batch.pop()
    return key.reshape(*batch, 2)


def _meta(tau: float | Tensor) -> float | Tensor:
    return tau.detach().to("meta") if isinstance(tau, Tensor) else tau


def _meta_key(key: Tensor | None) -> Tensor | None:
    return None if key is None else key.to("meta")
