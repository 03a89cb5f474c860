# SPDX-License-Identifier: Apache-2.0
"""Problems for each way in which rows are shared out on a GPU: tiles, registers, spatial, loops."""

import inputs
import torch
from inputs import INF, NAN, SMALL_WORD_KEY, SMALL_WORDS, Case, keys, normal

FAST = [torch.float32, torch.float16, torch.bfloat16]


def with_special_rows(x):
    """Some rows masked in part, all masked, with NaN, with +inf, of one class, of ties."""
    rows, classes = x.shape
    assert rows >= 6
    x[0, torch.rand(classes, generator=torch.Generator().manual_seed(3)) < 0.7] = -INF
    x[1] = -INF
    x[2, classes // 2] = NAN
    x[3, classes - 1] = INF
    x[4, : classes - 1] = -INF
    x[5] = 6e4  # ties: the noise is less than a step
    return x


def tiles():
    for dtype in FAST:
        for classes in [1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 31, 32, 33, 64, 100, 127, 128]:
            rows = max(3, 520 // classes)
            yield Case(
                f"tile {dtype} {rows}x{classes}", normal(rows, classes, dtype=dtype), tau=0.7
            )
        for classes in [3, 32, 100]:
            some = with_special_rows(normal(9, classes, dtype=dtype))
            yield Case(f"tile, special rows {dtype} {classes}", some, tau=0.5)
            per_row = torch.linspace(0.5, 2, 9)[:, None]
            yield Case(f"tile, tau per row {classes}", normal(9, classes, dtype=dtype), tau=per_row)
        for classes in [4, 48]:
            yield Case(f"tile, device key {dtype} {classes}", normal(40, classes, dtype=dtype),
                       key=keys())  # fmt: skip
    for classes in [4, 40]:
        for given in [torch.float16, torch.bfloat16]:
            yield Case(f"tile {given} to float32 {classes}", normal(33, classes, dtype=given),
                       dtype=torch.float32)  # fmt: skip
    for offset in [2**64 - 3, 2**32 - 3]:
        yield Case(f"tile, offset {offset}", normal(9, 20), key=(2**64 - 1, offset))
    for at in SMALL_WORDS:
        for classes in [4, 25]:
            near = {"start": [at // classes - 2, 0], "full_shape": [2**27, classes]}
            if near["start"][0] * classes % 4 == 0:
                yield Case(f"tile, word {at} of {classes}", normal(9, classes),
                           key=SMALL_WORD_KEY, **near)  # fmt: skip


def registers():
    for dtype in FAST:
        for classes in [129, 250, 256, 257, 300, 512, 515, 1000, 1024, 1028, 2048, 3001, 4100]:
            rows = 6 if classes < 600 else 2
            yield Case(f"registers {dtype} {classes}", normal(rows, classes, dtype=dtype), tau=0.7)
        for classes in [133, 512, 1027, 2000]:
            some = with_special_rows(normal(7, classes, dtype=dtype))
            yield Case(f"registers, special rows {dtype} {classes}", some, tau=0.5)
        for classes in [200, 400, 1000, 1500]:
            yield Case(f"registers, device keys {dtype} {classes}",
                       normal(2, classes, dtype=dtype), key=keys(2))  # fmt: skip
        yield Case(f"registers, short strided rows {dtype}", normal(6, 80, dtype=dtype)[::2])
        yield Case(f"registers, offset {dtype}", normal(3, 207, dtype=dtype)[:, 4:])
        yield Case(f"registers, 64 a thread {dtype}", normal(1, 8200, dtype=dtype))
        yield Case(f"registers, 64 a thread, device key {dtype}", normal(1, 9001, dtype=dtype),
                   key=keys(), tau=torch.tensor([[0.5]]))  # fmt: skip
    for given in [torch.float16, torch.bfloat16]:
        for classes in [203, 1600]:
            yield Case(f"registers {given} to float32 {classes}", normal(2, classes, dtype=given),
                       dtype=torch.float32)  # fmt: skip
    for offset in [2**64 - 30, 2**32 - 30]:
        yield Case(f"registers, offset {offset}", normal(2, 300), key=(2**64 - 1, offset))
    for at in SMALL_WORDS:
        near = {"start": [at // 200 - 2, 0], "full_shape": [2**27, 200]}
        yield Case(f"registers, word {at}", normal(5, 200), key=SMALL_WORD_KEY, **near)
    for tau in [1e-3, 1e-30, 1e30, 3e-310]:
        yield Case(f"registers, tau={tau}", normal(2, 200), tau=tau)
    x = normal(4, 300)
    x[0], x[1, 150:], x[2, ::2] = -3.4e38, 3.4e38, 1e30
    yield Case("registers, huge logits", x, tau=0.5)


def looped():
    for dtype in FAST:
        yield Case(f"looped {dtype}", normal(1, 33001, dtype=dtype), tau=0.7)
        yield Case(f"looped, device key {dtype}", normal(1, 32800, dtype=dtype), key=keys())
        yield Case(
            f"multi-block {dtype}", normal(2, 16399, dtype=dtype), tau=0.7, multiprocessors=6
        )
        yield Case(f"multi-block, device keys {dtype}", normal(2, 16400, dtype=dtype), key=keys(2),
                   multiprocessors=6)  # fmt: skip
    some = with_special_rows(normal(6, 16400))
    yield Case("multi-block, special rows", some, tau=0.5, multiprocessors=12)
    some = with_special_rows(normal(6, 32772))
    yield Case("looped, special rows", some, tau=0.5)
    yield Case("multi-block, half to float32", normal(1, 16385, dtype=torch.float16),
               dtype=torch.float32, multiprocessors=2)  # fmt: skip
    yield Case(
        "looped, half to float32", normal(1, 32785, dtype=torch.bfloat16), dtype=torch.float32
    )
    x = normal(1, 33000)
    x[0, :32000] = -INF
    yield Case("looped, masked at first", x)
    yield Case("looped, very low", torch.full((1, 32900), -3e38))
    yield Case("looped, ties", torch.full((1, 32900), 1e9))
    yield Case(
        "multi-block, offset", normal(1, 16400), key=(2**64 - 1, 2**32 - 2050), multiprocessors=3
    )
    at = SMALL_WORDS[1]
    for multiprocessors in [0, 4]:
        near = {"start": [at // 33000 - 1, 0], "full_shape": [2**17, 33000]}
        yield Case(f"looped, word {at}, {multiprocessors}", normal(2, 33000), key=SMALL_WORD_KEY,
                   multiprocessors=multiprocessors, **near)  # fmt: skip


def clusters():
    given = {"multiprocessors": 2, "clusters": True, "only": "soft_forward"}
    for dtype in FAST:
        yield Case(f"cluster {dtype}", normal(1, 16403, dtype=dtype), tau=0.7, **given)
        yield Case(f"cluster, device key {dtype}", normal(1, 16500, dtype=dtype), key=keys(),
                   **given)  # fmt: skip
    yield Case("cluster, special rows", with_special_rows(normal(6, 16400)), tau=0.5, **given)
    yield Case("cluster of 4", normal(1, 40000), **given)
    yield Case("cluster of 8, half to float32", normal(1, 140_000, dtype=torch.bfloat16),
               dtype=torch.float32, **given)  # fmt: skip


def spatial():
    for dtype in FAST:
        for shape in [(2, 35, 8, 4), (3, 1, 8), (1, 5, 16), (2, 9, 264)]:
            yield Case(f"spatial {dtype} {shape}", normal(*shape, dtype=dtype), dim=1, tau=0.7)
        some = with_special_rows(normal(8, 45, dtype=dtype)).t().contiguous()
        yield Case(f"spatial, special rows {dtype}", some, dim=0, tau=0.5)
        per_row = torch.linspace(0.5, 2, 8)[None, None, :]
        yield Case(f"spatial, tau per inner row {dtype}", normal(2, 20, 8, dtype=dtype), dim=1,
                   tau=per_row)  # fmt: skip
        yield Case(f"spatial, a key per matrix {dtype}", normal(3, 21, 16, dtype=dtype), dim=1,
                   key=keys(3))  # fmt: skip
        some = with_special_rows(normal(16, 300, dtype=dtype)).t().contiguous()
        for name, tau in [("", 0.7), (", tau per row", torch.linspace(0.5, 2, 16)[None, :])]:
            yield Case(f"spatial, shared by blocks{name} {dtype}", some, dim=0, tau=tau,
                       multiprocessors=12)  # fmt: skip
        yield Case(f"spatial, shared, device key {dtype}", normal(1, 257, 24, dtype=dtype),
                   dim=1, key=keys(), multiprocessors=12)  # fmt: skip
    yield Case("spatial, half to float32", normal(2, 11, 16, dtype=torch.float16), dim=1,
               dtype=torch.float32)  # fmt: skip
    yield Case("spatial, permuted", normal(3, 2, 8, 19).permute(0, 3, 1, 2), dim=1)
    yield Case("spatial, shard", normal(21, 8), dim=0, full_shape=[100, 24], start=[50, 8])
    yield Case("spatial, offset", normal(20, 8), dim=0, key=(2**64 - 1, 2**32 - 3))
    yield Case("spatial, tail offset", normal(20, 8), dim=0, key=(2**64 - 1, 2**64 - 3))
    for at in SMALL_WORDS:
        near = {"start": [at // 8 - 2, 0], "full_shape": [2**27, 8]}
        yield Case(f"spatial, word {at}", normal(9, 8), dim=0, key=SMALL_WORD_KEY, **near)


def small_weights():
    """Weights below the smallest normal number, whose logarithms a GPU does not take."""
    for dtype in FAST:
        for classes, rows in [(40, 9), (300, 5), (1500, 2), (33000, 1)]:
            x = (10 * normal(rows, classes, dtype=torch.float64)).to(dtype)
            yield Case(f"small weights {dtype} {classes}", x, tau=0.1)
        x = (10 * normal(2, 60, 8, dtype=torch.float64)).to(dtype)
        yield Case(f"spatial, small weights {dtype}", x, dim=1, tau=0.1)


def without_noise():
    """Temperature 0 in an argmax: for all rows, or for some, that are otherwise NaN."""
    zeros = torch.tensor([0.0, 1, 0, 0, 0.5, 0, NAN, 0, -1])
    for dtype in [*FAST, torch.float64]:
        for classes in [7, 100, 300, 1027, 2000, 9000]:
            rows = 9 if classes < 2000 else 6
            some = with_special_rows(normal(rows, classes, dtype=dtype).round())
            yield Case(f"argmax {dtype} {rows}x{classes}", some, tau=0.0, only="argmax")
            yield Case(f"some argmax {dtype} {rows}x{classes}", some, tau=zeros[:rows, None],
                       only="argmax")  # fmt: skip
        some = with_special_rows(normal(8, 45, dtype=dtype).round()).t().contiguous()
        yield Case(f"argmax, spatial {dtype}", some, dim=0, tau=0.0, only="argmax")
        yield Case(f"some argmax, spatial {dtype}", some, dim=0, tau=zeros[None, :8],
                   only="argmax")  # fmt: skip
        some = with_special_rows(normal(6, 33001, dtype=dtype).round())
        for multiprocessors in [0, 12]:
            yield Case(f"argmax, looped {dtype} {multiprocessors}", some, tau=zeros[:6, None],
                       multiprocessors=multiprocessors, only="argmax")  # fmt: skip
        for multiprocessors in [0, 12] if dtype != torch.float64 else []:
            given = with_special_rows(normal(6, 20_004, dtype=dtype).round())[:, 3:]
            yield Case(f"argmax, looped off boundaries {dtype} {multiprocessors}", given,
                       tau=torch.tensor([0.5, 1, 0, 0, 0.5, 0])[:, None],
                       multiprocessors=multiprocessors, only="argmax")  # fmt: skip
            yield Case(f"argmax, off boundaries, device key {dtype} {multiprocessors}",
                       normal(2, 17_000, dtype=dtype)[:, 1:], key=keys(),
                       multiprocessors=multiprocessors, only="argmax")  # fmt: skip
        yield Case(f"argmax, unaligned {dtype}", normal(7, 207, dtype=dtype)[:, 3:].round(),
                   tau=0.0, only="argmax")  # fmt: skip


GROUPS = [tiles, registers, spatial, looped, clusters, small_weights, without_noise]


def all_cases():
    return [case for group in inputs.GROUPS + GROUPS for case in group()]
