# SPDX-License-Identifier: Apache-2.0
"""Rounding that numpy does not have: fused multiply-add, and bfloat16."""

import numpy as np

from .data_types import Array


def _sum_and_error(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b in float64, and what its rounding lost (Knuth's two-sum)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _round_to_odd(total: Array, error: Array) -> Array:
    """total + error rounded to an odd last bit, so that one more rounding to float32 is right."""
    bits = total.view(np.int64).copy()
    inexact = (error != 0) & ((bits & 1) == 0) & np.isfinite(total)
    away_from_zero = (error > 0) == (total > 0)
    bits += np.where(inexact, np.where(away_from_zero, 1, -1), 0)
    return bits.view(np.float64)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float32 with one rounding: the product is exact in float64."""
    product = a.astype(np.float64) * b.astype(np.float64)
    return _round_to_odd(*_sum_and_error(product, c.astype(np.float64))).astype(np.float32)


def _halves(x: Array) -> tuple[Array, Array]:
    """x as a sum of two numbers of 26 bits (Veltkamp)."""
    scaled = x * 134217729.0
    high = scaled - (scaled - x)
    return high, x - high


def fma64(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float64 by error-free products and sums; only the error is rounded first."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    lost = ((product - a_high * b_high) - a_low * b_high) - a_high * b_low
    total, error = _sum_and_error(product, c)
    fused = total + ((a_low * b_low - lost) + error)
    return np.where(np.isfinite(fused), fused, a * b + c)


def to_bfloat16(x: Array) -> Array:
    """The bits of float32 values rounded to the nearest bfloat16, ties to even."""
    bits = x.view(np.uint32).astype(np.uint64)
    odd = (bits >> np.uint64(16)) & np.uint64(1)
    rounded = ((bits + np.uint64(0x7FFF) + odd) >> np.uint64(16)).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded)


def from_bfloat16(bits: Array) -> Array:
    """float32 of bfloat16's bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
