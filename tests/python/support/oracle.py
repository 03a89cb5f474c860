# SPDX-License-Identifier: Apache-2.0
"""A slow float64 oracle of the op, from its definition; it shares no code with the library.

Words: Philox4x32-10 (Salmon et al., 2011), key = seed, counter (offset + e // 4, plane, 0), word
e % 4. Noise: v = (w + 1/2) 2^-32, extended by a second word below w = 256 (always, if wide);
g = -log(-log1p(-v)), from 1 - v where v > 1/2.
"""

from __future__ import annotations

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
EXTEND_BELOW = 256


def philox(counter: np.ndarray, seed: int) -> np.ndarray:
    """[n, 4] counters of 32-bit words (in uint64) -> [n, 4] words."""
    c = [counter[:, i].astype(np.uint64) for i in range(4)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = c[0] * _MULTIPLIERS[0], c[2] * _MULTIPLIERS[1]
        c = [
            (b >> _HALF) ^ c[1] ^ np.uint64(k0),
            b & _LOW,
            (a >> _HALF) ^ c[3] ^ np.uint64(k1),
            a & _LOW,
        ]
        k0, k1 = (k0 + _WEYL[0]) % 2**32, (k1 + _WEYL[1]) % 2**32
    return np.stack(c, axis=1)


def words(key: tuple[int, int], positions: np.ndarray, plane: int = 0) -> np.ndarray:
    """The 32-bit words (in uint64) at row-major positions."""
    seed, offset = key
    positions = np.asarray(positions, dtype=np.uint64)
    flat = positions.reshape(-1)
    with np.errstate(over="ignore"):
        blocks = np.uint64(offset) + flat // np.uint64(4)  # modulo 2^64
    zero = np.zeros_like(blocks)
    counter = np.stack([blocks & _LOW, blocks >> _HALF, zero + np.uint64(plane), zero], axis=1)
    lane = (flat % np.uint64(4)).astype(np.int64)
    return philox(counter, seed)[np.arange(flat.size), lane].reshape(positions.shape)


def _both_ends(whole: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """v and 1 - v of words split in halves: (n + 1/2) 2^-bits, each without cancellation."""
    high, low = whole[..., 0], whole[..., 1]
    top = 2.0 ** (bits - 32)

    def part(h, m):
        return (h.astype(np.float64) * top + m.astype(np.float64) + 0.5) * 2.0**-bits

    return part(high, low), part(_LOW - high, (_LOW - low) if bits == 64 else low)


def noise_of_words(first: np.ndarray, second: np.ndarray, wide: bool) -> np.ndarray:
    zero = np.zeros_like(first)
    short = _both_ends(np.stack([first, zero], axis=-1), 32)
    long = _both_ends(np.stack([first, second], axis=-1), 64)
    extended = (first < EXTEND_BELOW) | wide
    v, rest = (np.where(extended, el, es) for el, es in zip(long, short, strict=True))
    with np.errstate(divide="ignore"):
        exponential = np.where(v < 0.5, -np.log1p(-np.minimum(v, 0.5)), -np.log(rest))
    return -np.log(exponential)


def logistic(key: tuple[int, int], shape: tuple[int, ...], wide: bool = False) -> np.ndarray:
    """The noise of gates, log v - log(1 - v): words of both ends are extended."""
    positions = np.arange(int(np.prod(shape)), dtype=np.uint64).reshape(shape)
    first, second = words(key, positions), words(key, positions, plane=1)
    short = _both_ends(np.stack([first, np.zeros_like(first)], axis=-1), 32)
    long = _both_ends(np.stack([first, second], axis=-1), 64)
    extended = (first < EXTEND_BELOW) | (first >= 2**32 - EXTEND_BELOW) | wide
    v, rest = (np.where(extended, el, es) for el, es in zip(long, short, strict=True))
    return np.log(v) - np.log(rest)


def noise_at(key: tuple[int, int], positions: np.ndarray, wide: bool = False) -> np.ndarray:
    return noise_of_words(words(key, positions), words(key, positions, plane=1), wide)


def noise(key: tuple[int, int], shape: tuple[int, ...], wide: bool = False) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64))
    return noise_at(key, np.arange(size, dtype=np.uint64).reshape(shape), wide)


def fold_in(key: tuple[int, int], data: int) -> tuple[int, int]:
    w = [int(x) for x in words((key[0], (key[1] + data) % 2**64), np.arange(4))]
    return w[0] | w[1] << 32, w[2] | w[3] << 32


class Sample:
    """A soft sample and its derivatives; every argument in float64.

    Computed relative to the largest class, so that a row with y = 1 - 1e-30 keeps its digits:
    log y of the largest class is -log1p(sum of the others), and sum_k dlogits_k = 0.
    """

    def __init__(
        self, logits: np.ndarray, noise: np.ndarray, tau: np.ndarray | float, dim: int = -1
    ):
        self.tau, self.dim = tau, dim
        self.scores = logits + noise
        self.best = np.expand_dims(self.scores.argmax(axis=dim), dim)
        self.scaled = self._above_best(self.scores) / tau
        others = np.exp(self.scaled)
        np.put_along_axis(others, self.best, 0.0, axis=dim)
        self.log_y = self.scaled - np.log1p(others.sum(axis=dim, keepdims=True))
        self.y = np.exp(self.log_y)

    def _above_best(self, values: np.ndarray) -> np.ndarray:
        return values - np.take_along_axis(values, self.best, axis=self.dim)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        return values.sum(axis=self.dim, keepdims=True)

    def index(self) -> np.ndarray:
        return self.best.squeeze(self.dim)

    def grad_logits(self, grad: np.ndarray) -> np.ndarray:
        """y (grad - sum y grad) / tau, also the straight-through gradient of the hard sample."""
        above = self._above_best(grad)
        return self.y * (above - self._sum(self.y * above)) / self.tau

    def grad_tau(self, grad: np.ndarray) -> np.ndarray:
        """Per row, size 1 at dim: -sum_k dlogits_k scores_k / tau."""
        return -self._sum(self.grad_logits(grad) * self.scaled)

    def entropy(self) -> np.ndarray:
        """sum y |log y| per row."""
        return self._sum(self.y * -self.log_y)
