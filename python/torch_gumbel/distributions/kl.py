# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""``torch.distributions.kl_divergence`` of one-hot categoricals, with exact zeros."""

from __future__ import annotations

import math

from torch import Tensor
from torch.distributions import OneHotCategorical, register_kl

from torch_gumbel.distributions.one_hot import OneHotCategoricalStraightThrough


def _kl_one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    """In log space: 0 where p is 0, whatever q is; +inf where q alone is 0."""
    absent = p.probs == 0
    log_q = q.logits.masked_fill(_is_zero(q), -math.inf)
    difference = p.logits.masked_fill(absent, 0.0) - log_q.masked_fill(absent, 0.0)
    return (p.probs * difference).sum(-1)


def _is_zero(q: OneHotCategorical) -> Tensor:
    """Where a class has probability zero, and not only one that underflows.

    torch's distributions take the logarithm of eps where their ``probs`` are zero.
    """
    zero: Tensor = (q.probs == 0) & (q.logits.exp() > 0)
    return zero | (q.logits == -math.inf)


register_kl(OneHotCategoricalStraightThrough, OneHotCategoricalStraightThrough)(_kl_one_hot)
register_kl(OneHotCategoricalStraightThrough, OneHotCategorical)(_kl_one_hot)
register_kl(OneHotCategorical, OneHotCategoricalStraightThrough)(_kl_one_hot)
