# SPDX-License-Identifier: Apache-2.0
"""What the kernels should give, and how near they must come."""

import torch

import torch_gumbel  # noqa: F401  (registers the ops)

OPS = torch.ops.torch_gumbel
INF = float("inf")
HALF_ULP = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
SMALLEST_HALF_ULP = {torch.float16: 2.0**-25}


class Reference:
    """What a case should give. Soft values in float64, from p = logits + noise of the op."""

    def __init__(self, case):
        self.case, x = case, case.logits
        self.compute = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.exact = self.compute == torch.float64
        self.key = case.key
        if not isinstance(case.key, torch.Tensor):
            self.key = torch.tensor(case.key, dtype=torch.uint64)
        self.tau = torch.as_tensor(
            case.tau, dtype=None if torch.is_tensor(case.tau) else torch.float64
        )
        self.shard = {"full_shape": case.full_shape, "start": case.start}
        noise = self.noise(self.compute)
        p = x.to(self.compute) + noise
        self.step = self.other_rounding(x.double() + noise, p)
        self.p = p.double().masked_fill(p == INF, float("nan"))
        tau, dim = self.tau.double(), case.dim
        finite = (1 / tau).clamp(max=torch.finfo(torch.float64).max)
        self.inverse = torch.where((tau > 0) & (tau < INF), finite, float("nan"))
        top = self.p.masked_fill(self.p.isnan(), -INF).amax(dim, keepdim=True)
        scaled = (self.p - top) * self.inverse
        self.y = torch.softmax(scaled, dim)
        lse = top * self.inverse + scaled.exp().sum(dim, keepdim=True).log()
        self.lse = torch.where(
            (self.p == -INF).all(dim, keepdim=True), top * self.inverse, lse
        ).squeeze(dim)

    def noise(self, dtype):
        return OPS._gumbel_noise(self.case.logits.to(dtype), self.key, **self.shard)

    @staticmethod
    def other_rounding(exact, rounded):
        """A step of float32 where a score lies so near the middle of two that a fast one, whose
        noise is off by up to 2^-15 before the same rounding, may come to the other; else 0.
        """
        if rounded.dtype == torch.float64:
            return torch.zeros_like(rounded)
        size = rounded.abs()
        step = (torch.nextafter(size, torch.full_like(size, INF)) - size).double()
        to_middle = step / 2 - (exact - rounded.double()).abs()
        near = (to_middle < 2.0**-15) & (size > 16) & (size < INF)
        return torch.where(near, step, 0)

    def rounding(self):
        """What scores that round otherwise change in each sample of their row, relatively."""
        moved = torch.where(self.step > 0, torch.expm1((self.step * self.inverse).clamp(max=50)), 0)
        return moved + (self.y * moved).nan_to_num(0).sum(self.case.dim, keepdim=True)

    def bound(self, y, epsilon, exact, rounding=0):
        """How far a soft sample, or a gradient as large as it, may be from float64."""
        t = self.inverse.clamp(min=1)
        relative = 1e-12 if exact else t * 2.5 * epsilon + rounding
        return (t * y if exact else y) * relative + (0 if exact else 2.5e-30)

    def bound_lse(self):
        """What a sample may be off by, relatively, and the roundings of the sum itself."""
        if self.exact:
            return 1e-13 * (1 + self.lse.abs())
        t = self.inverse.clamp(min=1).broadcast_to(self.y.shape).select(self.case.dim, 0)
        return t * 2.5 * 1.2e-5 + 2e-6 * (1 + self.lse.abs())

    def gradient(self, y, exact, rounding=0):
        """Gradients at logits and per-row tau, each with its bound, from a soft sample."""
        grad, dim = self.case.grad.double(), self.case.dim
        at_logits = y * (grad - (y * grad).sum(dim, keepdim=True)) * self.inverse
        largest = grad.abs().amax(dim, keepdim=True)
        bound = self.bound(y * largest * self.inverse, 1.5e-5, exact, rounding)
        log = torch.where(y > 0, y.log(), 0)
        bound_tau = (bound * (2 + log.abs())).sum(dim) + 1e-6 * (at_logits * log).abs().sum(dim)
        return at_logits, bound, -(at_logits * log).sum(dim), bound_tau


def same_bits(got, wanted, what):
    """Equal in bits, any NaN standing for any other."""
    nan = wanted.isnan()
    assert got.shape == wanted.shape and got.dtype == wanted.dtype, (
        f"{what}: another kind of tensor"
    )
    assert torch.equal(got.isnan(), nan), f"{what}: NaN elsewhere"
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[got.element_size()]
    wrong = (got.contiguous().view(integer) != wanted.contiguous().view(integer)) & ~nan
    assert not wrong.any(), f"{what}: {int(wrong.sum())} of {wrong.numel()} differ"


def close(got, wanted, bound, what):
    """|got - wanted| <= bound, and the rounding of the result on top."""
    half = HALF_ULP.get(got.dtype, torch.finfo(got.dtype).eps / 2)
    tiny = SMALLEST_HALF_ULP.get(got.dtype, 1e-300 if got.dtype == torch.float64 else 1e-40)
    wide = got.double()
    assert torch.equal(wide.isnan(), wanted.isnan()), f"{what}: NaN elsewhere"
    error = (wide - wanted).abs() - (bound + half * wanted.abs() + tiny)
    wrong = ~(error <= 0) & (wide != wanted.to(got.dtype).double()) & ~wanted.isnan()
    assert not wrong.any(), f"{what}: {int(wrong.sum())} off, worst by {error[wrong].max():.3g}"


def philox(key, counter):
    """Philox4x32-10 as published, on Python integers: the four words of a block."""
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    c = [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [b >> 32 ^ c[1] ^ k0, b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def folded(keys, numbers):
    """fold_in of every number into every key: [numbers, keys, 2]."""
    rows = []
    for number in numbers:
        for seed, offset in keys.reshape(-1, 2).tolist():
            w = philox(seed, (offset + number) % 2**64)
            rows.append([w[0] | w[1] << 32, w[2] | w[3] << 32])
    return torch.tensor(rows, dtype=torch.uint64).reshape(len(numbers), -1, 2)
