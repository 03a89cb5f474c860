# SPDX-License-Identifier: Apache-2.0
"""The opcodes by kind; importing this package fills operation.OPCODES."""

from . import arithmetic, bits, comparison, conversion, data_movement, warps

__all__ = ["arithmetic", "bits", "comparison", "conversion", "data_movement", "warps"]
