# SPDX-License-Identifier: Apache-2.0
"""Filters of logits by a float64 sort, from their definition."""

from __future__ import annotations

import numpy as np


class Filtered:
    """One row: classes in the order (value falling, class rising), and how many are kept."""

    def __init__(self, x, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
        self.x = np.asarray(x, dtype=np.float64)
        self.order = np.lexsort((np.arange(len(x)), -self.x))
        ordered = self.x[self.order]
        self.kept = int((ordered > -np.inf).sum())
        self.slack = 0
        if temperature == 0:
            self.kept = 1
            return
        if top_k > 0:
            self.kept = min(self.kept, top_k)
        weights = np.exp((ordered - ordered[0]) / temperature)
        if top_p < 1:
            mass = np.cumsum(weights[: self.kept])
            share = mass / mass[-1]
            self.kept = min(int((share < top_p).sum()) + 1, self.kept)
            # Where the mass is within 1e-6 of p, rounding may decide for a neighbour.
            self.slack = int((np.abs(share - top_p) < 1e-6).any())
        if min_p > 0:
            self.kept = min(self.kept, max(int((weights >= min_p).sum()), 1))
            self.slack |= int((np.abs(weights - min_p) < 1e-6 * min_p).any())
        self.weights = np.zeros(len(x))
        self.weights[self.order] = weights

    def mask(self, kept=None):
        mask = np.zeros(len(self.x), dtype=bool)
        mask[self.order[: self.kept if kept is None else kept]] = True
        return mask

    def agrees(self, mask):
        """Whether a set of classes is this one, or one class apart where that is allowed."""
        sizes = range(self.kept - self.slack, self.kept + self.slack + 1)
        return any((self.mask(n) == mask).all() for n in sizes if n > 0)

    def law(self):
        p = np.where(self.mask(), self.weights, 0)
        return p / p.sum()
