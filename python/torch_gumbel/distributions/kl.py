# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""``torch.distributions.kl_divergence``: of categoricals, with exact zeros; of gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import OneHotCategorical, register_kl

from torch_gumbel.distributions.bernoulli import LogitRelaxedBernoulli, RelaxedBernoulli
from torch_gumbel.distributions.categorical import Categorical
from torch_gumbel.distributions.one_hot import OneHotCategoricalStraightThrough

_ops = torch.ops.torch_gumbel


def _kl_one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    """KL in log space: terms with p = 0 are 0; terms with q = 0 and p > 0 are +inf."""
    absent = p.probs == 0
    log_q = q.logits.masked_fill(_is_zero(q), -math.inf)
    difference = p.logits.masked_fill(absent, 0.0) - log_q.masked_fill(absent, 0.0)
    return (p.probs * difference).sum(-1)


def _kl_categorical(p: TorchCategorical, q: TorchCategorical) -> Tensor:
    """The same over class indices, in one pass over p's logits and the logarithms of q."""
    scores = p._param if isinstance(p, Categorical) else _exact_logits(p)
    log_q = q.logits if isinstance(q, Categorical) else _exact_logits(q)
    scores, log_q = torch.broadcast_tensors(scores, log_q)
    wide = scores.to(torch.promote_types(scores.dtype, log_q.dtype))
    rows: Tensor = _ops._kl_categorical(wide, log_q, wide.dim() - 1, False)[0]
    return rows.squeeze(-1)


def _exact_logits(q: TorchCategorical) -> Tensor:
    return q.logits.masked_fill(_is_zero(q), -math.inf)


def _is_zero(q: OneHotCategorical | TorchCategorical) -> Tensor:
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
register_kl(Categorical, Categorical)(_kl_categorical)
register_kl(Categorical, TorchCategorical)(_kl_categorical)
register_kl(TorchCategorical, Categorical)(_kl_categorical)
