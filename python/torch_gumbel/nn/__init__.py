# SPDX-License-Identifier: Apache-2.0
"""Modules: sampling layers with a train/eval switch, gates, and the quantizer of wav2vec 2.0."""

from torch_gumbel.nn.gates import GumbelSigmoid, HardConcrete
from torch_gumbel.nn.gumbel_softmax import GumbelSoftmax
from torch_gumbel.nn.quantizer import GumbelVectorQuantizer

__all__ = ["GumbelSigmoid", "GumbelSoftmax", "GumbelVectorQuantizer", "HardConcrete"]
