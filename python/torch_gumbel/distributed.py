# SPDX-License-Identifier: Apache-2.0
"""Sampling over several ranks; loaded when ``torch_gumbel.distributed`` is asked for.

Noise is a function of a key and an element's place in the whole tensor, so a tensor that is cut
into parts draws what it would draw in one piece. ``gumbel_softmax`` and ``gumbel_argmax`` take
DTensors as they are, sharded on any dimension; here are the same for plain tensors whose classes
are cut over a process group, and helpers for keys.

Replicas that are seeded equally draw equal noise. Where each is to draw its own, give it
``key=rank_key(key)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Generator, Tensor

from torch_gumbel import _global_checks, _vocab_parallel
from torch_gumbel._arguments import check_types, integer, is_dtensor
from torch_gumbel.keys import fold_in


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
    r"""This rank's part of :func:`torch_gumbel.gumbel_softmax` of rows cut over ranks by class.

    Hard samples are those of one process in bits, soft ones within the accuracy bound. Forward, one
    all-gather of four numbers per row (of two, for a hard sample without a gradient); backward,
    one all-reduce of a number per row (of three, with a gradient for tau). So all ranks must agree
    on which of logits and tau need a gradient.

    Args:
        logits: this rank's classes of the same rows, ``[*, K_rank, *]``.
        tau: as for :func:`torch_gumbel.gumbel_softmax`, the same on every rank.
        hard: as there.
        dim: the class dimension.
        group: the ranks that hold the classes; default: all.
        first_class: the index in the whole of the first class here, and
        classes: how many classes there are on all ranks. Default: the parts follow each other in
            the order of ranks; their sizes take one more collective, and a look at them on the
            host, so ``torch.compile`` wants both named.
        generator: where the key is drawn from; that of the group's first rank counts.
        key: explicit randomness, the same on every rank.

    Returns:
        ``[*, K_rank, *]``, differentiable by autograd in logits and tau, in every order; not
        under ``torch.func``. The gradient of tau is whole on every rank, as tau is.

    Raises:
        As :func:`torch_gumbel.gumbel_softmax`; ValueError also if only one of ``first_class`` and
        ``classes`` is given, if they have no room for this rank's classes, or if this rank is not
        in the group; TypeError for DTensors, which know their place themselves.
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
    start, shape = _place(who, logits, dim, group, first_class, classes)
    _global_checks.check_softmax(shape, logits, tau, hard, dim, generator, key)
    common = _common_key(logits.shape, _global_checks.output_type(logits), logits, generator, group, key)
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
    """:func:`torch_gumbel.gumbel_argmax` of rows cut over ranks by class, the same on every rank.

    Args, Raises:
        as :func:`vocab_parallel_gumbel_softmax` and :func:`torch_gumbel.gumbel_argmax`.

    Returns:
        int64 class indices in the whole, in bits those of one process. One all-gather of a pair per
        row.
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
    start, shape = _place(who, logits, dim, group, first_class, classes)
    _global_checks.check_argmax(shape, logits, dim, None, temperature, generator, key)
    rows = _global_checks.shape_of_rows(logits.shape, dim)
    common = _common_key(rows, torch.int64, logits, generator, group, key)
    shard, common = _shard(logits, dim, start, shape, group, common)
    of_rows = _global_checks.temperature_tensor(temperature, shape, dim)
    _, index = _vocab_parallel.choose(logits, of_rows, common, shard)
    return index if keepdim else index.squeeze(shard.dim)


def shared_key(
    generator: Generator | None = None,
    *,
    group: dist.ProcessGroup | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """A key that all ranks of a group know: drawn on each, that of the first rank for all.

    Args:
        generator: where it is drawn from, as for :func:`torch_gumbel.new_key`; that of every rank
            advances.
        group: default: all ranks.
        device: where the group's collectives work.

    Returns:
        A uint64 tensor ``[2]``.
    """
    return _global_checks.common_key(generator, device, [_group(group)])


def rank_key(key: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """A key of this rank's own: ``fold_in(key, rank)``.

    Args:
        key: the same on every rank, ``[*batch, 2]``.
        group: the ranks to tell apart; default: all.

    Returns:
        ``[*batch, 2]``, another on every rank: for replicas that must not draw equal noise.
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
    """The key of a call with a result of that shape."""
    if key is not None:
        return key
    _global_checks.reserve(shape, dtype, logits.device)
    return shared_key(generator, group=group, device=logits.device)


def _place(
    who: str,
    logits: Tensor,
    dim: int,
    group: dist.ProcessGroup | None,
    first_class: int | None,
    classes: int | None,
) -> tuple[int, list[int]]:
    """Index of the first class here, and the shape of the whole."""
    if is_dtensor(logits):
        raise TypeError(
            f"{who}: wanted a plain tensor, got a DTensor: call gumbel_* of torch_gumbel"
        )
    shape = list(logits.shape)
    if not -len(shape) <= dim < len(shape):
        return 0, shape  # the front door says what is wrong with it
    here = shape[dim]
    if first_class is None and classes is None:
        first_class, classes = _place_in_order(who, here, _group(group), logits.device)
    if first_class is None or classes is None:
        raise ValueError(f"{who}: wanted both first_class and classes, or neither")
    first_class, classes = (
        integer(who, "first_class", first_class),
        integer(who, "classes", classes),
    )
    if not 0 <= first_class <= classes - here:
        raise ValueError(
            f"{who}: classes [first_class, first_class + {here}) must lie in [0, classes), got "
            f"first_class {first_class} and classes {classes}"
        )
    shape[dim] = classes
    return first_class, shape


def _place_in_order(
    who: str, here: int, group: dist.ProcessGroup, device: torch.device
) -> tuple[int, int]:
    """Parts that follow each other in the order of ranks: (first class here, classes)."""
    if torch.compiler.is_compiling():
        raise ValueError(f"{who}: torch.compile wants first_class= and classes=")
    sizes = torch.empty(dist.get_world_size(group), dtype=torch.int64, device=device)
    dist.all_gather_into_tensor(sizes, torch.tensor([here], device=device), group=group)
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
    key = _global_checks.unpadded(key, logits.dim())
    batch, dim = key.dim() - 1, dim % len(shape)
    start = [first_class if i == dim else 0 for i in range(len(shape))]
    shard = _vocab_parallel.Shard(dim, shape[batch:], start[batch:], _group(group), first_class)
    return shard, key
