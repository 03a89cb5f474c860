# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's transformers: draws in ``generate``, and the quantizers of its speech models.

This module does not import transformers: :func:`sampler` has the interface of its logits
processors, and :func:`replace_quantizers` finds its classes where a model has loaded them.
"""

from torch_gumbel.integrations._generation import Sampler, sampler
from torch_gumbel.integrations._speech import (
    SpeechQuantizer,
    replace_quantizers,
    restore_quantizers,
)

__all__ = ["Sampler", "SpeechQuantizer", "replace_quantizers", "restore_quantizers", "sampler"]
