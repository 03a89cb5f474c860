# SPDX-License-Identifier: Apache-2.0
"""Sampling over several ranks; imported when ``torch_gumbel.distributed`` is first used.

Noise is a function of a key and the global position of an element, so the shards of a tensor draw
the same samples as the whole tensor in one process. ``gumbel_softmax`` and ``gumbel_argmax`` accept
DTensors, sharded along any dimension; this module has the same functions for plain tensors whose
classes are sharded over a process group, and helpers for keys.

Replicas with equal seeds draw equal noise. For independent noise, pass ``key=rank_key(key)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Generator, Tensor

from torch_gumbel import _global_checks, _vocab_parallel, _vocab_parallel_log_prob
from torch_gumbel._arguments import check_tensor, check_types, integer, is_dtensor
from torch_gumbel.keys import fold_in, unpadded


def vocab_parallel_gumbel_softmax(
    logits: Tensor,
    tau: float | Tensor = 1,
    hard: bool = False,
    dim: int = -1,
    *,
    group: dist.ProcessGroup | None = None,
    first_class: int | None = None,
    classes: int | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""This rank's shard of :func:`torch_gumbel.gumbel_softmax` of rows sharded by class.

    Hard samples are bitwise equal to those of one process, soft ones equal within the accuracy
    bound. The forward takes one all-gather of four numbers per row (two for a hard sample without a
    gradient), the backward one all-reduce of one number per row (three with a gradient for tau).
    All ranks must agree on which of logits and tau require a gradient.

    Args:
        logits: this rank's classes of the same rows, ``[*, K_rank, *]``.
        tau: as for :func:`torch_gumbel.gumbel_softmax`, the same on every rank.
        hard: as for :func:`torch_gumbel.gumbel_softmax`.
        dim: the class dimension.
        group: the ranks that hold the classes; default: all.
        first_class: the global index of the first local class. Default: shards in the order of
            ranks; their sizes take one more collective and a host synchronization, so
            ``torch.compile`` needs ``first_class`` and ``classes``.
        classes: the number of classes on all ranks.
        generator: source of the key; the key of the group's first rank is used.
        key: explicit randomness, the same on every rank.

    Returns:
        ``[*, K_rank, *]``, differentiable by autograd in logits and tau, in every order; not
        under ``torch.func``. Every rank gets the full gradient of tau.

    Raises:
        As :func:`torch_gumbel.gumbel_softmax`; ValueError also if only one of ``first_class`` and
        ``classes`` is given, if this rank's classes do not fit into them, or if this rank is not in
        the group; TypeError for DTensors, which :func:`torch_gumbel.gumbel_softmax` takes.
    """
    who = "vocab_parallel_gumbel_softmax"
    check_types(who, logits, tau, "tau", generator, key)
    dim = integer(who, "dim", dim)
    if logits.dim() == 0:
        return vocab_parallel_gumbel_softmax(
            logits.view(1),
            tau,
            hard,
            dim,
            group=group,
            first_class=first_class,
            classes=classes,
            generator=generator,
            key=key,
        ).view(())
    start, shape = _position(who, logits, dim, group, first_class, classes)
    _global_checks.check_softmax(shape, logits, tau, hard, dim, generator, key)
    common = _common_key(
        logits.shape, _global_checks.output_type(logits), logits, generator, group, key
    )
    shard, common = _shard(logits, dim, start, shape, group, common)
    return _vocab_parallel.sample(
        logits,
        _global_checks.temperature_tensor(tau, shape, dim),
        common,
        hard,
        _global_checks.output_type(logits),
        shard,
    )


def vocab_parallel_gumbel_argmax(
    logits: Tensor,
    dim: int = -1,
    keepdim: bool = False,
    *,
    temperature: float | Tensor = 1.0,
    group: dist.ProcessGroup | None = None,
    first_class: int | None = None,
    classes: int | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    """:func:`torch_gumbel.gumbel_argmax` of rows sharded by class, equal on every rank.

    Args, Raises:
        as :func:`vocab_parallel_gumbel_softmax` and :func:`torch_gumbel.gumbel_argmax`.

    Returns:
        int64 global class indices, equal to those of one process. Takes one all-gather of a pair
        per row.
    """
    who = "vocab_parallel_gumbel_argmax"
    check_types(who, logits, temperature, "temperature", generator, key)
    dim = integer(who, "dim", dim)
    if logits.dim() == 0:
        return vocab_parallel_gumbel_argmax(
            logits.view(1),
            dim,
            temperature=temperature,
            group=group,
            first_class=first_class,
            classes=classes,
            generator=generator,
            key=key,
        )
    start, shape = _position(who, logits, dim, group, first_class, classes)
    _global_checks.check_argmax(shape, logits, dim, None, temperature, generator, key)
    rows = _global_checks.shape_of_rows(logits.shape, dim)
    common = _common_key(rows, torch.int64, logits, generator, group, key)
    shard, common = _shard(logits, dim, start, shape, group, common)
    of_rows = _global_checks.temperature_tensor(temperature, shape, dim)
    _, index = _vocab_parallel.argmax(logits, of_rows, common, shard)
    return index if keepdim else index.squeeze(shard.dim)


def vocab_parallel_log_prob_entropy(
    logits: Tensor,
    index: Tensor,
    dim: int = -1,
    *,
    temperature: float | Tensor = 1.0,
    group: dist.ProcessGroup | None = None,
    first_class: int | None = None,
    classes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`torch_gumbel.log_prob_entropy` of rows sharded by class, equal on every rank.

    The forward takes one all-gather of four numbers per row. The backward takes none at the logits,
    and one all-reduce of one number per row at a temperature.

    Args, Raises:
        as :func:`torch_gumbel.log_prob_entropy` and :func:`vocab_parallel_gumbel_softmax`;
        ``index`` (global) and ``temperature`` are the same on every rank.

    Returns:
        ``(log_prob, entropy)``, ``[*, *]``, differentiable by autograd in logits and temperature,
        in every order; not under ``torch.func``. Their gradients must be the same on every rank, as
        those of a loss are that every rank computes.
    """
    who = "vocab_parallel_log_prob_entropy"
    check_types(who, logits, temperature, "temperature", None, None)
    check_tensor(who, "index", index)
    dim = integer(who, "dim", dim)
    if logits.dim() == 0:
        logits, index = logits.view(1), index.view(())
    start, shape = _position(who, logits, dim, group, first_class, classes)
    _global_checks.check_log_prob(shape, logits, index, dim, temperature)
    dim %= len(shape)
    shard = _vocab_parallel.Shard(dim, group=_group(group), first_class=start)
    tau = _global_checks.temperature_tensor(temperature, shape, dim)
    both = _vocab_parallel_log_prob.log_prob_entropy(
        logits, index.unsqueeze(dim), tau, shape[dim], shard
    )
    return both[0].squeeze(dim), both[1].squeeze(dim)


def shared_key(
    generator: Generator | None = None,
    *,
    group: dist.ProcessGroup | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draws a key on every rank and broadcasts that of the first rank.

    Args:
        generator: source of the key, as for :func:`torch_gumbel.new_key`; it advances on every
            rank.
        group: default: all ranks.
        device: a device that the group's collectives support.

    Returns:
        A uint64 tensor ``[2]``.
    """
    return _global_checks.common_key(generator, device, [_group(group)])


def rank_key(key: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Derives a different key for every rank: ``fold_in(key, rank)``.

    Args:
        key: the same on every rank, ``[*batch, 2]``.
        group: the ranks that get different keys; default: all.

    Returns:
        ``[*batch, 2]``, for replicas that must draw independent noise.
    """
    return fold_in(key, dist.get_rank(_group(group)))


def _group(group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    if group is None:
        world: dist.ProcessGroup = dist.distributed_c10d._get_default_group()
        return world
    if dist.get_rank(group) < 0:
        raise ValueError("torch_gumbel.distributed: this rank is not in the group")
    return group


def _common_key(
    shape: Sequence[int],
    dtype: torch.dtype,
    logits: Tensor,
    generator: Generator | None,
    group: dist.ProcessGroup | None,
    key: Tensor | None,
) -> Tensor:
    """The key of a call whose result has that shape."""
    if key is not None:
        return key
    _global_checks.reserve(shape, dtype, logits.device)
    return shared_key(generator, group=group, device=logits.device)


def _position(
    who: str,
    logits: Tensor,
    dim: int,
    group: dist.ProcessGroup | None,
    first_class: int | None,
    classes: int | None,
) -> tuple[int, list[int]]:
    """The global index of the first local class, and the global shape."""
    if is_dtensor(logits):
        raise TypeError(
            f"{who}: wanted a plain tensor, got a DTensor: call gumbel_* of torch_gumbel"
        )
    shape = list(logits.shape)
    if not -len(shape) <= dim < len(shape):
        return 0, shape  # refused by the checks of the public op
    local = shape[dim]
    if first_class is None and classes is None:
        first_class, classes = _position_in_rank_order(who, local, _group(group), logits.device)
    if first_class is None or classes is None:
        raise ValueError(f"{who}: wanted both first_class and classes, or neither")
    first_class, classes = (
        integer(who, "first_class", first_class),
        integer(who, "classes", classes),
    )
    if not 0 <= first_class <= classes - local:
        raise ValueError(
            f"{who}: classes [first_class, first_class + {local}) must lie in [0, classes), got "
            f"first_class {first_class} and classes {classes}"
        )
    shape[dim] = classes
    return first_class, shape


def _position_in_rank_order(
    who: str, local: int, group: dist.ProcessGroup, device: torch.device
) -> tuple[int, int]:
    """(first local class, classes) of shards in the order of ranks."""
    if torch.compiler.is_compiling():
        raise ValueError(f"{who}: torch.compile needs first_class= and classes=")
    sizes = torch.empty(dist.get_world_size(group), dtype=torch.int64, device=device)
    dist.all_gather_into_tensor(sizes, torch.tensor([local], device=device), group=group)
    counts = sizes.tolist()
    return sum(counts[: dist.get_rank(group)]), sum(counts)


def _shard(
    logits: Tensor,
    dim: int,
    first_class: int,
    shape: list[int],
    group: dist.ProcessGroup | None,
    key: Tensor,
) -> tuple[_vocab_parallel.Shard, Tensor]:
    """The shard of these logits, and the key without padding."""
    key = unpadded(key, logits.dim())
    batch, dim = key.dim() - 1, dim % len(shape)
    start = [first_class if i == dim else 0 for i in range(len(shape))]
    shard = _vocab_parallel.Shard(dim, shape[batch:], start[batch:], _group(group), first_class)
    return shard, key
