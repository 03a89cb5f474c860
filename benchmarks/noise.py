# SPDX-License-Identifier: Apache-2.0
"""The largest noise of each library, measured through its own sampler.

Samples of one row of zeros at tau 1 are exp(g) over a sum, so g - median(g) is the logarithm of
y over its median, and the median of a standard Gumbel is known. The largest of N exact draws is
about log N + 0.58; a library whose uniform has few bits stops below that, at one value which many
rows then share.
"""

from __future__ import annotations

import math

import torch
from baselines import as_torch
from cases import LABELS, SAMPLERS, SOFT, Task
from implementations import Inputs, call_of

LIBRARIES = SAMPLERS
ROW = 2**22
MEDIAN = -math.log(math.log(2))
EULER = 0.5772
SAME = 0.01  # ten times the error of a row's median


def measure(who: str, draws: int) -> dict[str, object]:
    label = LABELS[who]
    record: dict[str, object] = {"noise": label, "draws": draws, "exact": expected_largest(draws)}
    task = Task(SOFT, (1, ROW), tau=1.0)
    zeros = torch.zeros(task.shape)
    try:
        call = call_of(who, task, Inputs([zeros], [zeros]))
        largest = [largest_of_row(as_torch(call())) for _ in range(draws // ROW)]
    except Exception as error:
        lines = str(error).splitlines()
        return {**record, "absent": lines[0][:200] if lines else type(error).__name__}
    finite = [g for g in largest if math.isfinite(g)]
    top = max(finite, default=math.nan)
    at_top = sum(g > top - SAME for g in finite)
    infinite = len(largest) - len(finite)
    return {**record, "largest": round(top, 2), "at_top": at_top, "infinite": infinite}


def expected_largest(draws: int) -> float:
    return round(math.log(draws) + EULER, 2)


def largest_of_row(y: torch.Tensor) -> float:
    """The largest noise of a row; NaN if it has infinite noise."""
    flat = y.flatten()
    return math.log(float(flat.max()) / float(flat.median())) + MEDIAN
