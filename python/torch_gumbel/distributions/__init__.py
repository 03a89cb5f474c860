# SPDX-License-Identifier: Apache-2.0
"""Distributions in the style of, and subclasses of, those of :mod:`torch.distributions`.

They are drawn by the fused kernels, take ``generator=`` or ``key=`` on every draw, keep
probabilities of zero at exactly zero, and score relaxed samples in log space.
"""

from torch_gumbel.distributions import kl  # noqa: F401  (registers the divergences)
from torch_gumbel.distributions.bernoulli import LogitRelaxedBernoulli, RelaxedBernoulli
from torch_gumbel.distributions.categorical import Categorical
from torch_gumbel.distributions.gumbel import Gumbel
from torch_gumbel.distributions.one_hot import OneHotCategoricalStraightThrough
from torch_gumbel.distributions.relaxed import ExpRelaxedCategorical, RelaxedOneHotCategorical

__all__ = [
    "Categorical",
    "ExpRelaxedCategorical",
    "Gumbel",
    "LogitRelaxedBernoulli",
    "OneHotCategoricalStraightThrough",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
]
