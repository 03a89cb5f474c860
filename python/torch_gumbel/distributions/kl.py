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
    absent = p.logits == -math.inf
    difference = p.logits.masked_fill(absent, 0.0) - q.logits.masked_fill(absent, 0.0)
    return (p.probs * difference).sum(-1)


register_kl(OneHotCategoricalStraightThrough, OneHotCategoricalStraightThrough)(_kl_one_hot)
register_kl(OneHotCategoricalStraightThrough, OneHotCategorical)(_kl_one_hot)
register_kl(OneHotCategorical, OneHotCategoricalStraightThrough)(_kl_one_hot)
