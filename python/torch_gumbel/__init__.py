# SPDX-License-Identifier: Apache-2.0
"""Differentiable sampling from categorical distributions in one fused pass.

>>> import torch, torch_gumbel
>>> logits = torch.zeros(4, 10, requires_grad=True)
>>> torch_gumbel.gumbel_softmax(logits, tau=0.5, hard=True).shape
torch.Size([4, 10])
"""

import importlib as _importlib

from torch_gumbel import distributions, nn, schedules
from torch_gumbel._library import _C, __version__, cmake_prefix_path
from torch_gumbel._patch import patch
from torch_gumbel.conditional import gumbel_posterior, gumbel_topk_log_prob
from torch_gumbel.draws import filter_logits, sample_logits
from torch_gumbel.estimators import sample_one_hot
from torch_gumbel.functional import gumbel_argmax, gumbel_softmax
from torch_gumbel.gates import gumbel_sigmoid, hard_concrete, hard_concrete_penalty
from torch_gumbel.information import categorical_elbo, kl_categorical, perplexity
from torch_gumbel.keys import fold_in, key, new_key, split
from torch_gumbel.log_prob import log_prob_entropy
from torch_gumbel.lookup import straight_through_lookup
from torch_gumbel.noise import gumbel_at, gumbel_like, sample_gumbel
from torch_gumbel.probabilities import sample_categorical
from torch_gumbel.subset import gumbel_subset
from torch_gumbel.topk import gumbel_topk


def build_info() -> dict[str, str]:
    """The build configuration, and the instruction sets of this machine.

    Returns:
        ``version``, ``torch`` (built for), ``cuda`` and ``cuda_architectures`` (empty for a CPU
        build), ``cpu_builds`` (instruction sets that this machine supports) and ``cpu_selected``.
        The environment variable ``TORCH_GUMBEL_CPU`` selects an instruction set by name.
    """
    return _C.build_info()


def __getattr__(name: str) -> object:
    """Imports the submodules that are loaded on first use."""
    if name in ("distributed", "integrations", "plots"):
        return _importlib.import_module(f"torch_gumbel.{name}")
    raise AttributeError(f"module 'torch_gumbel' has no attribute {name!r}")


__all__ = [
    "__version__",
    "build_info",
    "categorical_elbo",
    "cmake_prefix_path",
    "distributions",
    "filter_logits",
    "fold_in",
    "gumbel_argmax",
    "gumbel_at",
    "gumbel_like",
    "gumbel_posterior",
    "gumbel_sigmoid",
    "gumbel_softmax",
    "gumbel_subset",
    "gumbel_topk",
    "gumbel_topk_log_prob",
    "hard_concrete",
    "hard_concrete_penalty",
    "key",
    "kl_categorical",
    "log_prob_entropy",
    "new_key",
    "nn",
    "patch",
    "perplexity",
    "sample_categorical",
    "sample_gumbel",
    "sample_logits",
    "sample_one_hot",
    "schedules",
    "split",
    "straight_through_lookup",
]
