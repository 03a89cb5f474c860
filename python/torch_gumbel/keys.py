# SPDX-License-Identifier: Apache-2.0
"""Keys: explicit randomness, in the form of PyTorch's stateless random functions.

A key is a uint64 tensor ``[2]`` = (seed, offset), as in ``torch.func._random`` (on a CPU since
torch 2.14); ``[*batch, 2]`` is one key per slice. The same key gives the same noise on every
device.
"""

from __future__ import annotations

import operator

import torch
from torch import Generator, Tensor

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401
from torch_gumbel._arguments import check_source_types, check_tensor, integer

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def new_key(generator: Generator | None = None, device: torch.device | str | None = None) -> Tensor:
    """Draws a key, 128 random bits of a generator.

    Args:
        generator: default: the default generator of ``device``.
        device: of the key; default: the generator's device, or the CPU.

    Returns:
        A uint64 tensor ``[2]``.

    Raises:
        TypeError: not a generator.
        ValueError: the generator is not of that device, or is given inside ``torch.compile``.
    """
    check_source_types("new_key", generator, None)
    if generator is not None and _is_compiling():
        raise ValueError(
            "new_key: torch.compile cannot trace a generator; call new_key(generator) outside and "
            "pass its key in"
        )
    natural = torch.device("cpu") if generator is None else generator.device
    wanted = natural if device is None else torch.device(device)
    if generator is not None and generator.device.type != wanted.type:
        raise ValueError(f"new_key: generator must be on {wanted}, got one on {generator.device}")
    drawn: Tensor = _ops._new_key(torch.empty(0, device=wanted), generator)
    return drawn


def key(seed: int, *, device: torch.device | str | None = None) -> Tensor:
    """The key (seed, 0).

    Args:
        seed: in [-2**63, 2**64); a negative one counts from 2**64.
        device: default: the CPU.

    Returns:
        A uint64 tensor ``[2]``, equal to ``torch.func._random.key(seed)``.

    Raises:
        TypeError: the seed is not an integer.
        ValueError: it is out of range.

    Example:
        >>> torch_gumbel.key(42)
        tensor([42,  0], dtype=torch.uint64)
    """
    # A uint64 constant in a graph stops inductor: "Promotion for uint16, uint32, uint64 types".
    words = [_as_int64("key", "seed", seed), 0]
    return torch.tensor(words, dtype=torch.int64, device=device or "cpu").view(torch.uint64)


def split(key: Tensor, num: int = 2) -> Tensor:
    """Derives ``num`` independent keys from a key, which must not be used for sampling any more.

    The new keys are the words that the key would draw: use a key for sampling or splitting, never
    for both.

    Args:
        key: ``[*batch, 2]``.
        num: number of keys, > 0.

    Returns:
        ``[num, *batch, 2]``, equal to ``torch.func._random.split``.

    Raises:
        TypeError: the key is not a uint64 or int64 tensor, ``num`` not an integer.
        ValueError: the key does not end in 2; ``num`` < 1.
    """
    check_tensor("split", "key", key)
    keys: Tensor = _ops._split_key(key, integer("split", "num", num))
    return keys


def fold_in(key: Tensor, data: int | Tensor) -> Tensor:
    """Derives a key from a key and a number: a layer, a step, a rank.

    Fold only one kind of number into a key: step 3 and rank 3 give the same key. As for
    :func:`split`, the key itself must not be used for sampling.

    Args:
        key: ``[*batch, 2]``.
        data: in [-2**63, 2**64), or a uint64 or int64 tensor with one value on the key's device.

    Returns:
        ``[*batch, 2]``, equal to ``torch.func._random.fold_in`` and ``split(key, data + 1)[data]``.

    Raises:
        TypeError: the key is not a uint64 or int64 tensor, ``data`` of another type.
        ValueError: the key does not end in 2; ``data`` out of range, or not one value.
    """
    check_tensor("fold_in", "key", key)
    folded: Tensor
    if isinstance(data, Tensor):
        folded = _ops._fold_in_key.tensor(key, data)
    else:
        folded = _ops._fold_in_key(key, _as_int64("fold_in", "data", data))
    return folded


def _as_int64(who: str, name: str, value: int) -> int:
    """The bits of an integer in [-2**63, 2**64)."""
    number = integer(who, name, value)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"{who}: {name} must be in [-2**63, 2**64), got {value}")
    # Symbolic integers are below 2**63; larger numbers are concrete.
    return number if number < 2**63 else operator.index(number) - 2**64


def unpadded(key: Tensor, rank: int) -> Tensor:
    """A key without the trailing batch sizes of 1 that pad it to the rank of logits."""
    if key.dim() - 1 < rank:
        return key
    batch = list(key.shape[:-1])
    while batch and batch[-1] == 1:
        batch.pop()
    return key.reshape(*batch, 2)
