# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's transformers: the quantizers of its speech models.

This module does not import transformers: :func:`replace_quantizers` finds its classes where a model
has loaded them.
"""

from torch_gumbel.integrations._speech import (
    SpeechQuantizer,
    replace_quantizers,
    restore_quantizers,
)

__all__ = ["SpeechQuantizer", "replace_quantizers", "restore_quantizers"]
