# SPDX-License-Identifier: Apache-2.0
"""Modules: a sampling layer with a train/eval switch, and the quantizer of wav2vec 2.0."""

from torch_gumbel.nn.gumbel_softmax import GumbelSoftmax
from torch_gumbel.nn.quantizer import GumbelVectorQuantizer

__all__ = ["GumbelSoftmax", "GumbelVectorQuantizer"]
