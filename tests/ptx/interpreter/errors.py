# SPDX-License-Identifier: Apache-2.0
"""The interpreter's only exception."""


class PtxError(Exception):
    """PTX that the interpreter does not know, or that a GPU would not run as intended."""
