# SPDX-License-Identifier: Apache-2.0
"""Inputs for every kernel: shapes, layouts, dtypes, temperatures, keys, shards, special rows."""

import dataclasses

import torch

INF, NAN = float("inf"), float("nan")
KEY = (0x9E3779B97F4A7C15, 3)
# Under the key (5, 0): word number SMALL_WORD is below 256, so that a second word extends it.
SMALL_WORD_KEY = (5, 0)
SMALL_WORDS = [11681449, 32612375, 66929077]


@dataclasses.dataclass(eq=False)
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
    clusters: bool = False  # whether that device has them
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
    yield Case("key on the device, float64", normal(2, 30, dtype=torch.float64), key=keys())
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
    for dtype in [
        torch.float32,
        torch.float64,
        torch.bfloat16,
    ]:  # rows too short for runs, and runs
        for classes, first in [(50, 1333), (1030, 1), (1030, 4)]:
            yield Case(f"noise of columns {dtype} {classes} from {first}",
                       normal(2, classes, dtype=dtype), full_shape=[2, 4001], start=[0, first],
                       only="noise")  # fmt: skip
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


GROUPS = [sizes, layouts, dtypes, temperatures, key_kinds, shards, special_rows]
