# SPDX-License-Identifier: Apache-2.0
"""The front door for DTensors: every rank draws its part of the whole.

A rank's part is told by the placements; it draws the noise of that part, so nothing is gathered but
what rows cut by class need (see ``_vocab_parallel``). Partial tensors, and what is sharded in ways that
are not plain, are made whole first.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import Generator, Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from torch_gumbel import _global_checks, _vocab_parallel
from torch_gumbel._arguments import check_types


def gumbel_softmax(
    logits: DTensor,
    tau: float | Tensor,
    hard: bool,
    dim: int,
    recompute: bool,
    generator: Generator | None,
    key: Tensor | None,
) -> DTensor:
    """A sample with the placements of logits (Replicate where they are Partial)."""
    check_types("gumbel_softmax", logits, tau, "tau", generator, key)
    key, plain_tau = _whole(key), _as_plain(tau)
    _global_checks.check_softmax(logits.shape, logits, plain_tau, hard, dim, generator, key)
    if _is_outside(logits):
        return logits
    part = _part(logits, dim, generator, key, index=False)
    local_tau = _local_tau(_global_checks.temperature_tensor(tau, logits.shape, dim), part)
    dtype = _global_checks.output_type(part.local)
    local = _vocab_parallel.sample(
        part.local, local_tau, part.key, hard, dtype, part.shard, recompute=recompute
    )
    return _as_dtensor(local, part.mesh, part.placements, logits.shape)


def gumbel_argmax(
    logits: DTensor,
    dim: int,
    keepdim: bool,
    num_samples: int | None,
    temperature: float | Tensor,
    generator: Generator | None,
    key: Tensor | None,
) -> DTensor:
    """Indices, sharded as the rows are."""
    check_types("gumbel_argmax", logits, temperature, "temperature", generator, key)
    key, plain = _whole(key), _as_plain(temperature)
    _global_checks.check_argmax(logits.shape, logits, dim, num_samples, plain, generator, key)
    of_rows = _global_checks.temperature_tensor(temperature, logits.shape, dim)
    if num_samples is not None:
        logits, dim = _repeated(logits, dim, num_samples, key)
    if _is_outside(logits):
        none = torch.empty(0, dtype=torch.int64, device=logits.device)
        return _as_dtensor_of_rows(none, logits, logits.placements, dim, keepdim)
    part = _part(logits, dim, generator, key, index=True)
    local = _local_tau(of_rows, part).detach()
    _, index = _vocab_parallel.choose(part.local, local, part.key, part.shard)
    if not keepdim and logits.dim() > 0:
        index = index.squeeze(part.shard.dim)
    return _as_dtensor_of_rows(index, logits, part.placements, dim, keepdim)


def _repeated(
    logits: DTensor, dim: int, num_samples: int, key: Tensor | None
) -> tuple[DTensor, int]:
    """Logits with the samples as a leading dimension, and where that leaves ``dim``."""
    if key is not None and _global_checks.unpadded(key, logits.dim()).dim() > 1:
        raise ValueError("gumbel_argmax: num_samples of a DTensor wants one key, got batched keys")
    if logits.dim() == 0:
        raise ValueError("gumbel_argmax: num_samples of a DTensor wants a dimension, got a scalar")
    repeated = logits.detach().unsqueeze(0).expand(num_samples, *logits.shape)
    return cast(DTensor, repeated), dim % logits.dim() + 1


def _is_outside(logits: DTensor) -> bool:
    """A rank outside the mesh holds nothing, and nothing is to be done there."""
    return logits.device_mesh.get_coordinate() is None


@dataclass(frozen=True)
class _Part:
    """What this rank holds of the logits, and the key it draws with."""

    local: Tensor
    key: Tensor
    shard: _vocab_parallel.Shard
    mesh: DeviceMesh
    placements: list[Placement]


def _part(
    logits: DTensor, dim: int, generator: Generator | None, key: Tensor | None, *, index: bool
) -> _Part:
    """``index``: the result is an index per row."""
    mesh, rank = logits.device_mesh, logits.dim()
    dim = dim % max(rank, 1)
    placements = _plain_placements(logits.placements, rank, dim)
    if list(logits.placements) != placements:
        logits = logits.redistribute(mesh, placements)
    local = logits.to_local()
    if key is None:
        shape = _global_checks.shape_of_rows(local.shape, dim) if index else local.shape
        _global_checks.reserve(shape, torch.int64 if index else local.dtype, local.device)
        groups = [mesh.get_group(i) for i in range(mesh.ndim)]
        key = _global_checks.common_key(generator, local.device, groups)
    key = _global_checks.unpadded(key, rank)
    ranks = [(mesh.size(i), mesh.get_local_rank(i)) for i in range(mesh.ndim)]
    start = part_start(logits.shape, placements, ranks)
    batch = key.dim() - 1
    for i in range(batch):
        key = key.narrow(i, start[i], local.shape[i])
    group = _class_group(mesh, placements, dim)
    full_shape = list(logits.shape[batch:])
    shard = (
        _vocab_parallel.Shard(dim, full_shape, start[batch:], group, start[dim])
        if rank > 0
        else _vocab_parallel.Shard(0)
    )
    return _Part(local, key, shard, mesh, placements)


def part_start(
    shape: Sequence[int], placements: Sequence[Placement], ranks: Sequence[tuple[int, int]]
) -> list[int]:
    """Where a rank's part begins: dimensions are cut as ``torch.chunk`` cuts, one after another.

    ``ranks``: (number of ranks, own number) for every mesh dimension.
    """
    sizes, start = list(shape), [0] * len(shape)
    for placement, (count, own) in zip(placements, ranks, strict=True):
        if isinstance(placement, Shard):
            i = placement.dim
            chunk = -(-sizes[i] // count)
            begin = min(own * chunk, sizes[i])
            start[i], sizes[i] = start[i] + begin, min(chunk, sizes[i] - begin)
    return start


def _plain_placements(placements: Sequence[Placement], rank: int, dim: int) -> list[Placement]:
    """Shard or Replicate on every mesh dimension, the class dimension sharded at most once."""
    plain: list[Placement] = []
    for placement in placements:
        if type(placement) is not Shard:
            plain.append(Replicate())
            continue
        shard = _shard_of(placement.dim % rank)
        plain.append(Replicate() if shard.dim == dim and shard in plain else shard)
    return plain


def _shard_of(dim: int) -> Shard:
    """A placement is a constant of a compiled graph, so its number must be one."""
    return Shard(operator.index(dim))


def _class_group(
    mesh: DeviceMesh, placements: list[Placement], dim: int
) -> dist.ProcessGroup | None:
    at_classes = [isinstance(p, Shard) and p.dim == dim for p in placements]
    return mesh.get_group(at_classes.index(True)) if any(at_classes) else None


def _whole(key: Tensor | None) -> Tensor | None:
    return key.full_tensor() if isinstance(key, DTensor) else key


def _as_plain(tau: float | Tensor) -> float | Tensor:
    """Shape, type, and device of tau for the checks."""
    if isinstance(tau, DTensor):
        return torch.empty(tau.shape, dtype=tau.dtype, device="meta")
    return tau


def _local_tau(tau: Tensor, part: _Part) -> Tensor:
    """The temperatures of this part's rows; their gradient finds its way back to the whole."""
    alone = not isinstance(tau, DTensor) and tau.numel() == 1 and not tau.requires_grad
    if alone:
        return tau
    if not isinstance(tau, DTensor):
        tau = DTensor.from_local(tau, part.mesh, [Replicate()] * part.mesh.ndim, run_check=False)
    shift = part.local.dim() - tau.dim()
    wanted, of_gradient = [], []
    for placement in part.placements:
        at = placement.dim - shift if isinstance(placement, Shard) else -1
        own_rows = at >= 0 and tau.size(at) != 1
        wanted.append(_shard_of(at) if own_rows else Replicate())
        # Each rank has the rows' share of one temperature; classes are summed over in the backward.
        shared = isinstance(placement, Shard) and placement.dim != part.shard.dim and not own_rows
        of_gradient.append(Partial() if shared else wanted[-1])
    local: Tensor = tau.redistribute(part.mesh, wanted).to_local(grad_placements=of_gradient)
    return local


def _of_rows(placement: Placement, dim: int, keepdim: bool) -> Placement:
    """A placement of logits as one of values per row."""
    if not isinstance(placement, Shard) or placement.dim == dim:
        return Replicate()
    return _shard_of(placement.dim - 1) if placement.dim > dim and not keepdim else placement


def _as_dtensor_of_rows(
    local: Tensor, logits: DTensor, placements: Sequence[Placement], dim: int, keepdim: bool
) -> DTensor:
    """One value per row of logits."""
    dim = dim % max(logits.dim(), 1)
    shape = [1 if i == dim else n for i, n in enumerate(logits.shape)]
    if not keepdim and logits.dim() > 0:
        del shape[dim]
    of_rows = [_of_rows(p, dim, keepdim) for p in placements]
    return _as_dtensor(local, logits.device_mesh, of_rows, torch.Size(shape))


def _as_dtensor(
    local: Tensor, mesh: DeviceMesh, placements: Sequence[Placement], shape: torch.Size
) -> DTensor:
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=shape, stride=stride)
