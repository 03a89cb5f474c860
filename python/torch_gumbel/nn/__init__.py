# SPDX-License-Identifier: Apache-2.0
"""Modules: sampling layers with a train/eval switch, gates, a selector of features, and
the quantizer of wav2vec 2.0."""

from torch_gumbel.nn.gates import GumbelSigmoid, HardConcrete
from torch_gumbel.nn.gumbel_softmax import GumbelSoftmax
from torch_gumbel.nn.quantizer import GumbelVectorQuantizer
from torch_gumbel.nn.selector import GumbelSelector

__all__ = [
    "GumbelSelector",
    "GumbelSigmoid",
    "GumbelSoftmax",
    "GumbelVectorQuantizer",
    "HardConcrete",
]
