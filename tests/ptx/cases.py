# SPDX-License-Identifier: Apache-2.0
"""The grid of problems: shapes, layouts, dtypes, temperatures, keys, shards, special rows."""

import dataclasses

import torch

INF, NAN = float("inf"), float("nan")
KEY = (0x9E3779B97F4A7C15, 3)
# Under the key (5, 0): word number SMALL_WORD is below 256, so that a second word extends it.
SMALL_WORD_KEY = (5, 0)
SMALL_WORDS = [11681449, 32612375, 66929077]


@dataclasses.dataclass
class Case:
    name: str
    logits: torch.Tensor
    dim: int = -1
    tau: float | torch.Tensor = 1.0
    key: tuple | torch.Tensor = KEY
    dtype: torch.dtype | None = None  # of the output, if not the logits'
    full_shape: list | None = None
    start: list | None = None
    grad: torch.Tensor | None = None
    multiprocessors: int = 0  # of a device that gives a workspace; 0: none is given
    only: str = ""  # op, if not all

    def __post_init__(self):
        self.dim %= self.logits.dim()
        generator = torch.Generator().manual_seed(1)
        if self.grad is None:
            self.grad = torch.randn(self.logits.shape, generator=generator).to(self.out_dtype)

    @property
    def out_dtype(self):
        return self.dtype or self.logits.dtype

    @property
    def batch_dims(self):
        return self.key.dim() - 1 if isinstance(self.key, torch.Tensor) else 0


def normal(*shape, dtype=torch.float32, seed=0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (3 * values).to(dtype)


def keys(*shape):
    words = torch.arange(2, 2 + 2 * torch.Size(shape).numel()).reshape(*shape, 2)
    return (words * 0x5851F42D4C957F2D).view(torch.uint64)


def small_weights():
    """Weights below the smallest normal number, whose logarithms a GPU does not take."""
    for dtype in FAST:
        for classes, rows in [(40, 9), (300, 5), (1500, 2), (33000, 1)]:
            x = (10 * normal(rows, classes, dtype=torch.float64)).to(dtype)
            yield Case(f"small weights {dtype} {classes}", x, tau=0.1)
        x = (10 * normal(2, 60, 8, dtype=torch.float64)).to(dtype)
        yield Case(f"columns, small weights {dtype}", x, dim=1, tau=0.1)


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
        yield Case(f"argmax, columns {dtype}", some, dim=0, tau=0.0, only="argmax")
        yield Case(f"some argmax, columns {dtype}", some, dim=0, tau=zeros[None, :8],
                   only="argmax")  # fmt: skip
        some = with_special_rows(normal(6, 33001, dtype=dtype).round())
        for multiprocessors in [0, 12]:
            yield Case(f"argmax, long {dtype} {multiprocessors}", some, tau=zeros[:6, None],
                       multiprocessors=multiprocessors, only="argmax")  # fmt: skip
        yield Case(f"argmax, unaligned {dtype}", normal(7, 207, dtype=dtype)[:, 3:].round(),
                   tau=0.0, only="argmax")  # fmt: skip


def sizes():
    for classes in [1, 2, 3, 5, 31, 32, 33, 127, 255, 256, 257, 1000, 1023, 1024, 1025, 3001]:
        yield Case(f"K={classes}", normal(5 if classes < 300 else 2, classes), tau=0.7)
    yield Case("one row", normal(600))
    yield Case("many rows", normal(9, 3, 2))


def layouts():
    yield Case("dim 0", normal(37, 3), dim=0)
    yield Case("dim 1 of 4", normal(2, 35, 2, 2), dim=1)
    yield Case("transposed", normal(41, 3).t())
    yield Case("every other class", normal(3, 70)[:, ::2])
    yield Case("every other row, offset", normal(7, 45)[1::2, 5:])
    yield Case("permuted", normal(3, 2, 19, 2).permute(3, 0, 2, 1), dim=2)
    yield Case("expanded logits", normal(1, 29).expand(4, 29))
    yield Case("expanded grad", normal(3, 29), grad=torch.tensor(0.5).expand(3, 29))
    yield Case("transposed grad", normal(3, 29), grad=normal(29, 3, seed=2).t())
    yield Case("seven dimensions", normal(2, 1, 2, 3, 1, 2, 2), dim=3)


def dtypes():
    for dtype in [torch.float64, torch.float16, torch.bfloat16]:
        for shape, dim in [((3, 33), -1), ((21, 2), 0), ((2, 1030), -1)]:
            yield Case(f"{dtype} {shape}", normal(*shape, dtype=dtype), dim=dim, tau=0.5)
    for given in [torch.float16, torch.bfloat16, torch.float32, torch.float64]:
        for wanted in [torch.float32, torch.float64, torch.float16]:
            if given != wanted:
                yield Case(f"{given} to {wanted}", normal(2, 45, dtype=given), dtype=wanted)


def temperatures():
    for tau in [0.1, 1e-3, 50.0, 1e-30, 1e-40, 1e30, 1e45, 3e-310]:
        yield Case(f"tau={tau}", normal(2, 40), tau=tau)
        yield Case(f"tau={tau} float64", normal(2, 40, dtype=torch.float64), tau=tau)
    for tau in [0.0, -1.0, NAN, INF]:
        yield Case(f"bad tau={tau}", normal(2, 1), tau=tau)
        yield Case(f"bad tau={tau} float64", normal(2, 40, dtype=torch.float64), tau=tau)
    for dtype in [torch.float32, torch.float64, torch.float16, torch.bfloat16]:
        one = torch.full((1, 1), 0.75, dtype=dtype)
        yield Case(f"{dtype} tau on the device", normal(3, 40), tau=one)
        rows = torch.tensor([0.5, 0, 2, -1, NAN, INF, -INF, 1]).to(dtype)[:, None]
        yield Case(f"{dtype} tau per row, some bad", normal(8, 9), tau=rows)
    middle = torch.tensor([[0.5], [2.0], [1.0]])[:, None]
    yield Case("tau per outer row", normal(3, 4, 9), tau=middle)
    yield Case("tau per inner row", normal(9, 3), dim=0, tau=torch.tensor([[0.5, 0.25, 2]]))


def key_kinds():
    yield Case("key on the device", normal(3, 40), key=keys())
    yield Case("a key per row", normal(4, 37), key=keys(4))
    yield Case("a key per matrix", normal(3, 2, 33), key=keys(3))
    yield Case("a key per matrix, dim 1", normal(3, 21, 2), dim=1, key=keys(3))
    yield Case("two batch dimensions", normal(2, 2, 2, 9), key=keys(2, 2))
    yield Case("expanded keys", normal(3, 33), key=keys().expand(3, 2))
    for offset in [2**64 - 3, 2**32 - 3, 2**63]:
        yield Case(f"offset {offset}", normal(2, 50), key=(2**64 - 1, offset))


def shards():
    last = normal(3, 50)
    yield Case("columns", last, full_shape=[3, 4001], start=[0, 1333])
    yield Case("rows and columns", last, full_shape=[9, 203], start=[5, 2])
    yield Case("far columns", last, full_shape=[5, 2**33], start=[2, 2**33 - 50])
    yield Case("dim 0", normal(21, 3), dim=0, full_shape=[100, 7], start=[50, 3])
    batched = normal(2, 3, 30)
    yield Case("under batched keys", batched, key=keys(2), full_shape=[8, 99], start=[4, 1])
    for at in SMALL_WORDS:
        for dtype in [torch.float32, torch.float64]:
            near = {"key": SMALL_WORD_KEY, "start": [at - 5], "full_shape": [2**27]}
            yield Case(f"word {at} {dtype}", normal(20, dtype=dtype), **near)
            near = {"key": SMALL_WORD_KEY, "start": [at // 2 - 2, 0], "full_shape": [2**27, 2]}
            yield Case(f"word {at} apart {dtype}", normal(9, 2, dtype=dtype), dim=0, **near)


def special_rows():
    for dtype in [torch.float32, torch.float64, torch.float16, torch.bfloat16]:
        for classes in [5, 300]:
            x = normal(9, classes, dtype=dtype)
            x[1, torch.rand(classes, generator=torch.Generator().manual_seed(3)) < 0.5] = -INF
            x[2] = -INF
            x[3, classes // 2] = NAN
            x[4, classes - 1] = INF
            x[5, :-1] = -INF
            x[6] = -INF
            x[6, 2] = NAN
            x[7, 1:4] = INF
            yield Case(f"special rows {dtype} {classes}", x, tau=0.5)
    x = normal(2, 1)
    x[1] = -INF
    yield Case("one class, masked", x)
    lowest = torch.finfo(torch.float32).min
    x = normal(4, 300)
    x[0], x[1, 150:], x[2, ::2] = lowest, -lowest, 1e30
    yield Case("huge logits", x)
    yield Case("huge logits, small tau", x, tau=1e-3)
    x = torch.full((3, 700), 1e9)
    x[1, :100] = 0
    x[2, :655] = -1e9
    yield Case("ties", x)
    yield Case("ties across", x.t().contiguous(), dim=0)
    yield Case("peaked", torch.cat([torch.full((2, 1), 17.0), torch.zeros(2, 5000)], 1))


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


FAST = [torch.float32, torch.float16, torch.bfloat16]


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


def long_rows():
    for dtype in FAST:
        yield Case(f"long {dtype}", normal(1, 33001, dtype=dtype), tau=0.7)
        yield Case(f"long, device key {dtype}", normal(1, 32800, dtype=dtype), key=keys())
        yield Case(f"split {dtype}", normal(2, 16399, dtype=dtype), tau=0.7, multiprocessors=6)
        yield Case(f"split, device keys {dtype}", normal(2, 16400, dtype=dtype), key=keys(2),
                   multiprocessors=6)  # fmt: skip
    some = with_special_rows(normal(6, 16400))
    yield Case("split, special rows", some, tau=0.5, multiprocessors=12)
    some = with_special_rows(normal(6, 32772))
    yield Case("long, special rows", some, tau=0.5)
    yield Case("split, half to float32", normal(1, 16385, dtype=torch.float16),
               dtype=torch.float32, multiprocessors=2)  # fmt: skip
    yield Case("long, half to float32", normal(1, 32785, dtype=torch.bfloat16), dtype=torch.float32)
    x = normal(1, 33000)
    x[0, :32000] = -INF
    yield Case("long, masked at first", x)
    yield Case("long, very low", torch.full((1, 32900), -3e38))
    yield Case("long, ties", torch.full((1, 32900), 1e9))
    yield Case("split, offset", normal(1, 16400), key=(2**64 - 1, 2**32 - 2050), multiprocessors=3)
    at = SMALL_WORDS[1]
    for multiprocessors in [0, 4]:
        near = {"start": [at // 33000 - 1, 0], "full_shape": [2**17, 33000]}
        yield Case(f"long, word {at}, {multiprocessors}", normal(2, 33000), key=SMALL_WORD_KEY,
                   multiprocessors=multiprocessors, **near)  # fmt: skip


def columns():
    for dtype in FAST:
        for shape in [(2, 35, 8, 4), (3, 1, 8), (1, 5, 16), (2, 9, 264)]:
            yield Case(f"columns {dtype} {shape}", normal(*shape, dtype=dtype), dim=1, tau=0.7)
        some = with_special_rows(normal(8, 45, dtype=dtype)).t().contiguous()
        yield Case(f"columns, special rows {dtype}", some, dim=0, tau=0.5)
        per_row = torch.linspace(0.5, 2, 8)[None, None, :]
        yield Case(f"columns, tau per inner row {dtype}", normal(2, 20, 8, dtype=dtype), dim=1,
                   tau=per_row)  # fmt: skip
        yield Case(f"columns, a key per matrix {dtype}", normal(3, 21, 16, dtype=dtype), dim=1,
                   key=keys(3))  # fmt: skip
    yield Case("columns, half to float32", normal(2, 11, 16, dtype=torch.float16), dim=1,
               dtype=torch.float32)  # fmt: skip
    yield Case("columns, permuted", normal(3, 2, 8, 19).permute(0, 3, 1, 2), dim=1)
    yield Case("columns, shard", normal(21, 8), dim=0, full_shape=[100, 24], start=[50, 8])
    yield Case("columns, offset", normal(20, 8), dim=0, key=(2**64 - 1, 2**32 - 3))
    yield Case("columns, tail offset", normal(20, 8), dim=0, key=(2**64 - 1, 2**64 - 3))
    for at in SMALL_WORDS:
        near = {"start": [at // 8 - 2, 0], "full_shape": [2**27, 8]}
        yield Case(f"columns, word {at}", normal(9, 8), dim=0, key=SMALL_WORD_KEY, **near)


GROUPS = [
    sizes,
    layouts,
    dtypes,
    temperatures,
    key_kinds,
    shards,
    special_rows,
    tiles,
    registers,
    columns,
    long_rows,
    small_weights,
    without_noise,
]


def all_cases():
    return [case for group in GROUPS for case in group()]
