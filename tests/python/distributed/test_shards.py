# SPDX-License-Identifier: Apache-2.0
"""The start of a shard against torch.chunk, for meshes larger than tests can start."""

import itertools

import pytest
import torch
from torch.distributed.tensor import Replicate, Shard

from torch_gumbel._dtensor import shard_start


def chunked(shape, placements, ranks):
    """The positions that nested torch.chunk leaves to a rank, per dimension."""
    left = [torch.arange(n) for n in shape]
    for placement, (count, own) in zip(placements, ranks, strict=True):
        if isinstance(placement, Shard):
            pieces = left[placement.dim].chunk(count)
            empty = left[placement.dim][:0]
            left[placement.dim] = pieces[own] if own < len(pieces) else empty
    return left


@pytest.mark.parametrize("shape", [(8, 6), (7, 5), (3, 10), (1, 1), (12, 4)], ids=str)
@pytest.mark.parametrize(
    "placements",
    [
        (Shard(0), Shard(1)),
        (Shard(0), Shard(0)),
        (Shard(1), Replicate()),
        (Replicate(), Shard(1)),
        (Shard(1), Shard(1)),
    ],
    ids=str,
)
def test_a_shard_starts_at_the_chunk_of_torch_chunk(shape, placements):
    mesh = (2, 4)
    covered = torch.zeros(shape, dtype=torch.long)
    for own in itertools.product(*map(range, mesh)):
        ranks = list(zip(mesh, own, strict=True))
        start = shard_start(shape, placements, ranks)
        positions = chunked(shape, placements, ranks)
        sizes = [len(p) for p in positions]
        for begin, p in zip(start, positions, strict=True):
            assert len(p) == 0 or begin == int(p[0])
        for begin, size, whole in zip(start, sizes, shape, strict=True):
            assert begin + size <= whole, "an empty part lies inside the whole, too"
        covered[tuple(slice(b, b + n) for b, n in zip(start, sizes, strict=True))] += 1
    copies = 2 if Replicate() == placements[0] else 4 if Replicate() == placements[1] else 1
    assert (covered == copies).all()
