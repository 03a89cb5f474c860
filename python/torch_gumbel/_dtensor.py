# SPDX-License-Identifier: Apache-2.0
"""``gumbel_softmax`` and ``gumbel_argmax`` of DTensors: every rank draws its local shard.

The placements give the global position of a shard, which determines its noise, so communication is
needed only for rows that are sharded by class (see ``_vocab_parallel``). Partial tensors, and
placements other than Shard and Replicate, are redistributed first.
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

from torch_gumbel import _global_checks, _vocab_parallel, _vocab_parallel_log_prob
from torch_gumbel._arguments import check_tensor, check_types
from torch_gumbel.keys import unpadded

# torch 2.11 compiles an autograd.Function between DTensors to a gradient of zero.
_COMPILES_WHOLE_ROWS = torch.__version__ < "2.12"


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
    key, checked_tau = _full_key(key), _for_checks(tau)
    _global_checks.check_softmax(logits.shape, logits, checked_tau, hard, dim, generator, key)
    if _is_outside(logits):
        return logits
    part = _local(logits, dim, generator, key, index=False)
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
    """Indices with the placements of the rows."""
    check_types("gumbel_argmax", logits, temperature, "temperature", generator, key)
    key, checked = _full_key(key), _for_checks(temperature)
    _global_checks.check_argmax(logits.shape, logits, dim, num_samples, checked, generator, key)
    of_rows = _global_checks.temperature_tensor(temperature, logits.shape, dim)
    if num_samples is not None:
        logits, dim = _repeated(logits, dim, num_samples, key)
    if _is_outside(logits):
        none = torch.empty(0, dtype=torch.int64, device=logits.device)
        return _as_dtensor_of_rows(none, logits, logits.placements, dim, keepdim)
    part = _local(logits, dim, generator, key, index=True)
    local = _local_tau(of_rows, part).detach()
    _, index = _vocab_parallel.argmax(part.local, local, part.key, part.shard)
    if not keepdim and logits.dim() > 0:
        index = index.squeeze(part.shard.dim)
    return _as_dtensor_of_rows(index, logits, part.placements, dim, keepdim)


def log_prob_entropy(
    logits: DTensor, index: Tensor, dim: int, temperature: float | Tensor
) -> tuple[DTensor, DTensor]:
    """Log-probabilities and entropies with the placements of the rows."""
    check_types("log_prob_entropy", logits, temperature, "temperature", None, None)
    check_tensor("log_prob_entropy", "index", index)
    on_meta = torch.empty(index.shape, dtype=index.dtype, device="meta")
    checked = _for_checks(temperature)
    _global_checks.check_log_prob(logits.shape, logits, on_meta, dim, checked)
    of_rows = _global_checks.temperature_tensor(temperature, logits.shape, dim)
    if _is_outside(logits):
        none = torch.empty(0, dtype=torch.float32, device=logits.device)
        outside = _as_dtensor_of_rows(none, logits, logits.placements, dim, False)
        return outside, outside
    # Nothing is drawn: any key will do.
    key = torch.zeros(2, dtype=torch.int64)
    part = _local(logits, dim, None, key, index=True)
    tau, classes = _local_tau(of_rows, part), logits.size(dim) if logits.dim() > 0 else 1
    local_index = _local_index(index, logits, part, dim)
    at = part.shard.dim
    if part.shard.group is None:
        local = torch.ops.torch_gumbel.log_prob_entropy.tensor_temperature(
            part.local, local_index, tau, at
        )
    else:
        rows = local_index.unsqueeze(at)
        both = _vocab_parallel_log_prob.log_prob_entropy(part.local, rows, tau, classes, part.shard)
        local = both[0].squeeze(at), both[1].squeeze(at)
    log_prob, entropy = (
        _as_dtensor_of_rows(each, logits, part.placements, dim, False) for each in local
    )
    return log_prob, entropy


def _local_index(index: Tensor, logits: DTensor, part: _Local, dim: int) -> Tensor:
    """The classes of the local rows."""
    if not isinstance(index, DTensor):
        whole = [Replicate()] * part.mesh.ndim
        index = DTensor.from_local(index, part.mesh, whole, run_check=False)
    at = dim % max(logits.dim(), 1)
    local: Tensor = index.redistribute(
        part.mesh, [_of_rows(p, at, False) for p in part.placements]
    ).to_local()
    return local


def _repeated(
    logits: DTensor, dim: int, num_samples: int, key: Tensor | None
) -> tuple[DTensor, int]:
    """Logits expanded by a leading dimension of samples, and the class dimension of the result."""
    if key is not None and unpadded(key, logits.dim()).dim() > 1:
        raise ValueError("gumbel_argmax: num_samples of a DTensor needs one key, got batched keys")
    if logits.dim() == 0:
        raise ValueError("gumbel_argmax: num_samples of a DTensor needs a dimension, got a scalar")
    repeated = logits.detach().unsqueeze(0).expand(num_samples, *logits.shape)
    return cast(DTensor, repeated), dim % logits.dim() + 1


def _is_outside(logits: DTensor) -> bool:
    """Whether this rank is outside the mesh: it holds no shard and takes no part."""
    return logits.device_mesh.get_coordinate() is None


@dataclass(frozen=True)
class _Local:
    """The local shard of the logits, and the key it is drawn with."""

    local: Tensor
    key: Tensor
    shard: _vocab_parallel.Shard
    mesh: DeviceMesh
    placements: list[Placement]


def _local(
    logits: DTensor, dim: int, generator: Generator | None, key: Tensor | None, *, index: bool
) -> _Local:
    """The local shard of the logits; ``index``: the result is one index per row."""
    mesh, rank = logits.device_mesh, logits.dim()
    dim = dim % max(rank, 1)
    placements = _supported_placements(logits.placements, rank, dim)
    if list(logits.placements) != placements:
        logits = logits.redistribute(mesh, placements)
    local = logits.to_local()
    if key is None:
        shape = _global_checks.shape_of_rows(local.shape, dim) if index else local.shape
        _global_checks.reserve(shape, torch.int64 if index else local.dtype, local.device)
        groups = [mesh.get_group(i) for i in range(mesh.ndim)]
        key = _global_checks.common_key(generator, local.device, groups)
    key = unpadded(key, rank)
    ranks = [(mesh.size(i), mesh.get_local_rank(i)) for i in range(mesh.ndim)]
    start = shard_start(logits.shape, placements, ranks)
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
    return _Local(local, key, shard, mesh, placements)


def shard_start(
    shape: Sequence[int], placements: Sequence[Placement], ranks: Sequence[tuple[int, int]]
) -> list[int]:
    """The global position of the first element of a shard: ``torch.chunk`` along each dimension.

    ``ranks``: (size, own rank) of every mesh dimension.
    """
    sizes, start = list(shape), [0] * len(shape)
    for placement, (count, own) in zip(placements, ranks, strict=True):
        if isinstance(placement, Shard):
            i = placement.dim
            chunk = -(-sizes[i] // count)
            begin = min(own * chunk, sizes[i])
            start[i], sizes[i] = start[i] + begin, min(chunk, sizes[i] - begin)
    return start


def _supported_placements(placements: Sequence[Placement], rank: int, dim: int) -> list[Placement]:
    """Shard or Replicate on every mesh dimension, the class dimension sharded at most once."""
    supported: list[Placement] = []
    whole_rows = _COMPILES_WHOLE_ROWS and torch.compiler.is_compiling()
    for placement in placements:
        # A strided shard is no Shard.
        if not isinstance(placement, Shard) or (whole_rows and placement.dim % rank == dim):
            supported.append(Replicate())
            continue
        shard = _shard_of(placement.dim % rank)
        supported.append(Replicate() if shard.dim == dim and shard in supported else shard)
    return supported


def _shard_of(dim: int) -> Shard:
    """``Shard(dim)`` of an int: a placement is a constant of a compiled graph."""
    return Shard(operator.index(dim))


def _class_group(
    mesh: DeviceMesh, placements: list[Placement], dim: int
) -> dist.ProcessGroup | None:
    at_classes = [isinstance(p, Shard) and p.dim == dim for p in placements]
    return mesh.get_group(at_classes.index(True)) if any(at_classes) else None


def _full_key(key: Tensor | None) -> Tensor | None:
    return key.full_tensor() if isinstance(key, DTensor) else key


def _for_checks(tau: float | Tensor) -> float | Tensor:
    """The temperature, a DTensor as a meta tensor of its global shape."""
    if isinstance(tau, DTensor):
        return torch.empty(tau.shape, dtype=tau.dtype, device="meta")
    return tau


def _local_tau(tau: Tensor, part: _Local) -> Tensor:
    """The temperatures of the local rows, with a gradient to the global tensor."""
    alone = not isinstance(tau, DTensor) and tau.numel() == 1 and not tau.requires_grad
    if alone:
        return tau
    if not isinstance(tau, DTensor):
        tau = DTensor.from_local(tau, part.mesh, [Replicate()] * part.mesh.ndim, run_check=False)
    shift = part.local.dim() - tau.dim()
    wanted, of_gradient = [], []
    for placement in part.placements:
        at = placement.dim - shift if isinstance(placement, Shard) else -1
        per_row = at >= 0 and tau.size(at) != 1
        wanted.append(_shard_of(at) if per_row else Replicate())
        # Ranks with rows of a shared temperature hold partial gradients of it; the sum over classes
        # is done by the backward.
        shared = isinstance(placement, Shard) and placement.dim != part.shard.dim and not per_row
        of_gradient.append(Partial() if shared else wanted[-1])
    local: Tensor = tau.redistribute(part.mesh, wanted).to_local(grad_placements=of_gradient)
    return local


def _of_rows(placement: Placement, dim: int, keepdim: bool) -> Placement:
    """The placement of one value per row, for a placement of logits."""
    if not isinstance(placement, Shard) or placement.dim == dim:
        return Replicate()
    return _shard_of(placement.dim - 1) if placement.dim > dim and not keepdim else placement


def _as_dtensor_of_rows(
    local: Tensor, logits: DTensor, placements: Sequence[Placement], dim: int, keepdim: bool
) -> DTensor:
    """A DTensor of one value per row of logits."""
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
