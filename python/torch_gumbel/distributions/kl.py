# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""``torch.distributions.kl_divergence``: of one-hot categoricals, with exact zeros; of gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical, register_kl

from torch_gumbel.distributions.bernoulli import LogitRelaxedBernoulli, RelaxedBernoulli
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


def _kl_relaxed(p: LogitRelaxedBernoulli, q: LogitRelaxedBernoulli) -> Tensor:
    """d coth(d / 2) - 2 with d the difference of the logits, of equal temperatures."""
    s, t = p._tau(), q._tau()
    if s is not t and not bool((s.to(t.device) == t).all()):
        raise NotImplementedError(
            "kl_divergence: relaxed Bernoulli distributions of different temperatures have no "
            "closed form"
        )
    same = p.logits == q.logits  # infinite ones too
    d = (p.logits - q.logits).masked_fill(same, 0.0).abs()
    small, e = d < 0.1, torch.exp(-d)
    series = d * d * (1 / 6 - d * d * (1 / 360 - d * d / 15120))
    wide = d * (1 + e) / torch.where(small, 1.0, -torch.expm1(-d)) - 2
    return torch.where(small, series, wide)


def _kl_gates(p: RelaxedBernoulli, q: RelaxedBernoulli) -> Tensor:
    return _kl_relaxed(p.base_dist, q.base_dist)


register_kl(OneHotCategoricalStraightThrough, OneHotCategoricalStraightThrough)(_kl_one_hot)
register_kl(OneHotCategoricalStraightThrough, OneHotCategorical)(_kl_one_hot)
register_kl(OneHotCategorical, OneHotCategoricalStraightThrough)(_kl_one_hot)
register_kl(LogitRelaxedBernoulli, LogitRelaxedBernoulli)(_kl_relaxed)
register_kl(RelaxedBernoulli, RelaxedBernoulli)(_kl_gates)
