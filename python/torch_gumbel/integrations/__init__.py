# SPDX-License-Identifier: Apache-2.0
"""Use in other libraries. Nothing here imports them, nor do they have to be installed."""

from torch_gumbel.integrations import transformers

__all__ = ["transformers"]
