# SPDX-License-Identifier: Apache-2.0
"""Calls of gates in their forms, and the scores that decide them."""

import oracle
import pytest
import torch
from common import DTYPES, make_key

from torch_gumbel import gumbel_sigmoid, hard_concrete

KEY = make_key(5, 7)
FORMS = {
    "soft": lambda x, tau, **o: gumbel_sigmoid(x, tau, **o),
    "hard": lambda x, tau, **o: gumbel_sigmoid(x, tau, True, 0.3, **o),
    "recompute": lambda x, tau, **o: gumbel_sigmoid(x, tau, True, recompute=True, **o),
    "concrete": lambda x, tau, **o: hard_concrete(x, tau, **o),
    "concrete to 1": lambda x, tau, **o: hard_concrete(x, tau, -0.2, 1.0, **o),
}
forms = pytest.mark.parametrize("form", FORMS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def some(*shape, dtype=torch.float32, scale=3.0):
    made = torch.Generator().manual_seed(1)
    return (scale * torch.randn(shape, generator=made, dtype=torch.float64)).to(dtype)


def scores_of(x, key=(5, 7)):
    """logits + noise in float64."""
    noise = oracle.logistic(key, tuple(x.shape), wide=x.dtype == torch.float64)
    return x.double() + torch.from_numpy(noise)
