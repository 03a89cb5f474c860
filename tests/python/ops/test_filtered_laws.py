# SPDX-License-Identifier: Apache-2.0
"""The law of sample_logits: frequencies, log-probabilities, entropies."""

import numpy as np
import pytest
import torch
from common import make_key
from filters import Filtered
from test_statistics import one_percent_wrong, rejected

import torch_gumbel as tg
from torch_gumbel import sample_logits

KEY = make_key(5)
ALL = {"return_log_prob": True, "return_entropy": True}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"top_k": 50}, {"top_p": 0.99}], ids=str)
@pytest.mark.parametrize("scale", [0.03, 3.0, 30.0])
def test_log_probabilities_and_entropies_are_those_of_float64(dtype, filters, scale):
    x = (torch.randn(2, 151_936) * scale).to(dtype)
    for temperature in (1.0, 0.7):
        index, log_prob, entropy = sample_logits(
            x, temperature=temperature, **filters, **ALL, key=KEY
        )
        for i in range(2):
            reference = Filtered(x[i].double().numpy(), temperature, **filters)
            if reference.slack:
                continue
            law = reference.law()
            wanted = np.log(law[index[i]])
            positive = law[law > 0]
            wanted_entropy = -(positive * np.log(positive)).sum()
            assert abs(log_prob[i].item() - wanted) <= 2e-6 * abs(wanted) + 1e-12
            assert abs(entropy[i].item() - wanted_entropy) <= 2e-6 * wanted_entropy + 1e-12
    assert (log_prob <= 0).all() and (entropy >= 0).all()


LAW = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])


def frequencies(draws, **filters):
    """Of six classes."""
    counts = torch.zeros(6, dtype=torch.int64)
    for i in range(10):
        index = sample_logits(LAW.log(), **filters, num_samples=draws // 10, key=tg.fold_in(KEY, i))
        counts += index.bincount(minlength=6)
    return counts.double().numpy()


@pytest.mark.parametrize("filters", [{"top_k": 3}, {"top_p": 0.75}, {"min_p": 0.3}], ids=str)
@pytest.mark.parametrize("draws", [200_000, pytest.param(10_000_000, marks=pytest.mark.statistics)])
def test_the_law_is_that_of_the_reference(filters, draws):
    law = np.array([0.5, 0.3125, 0.1875, 0, 0, 0])
    counts = frequencies(draws, **filters)
    assert counts[3:].sum() == 0
    assert not rejected(counts[:3], law[:3])
    assert rejected(counts[:3], one_percent_wrong(law[:3])) or draws < 1_000_000
