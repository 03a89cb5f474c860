# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""``torch.distributions.kl_divergence`` of one-hot categoricals, with exact zeros."""

from __future__ import annotations

import math

from torch import Tensor
from torch.distributions import OneHotCategorical, register_kl

from torch_gumbel.distributions.one_hot import OneHotCategoricalStraightThrough


def _kl_one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    """KL in log space: terms with p = 0 are 0; terms with q = 0 and p > 0 are +inf."""
    absent = p.probs == 0
    log_q = q.logits.masked_fill(_is_zero(q), -math.inf)
    difference = p.logits.masked_fill(absent, 0.0) - log_q.masked_fill(absent, 0.0)
    return (p.probs * difference).sum(-1)


def _is_zero(q: OneHotCategorical) -> Tensor:
    """Mask of the classes with probability exactly zero, without those that underflow.

    torch's distributions have the logit log(eps) at ``probs`` of zero.
    """
    zero: Tensor = (q.probs == 0) & (q.logits.exp() > 0)
    return zero | (q.logits == -math.inf)


register_kl(OneHotCategoricalStraightThrough, OneHotCategoricalStraightThrough)(_kl_one_hot)
register_kl(OneHotCategoricalStraightThrough, OneHotCategorical)(_kl_one_hot)
register_kl(OneHotCategorical, OneHotCategoricalStraightThrough)(_kl_one_hot)
